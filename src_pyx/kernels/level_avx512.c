/* 512-bit vectors: 32 registers, so 14 x 2 sums, 2 filters, 1 broadcast. */
#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))),    \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")
#endif
#define LEVEL avx512
#define VECTOR_BYTES 64
#define REGISTERS 32
#include "level.inc.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
