/* What one core of this machine can do at most, for limits.py: multiply-adds, and passes over memory.
 *
 *     cc -O3 -march=native -shared -fPIC benchmarks/limits.c -o limits.so
 */
#include <stddef.h>
#include <string.h>

#if defined(__AVX512F__)
enum { BYTES = 64, SUMS = 24 };
#elif defined(__AVX__)
enum { BYTES = 32, SUMS = 12 };
#else
enum { BYTES = 16, SUMS = 12 };
#endif

#if defined(__x86_64__)
#define IN_REGISTER(v) __asm__ volatile("" : "+v"(v))
#elif defined(__aarch64__)
#define IN_REGISTER(v) __asm__ volatile("" : "+w"(v))
#else
#define IN_REGISTER(v) __asm__ volatile("" : "+m"(v))
#endif

/* Independent sums that never leave their registers; returns how many operations were made. */
#define MULTIPLY_ADDS(T)                                                                           \
    double multiply_adds_##T(long rounds)                                                          \
    {                                                                                              \
        typedef T vector __attribute__((vector_size(BYTES)));                                      \
        vector sum[SUMS], a = {0}, b = {0};                                                        \
        _Pragma("GCC unroll 32") for (int i = 0; i < SUMS; i++) sum[i] = (vector){0};              \
        IN_REGISTER(a);                                                                            \
        IN_REGISTER(b);                                                                            \
        for (long r = 0; r < rounds; r++)                                                          \
            _Pragma("GCC unroll 32") for (int i = 0; i < SUMS; i++)                                \
            {                                                                                      \
                sum[i] += a * b;                                                                   \
                IN_REGISTER(sum[i]);                                                               \
            }                                                                                      \
        return 2.0 * (double)rounds * SUMS * (BYTES / sizeof(T));                                  \
    }
MULTIPLY_ADDS(float)
MULTIPLY_ADDS(double)

/* Reads n_read bytes and writes n_written, a share of both at a time; multiples of 64. */
static void pass(const char *from, size_t n_read, char *to, size_t n_written)
{
    typedef float vector __attribute__((vector_size(BYTES)));
    enum { SHARES = 64 };
    vector sum[8];
    memset(sum, 0, sizeof sum);
    for (size_t share = 0; share < SHARES; share++) {
        const size_t begin = n_read / 64 * share / SHARES * 64;
        const size_t end = n_read / 64 * (share + 1) / SHARES * 64;
        size_t i = begin;
        for (; i + 8 * BYTES <= end; i += 8 * BYTES)
            _Pragma("GCC unroll 8") for (int v = 0; v < 8; v++)
                sum[v] += *(const vector *)(from + i + v * BYTES);
        for (; i < end; i += BYTES)
            sum[0] += *(const vector *)(from + i);
        _Pragma("GCC unroll 8") for (int v = 0; v < 8; v++) IN_REGISTER(sum[v]);
        const size_t out_end = n_written / 64 * (share + 1) / SHARES * 64;
        for (size_t o = n_written / 64 * share / SHARES * 64; o < out_end; o += BYTES)
            *(vector *)(to + o) = sum[0];
    }
}

void passes(long times, const char *from, size_t n_read, char *to, size_t n_written)
{
    for (long i = 0; i < times; i++)
        pass(from, n_read, to, n_written);
}
