/* The instruction sets of this build and whether this machine, and its system, can run them. */
#include "kernels.h"

extern const pycnn_kernels pycnn_kernels_generic[];

static int always(void)
{
    return 1;
}

#if defined(__x86_64__)

#include <cpuid.h>

extern const pycnn_kernels pycnn_kernels_avx2[];
extern const pycnn_kernels pycnn_kernels_avx512[];

enum {
    /* of XCR0: the registers that the system keeps for each thread */
    YMM_STATE = 3 << 1,
    ZMM_STATE = YMM_STATE | 7 << 5,
    TILE_STATE = 3 << 17,
    /* of CPUID */
    AVX = bit_AVX | bit_FMA,
    AVX512 = bit_AVX2 | bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL,
    AMX = 1 << 24 | 1 << 22,  /* AMX-TILE and AMX-BF16 */
};

/* Whether CPUID and XCR0 have all of these bits.  __builtin_cpu_supports would ask the compiler's
 * runtime library, and some of those always say no. */
static int has(unsigned leaf_1_ecx, unsigned leaf_7_ebx, unsigned leaf_7_edx, unsigned xcr0)
{
    unsigned a, b, c, d, kept, upper;
    leaf_1_ecx |= bit_OSXSAVE;  /* without which XGETBV is an invalid instruction */
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & leaf_1_ecx) != leaf_1_ecx)
        return 0;
    __asm__("xgetbv" : "=a"(kept), "=d"(upper) : "c"(0));
    return (kept & xcr0) == xcr0 && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
           (b & leaf_7_ebx) == leaf_7_ebx && (d & leaf_7_edx) == leaf_7_edx;
}

static int has_avx2(void)
{
    return has(AVX, bit_AVX2, 0, YMM_STATE);
}

/* macOS says no: it sets these bits of XCR0 only when a thread first uses the registers, and how to
 * ask whether it would is not documented. */
static int has_avx512(void)
{
    return has(AVX, AVX512, 0, ZMM_STATE);
}

#if defined(__linux__) && !defined(PYCNN_SOFTWARE_AMX)
static int has_amx(void)
{
    return has(AVX, AVX512, AMX, ZMM_STATE | TILE_STATE) && pycnn_amx_permitted();
}
#endif

const pycnn_level pycnn_levels[] = {
    {"generic", always, always, pycnn_kernels_generic, NULL},
    {"avx2", has_avx2, always, pycnn_kernels_avx2, NULL},
    {"avx512", has_avx512, always, pycnn_kernels_avx512, NULL},
#if defined(PYCNN_SOFTWARE_AMX)  /* a test build, and the vectors that it has besides */
    {"amx", always, always, PYCNN_SOFTWARE_AMX, &pycnn_amx},
#elif defined(__linux__)
    {"amx", has_amx, pycnn_amx_enable, pycnn_kernels_avx512, &pycnn_amx},
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
