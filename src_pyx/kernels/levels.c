/* The instruction sets of this build and whether this machine, and its system, can run them. */
#include "kernels.h"

extern const pycnn_kernels pycnn_kernels_generic[];

static int always(void)
{
    return 1;
}

#if defined(__x86_64__) && defined(__GNUC__)

extern const pycnn_kernels pycnn_kernels_avx2[];
extern const pycnn_kernels pycnn_kernels_avx512[];

/* __builtin_cpu_supports reads CPUID and XGETBV: it answers for the system as well as the CPU. */
static int has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

const pycnn_level pycnn_levels[] = {
    {"generic", always, always, pycnn_kernels_generic, NULL},
    {"avx2", has_avx2, always, pycnn_kernels_avx2, NULL},
    {"avx512", has_avx512, always, pycnn_kernels_avx512, NULL},
#if defined(PYCNN_SOFTWARE_AMX)  /* a test build, and the vectors that it has besides */
    {"amx", always, always, PYCNN_SOFTWARE_AMX, &pycnn_amx},
#elif defined(__linux__)
    {"amx", pycnn_amx_available, pycnn_amx_enable, pycnn_kernels_avx512, &pycnn_amx},
#endif
};

#else

const pycnn_level pycnn_levels[] = {
#if defined(__aarch64__)
    {"neon", always, always, pycnn_kernels_generic, NULL},
#else
    {"generic", always, always, pycnn_kernels_generic, NULL},
#endif
};

#endif

const int pycnn_level_count = sizeof pycnn_levels / sizeof *pycnn_levels;
