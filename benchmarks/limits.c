/* What one core of this machine can do at most, for limits.py: multiply-adds, products of tiles on its
 * matrix unit (Intel AMX), and passes over memory.
 *
 *     cc -O3 -march=native -shared -fPIC benchmarks/limits.c -o limits.so
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AMX_BF16__) && defined(__linux__)
#define MATRIX_UNIT 1
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__AVX512F__)
enum { BYTES = 64, SUMS = 24, FACTORS = 4 };
#elif defined(__AVX__)
enum { BYTES = 32, SUMS = 12, FACTORS = 2 };
#else
enum { BYTES = 16, SUMS = 12, FACTORS = 2 };
#endif

/* Numbers are random: zeros, or the same again and again, take less power, and so less time. */
static double next_random(void)  /* 0.5 to 1 */
{
    static uint32_t state = 1;
    state = state * 1664525 + 1013904223;
    return 0.5 + (state >> 8) * 0x1p-25;
}

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
        vector sum[SUMS], a[FACTORS], b[FACTORS];                                                  \
        _Pragma("GCC unroll 32") for (int i = 0; i < SUMS; i++) sum[i] = (vector){0};              \
        _Pragma("GCC unroll 4") for (int i = 0; i < FACTORS; i++)                                  \
        {                                                                                          \
            for (int lane = 0; lane < (int)(BYTES / sizeof(T)); lane++) {                          \
                a[i][lane] = (T)next_random();                                                     \
                b[i][lane] = (T)-next_random();                                                    \
            }                                                                                      \
            IN_REGISTER(a[i]);                                                                     \
            IN_REGISTER(b[i]);                                                                     \
        }                                                                                          \
        for (long r = 0; r < rounds; r++)                                                          \
            _Pragma("GCC unroll 32") for (int i = 0; i < SUMS; i++)                                \
            {                                                                                      \
                sum[i] += a[i % FACTORS] * b[i / FACTORS % FACTORS];                               \
                IN_REGISTER(sum[i]);                                                               \
            }                                                                                      \
        return 2.0 * (double)rounds * SUMS * (BYTES / sizeof(T));                                  \
    }
MULTIPLY_ADDS(float)
MULTIPLY_ADDS(double)

#if MATRIX_UNIT
/* Makes the unit ready; 0 where the system refuses it. */
static int configure_tiles(void)
{
    enum { ARCH_REQUEST_XCOMP_PERMISSION = 0x1023, TILE_DATA = 18 };
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    if (syscall(SYS_arch_prctl, ARCH_REQUEST_XCOMP_PERMISSION, TILE_DATA) != 0)
        return 0;
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = 16;
    }
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
    return 1;
}

/* Sums of six products of bfloat16 parts, 16 x 16 of 32 each, four side by side that share three
 * tiles; returns how many products were made, or 0 without a unit.  The parts lie in the L1 cache. */
double tile_products(long rounds)
{
    static uint16_t parts[5][3][512] __attribute__((aligned(64)));
    if (!configure_tiles())
        return 0;
    for (uint16_t *p = parts[0][0]; p < parts[5][0]; p++)
        *p = (uint16_t)(0x3f00 + (int)(next_random() * 256));    /* bfloat16 */
    __asm__ volatile("" : : "r"(parts) : "memory");
#define SIX(sum)                                                                                   \
    _tile_loadd(4, parts[sum][2], 64);                                                             \
    _tile_dpbf16ps(sum, 4, 5);                                                                     \
    _tile_loadd(4, parts[sum][1], 64);                                                             \
    _tile_dpbf16ps(sum, 4, 5);                                                                     \
    _tile_dpbf16ps(sum, 4, 6);                                                                     \
    _tile_loadd(4, parts[sum][0], 64);                                                             \
    _tile_dpbf16ps(sum, 4, 7);                                                                     \
    _tile_dpbf16ps(sum, 4, 6);                                                                     \
    _tile_dpbf16ps(sum, 4, 5);
    for (long r = 0; r < rounds; r++) {
        _tile_loadd(5, parts[4][0], 64);
        _tile_loadd(6, parts[4][1], 64);
        _tile_loadd(7, parts[4][2], 64);
        SIX(0)
        SIX(1)
        SIX(2)
        SIX(3)
    }
#undef SIX
    _tile_release();
    return 24.0 * (double)rounds;
}
#else
double tile_products(long rounds)
{
    (void)rounds;
    return 0;
}
#endif

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
