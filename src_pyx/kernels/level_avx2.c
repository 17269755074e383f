/* 256-bit vectors with fused multiply-add: 16 registers, so 6 x 2 sums, 2 filters, 1 broadcast. */
#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define LEVEL avx2
#define VECTOR_BYTES 32
#define REGISTERS 16
#include "level.inc.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
