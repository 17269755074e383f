/* The vectors of one element type and instruction set, and what moves their lanes.
 *
 * The including file defines T, VECTOR_BYTES and NAME(x).
 */

typedef T NAME(vector) __attribute__((vector_size(VECTOR_BYTES)));
typedef T NAME(unaligned) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));
typedef __typeof__((NAME(vector)){0} > (NAME(vector)){0}) NAME(mask);

#define VECTOR NAME(vector)
#define LANES ((ptrdiff_t)(VECTOR_BYTES / sizeof(T)))
#define LOAD(p) (*(const NAME(unaligned) *)(p))
#define STORE(p, v) (*(NAME(unaligned) *)(p) = (v))
#define UNROLL _Pragma("GCC unroll 32")

#ifndef SHUFFLE
/* Whether x86-64's own instructions take these vectors; a test of another level's tiles says no. */
#if !defined(X86_VECTORS)
#if defined(__x86_64__)
#define X86_VECTORS 1
#else
#define X86_VECTORS 0
#endif
#endif

/* Keeps a loaded vector in a register: GCC else loads it anew for every product it is in. */
#if X86_VECTORS
#define IN_REGISTER(v) __asm__("" : "+v"(v))
#elif defined(__aarch64__)
#define IN_REGISTER(v) __asm__("" : "+w"(v))
#else
#define IN_REGISTER(v) (void)(v)
#endif

/* Lane i of the result is element index[i] of a and b laid end to end; index is a constant. */
#if defined(__clang__)
/* Clang's own shuffle takes literals alone, but it finds the shuffle in this. */
#define SHUFFLE(a, b, index)                                                                       \
    __extension__({                                                                                \
        VECTOR shuffled_;                                                                          \
        UNROLL for (int i_ = 0; i_ < (int)LANES; i_++) {                                           \
            const int at_ = (int)(index)[i_];                                                      \
            shuffled_[i_] = at_ < LANES ? (a)[at_] : (b)[at_ - LANES];                             \
        }                                                                                          \
        shuffled_;                                                                                 \
    })
#else
#define SHUFFLE(a, b, index) __builtin_shuffle(a, b, index)
#endif

/* a > b ? a : b, one instruction on x86-64, which compilers do not find in the vector form.  Clang's
 * immintrin.h has it on Windows only where a flag lets the whole file use it. */
#if X86_VECTORS
#if VECTOR_BYTES == 64 && defined(__clang__)
#define MAXPS(a, b) __builtin_ia32_maxps512(a, b, 4)    /* 4: rounding as the thread has it */
#define MAXPD(a, b) __builtin_ia32_maxpd512(a, b, 4)
#elif VECTOR_BYTES == 64
#include <immintrin.h>
#define MAXPS(a, b) _mm512_max_ps(a, b)
#define MAXPD(a, b) _mm512_max_pd(a, b)
#elif VECTOR_BYTES == 32
#define MAXPS(a, b) __builtin_ia32_maxps256(a, b)
#define MAXPD(a, b) __builtin_ia32_maxpd256(a, b)
#else
#define MAXPS(a, b) __builtin_ia32_maxps(a, b)
#define MAXPD(a, b) __builtin_ia32_maxpd(a, b)
#endif
typedef float floats __attribute__((vector_size(VECTOR_BYTES)));
typedef double doubles __attribute__((vector_size(VECTOR_BYTES)));
#define MAXIMUM(a, b)                                                                              \
    (sizeof(T) == 4 ? (VECTOR)MAXPS((floats)(a), (floats)(b))                                      \
                    : (VECTOR)MAXPD((doubles)(a), (doubles)(b)))
#else
#define MAXIMUM(a, b)                                                                              \
    (VECTOR)(((NAME(mask))(a) & ((a) > (b))) | ((NAME(mask))(b) & ~((a) > (b))))
#endif
#endif

/* What is positive, and NaN, stays; the rest is multiplied by the slope, without `leaky` by 0. */
static inline __attribute__((always_inline)) T
NAME(rectify_one)(T x, const int leaky, T slope)
{
    return x <= 0 ? (T)(leaky ? x * slope : 0) : x;
}

static inline __attribute__((always_inline)) VECTOR
NAME(rectify)(VECTOR x, const int leaky, T slope)
{
#if IS_FLOAT
    const NAME(mask) keep = (x > 0) | (x != x);
    if (leaky)
        return (VECTOR)(((NAME(mask))x & keep) | ((NAME(mask))(x * slope) & ~keep));
    return MAXIMUM((VECTOR){0}, x) + 0;     /* -0 becomes 0 */
#else
    (void)leaky;
    (void)slope;
    return (VECTOR)((NAME(mask))x & (x > 0));
#endif
}
