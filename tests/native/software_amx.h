/* Intel AMX and AVX-512 in software: the intrinsics that amx.c names, as Intel's manual has them.
 *
 * For tests on machines without the matrix unit.  -DPYCNN_SOFTWARE_AMX=TABLES makes amx.c take
 * them from here and the level "amx" available; TABLES are the vector kernels that the level has
 * besides, such as pycnn_kernels_avx2.  Needs gcc, and AVX2 for its speed.
 *
 * What would be a fault of the machine ends the process: an unaligned store, tiles that are not
 * configured or do not fit each other.  What a mask leaves out is not touched.
 */
#ifndef SOFTWARE_AMX_H
#define SOFTWARE_AMX_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xmmintrin.h>

#pragma GCC push_options                /* amx.c pops them */
#pragma GCC target("avx2,fma")

#define SOFTWARE static inline __attribute__((unused))

typedef float __m512 __attribute__((vector_size(64), may_alias));
typedef long long __m512i __attribute__((vector_size(64), may_alias));
typedef uint32_t software_u32 __attribute__((vector_size(64), may_alias));
typedef uint16_t software_u16 __attribute__((vector_size(64), may_alias));
typedef uint16_t __mmask16;
typedef uint32_t __mmask32;

SOFTWARE void software_require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "software_amx.h: %s\n", what);
        abort();
    }
}

/* ---- AVX-512 --------------------------------------------------------------------------------- */

#define _CMP_NLE_UQ 6

#define SOFTWARE_EACH(n) for (int i = 0; i < (n); i++)

SOFTWARE __m512i _mm512_setzero_si512(void)
{
    return (__m512i){0};
}

SOFTWARE __m512 _mm512_setzero_ps(void)
{
    return (__m512){0};
}

SOFTWARE __m512i _mm512_set1_epi32(int v)
{
    return (__m512i)((software_u32){0} + (uint32_t)v);
}

SOFTWARE __m512 _mm512_set1_ps(float v)
{
    __m512 r;
    SOFTWARE_EACH(16) r[i] = v;
    return r;
}

/* The last argument is the first lane. */
#define _mm512_set_epi32(...) software_set_epi32((const int[16]){__VA_ARGS__})
#define _mm512_set_epi16(...) software_set_epi16((const short[32]){__VA_ARGS__})

SOFTWARE __m512i software_set_epi32(const int *last_first)
{
    software_u32 r;
    SOFTWARE_EACH(16) r[i] = (uint32_t)last_first[15 - i];
    return (__m512i)r;
}

SOFTWARE __m512i software_set_epi16(const short *last_first)
{
    software_u16 r;
    SOFTWARE_EACH(32) r[i] = (uint16_t)last_first[31 - i];
    return (__m512i)r;
}

SOFTWARE __m512 _mm512_castsi512_ps(__m512i v)
{
    return (__m512)v;
}

SOFTWARE __m512i _mm512_castps_si512(__m512 v)
{
    return (__m512i)v;
}

SOFTWARE __m512i _mm512_and_si512(__m512i a, __m512i b)
{
    return a & b;
}

SOFTWARE __m512i _mm512_add_epi32(__m512i a, __m512i b)
{
    return (__m512i)((software_u32)a + (software_u32)b);
}

SOFTWARE __m512i _mm512_sub_epi32(__m512i a, __m512i b)
{
    return (__m512i)((software_u32)a - (software_u32)b);
}

SOFTWARE __m512i _mm512_mask_add_epi32(__m512i source, __mmask16 mask, __m512i a, __m512i b)
{
    software_u32 r = (software_u32)source;
    const software_u32 sum = (software_u32)a + (software_u32)b;
    SOFTWARE_EACH(16) if (mask >> i & 1) r[i] = sum[i];
    return (__m512i)r;
}

SOFTWARE __m512i _mm512_max_epu32(__m512i a, __m512i b)
{
    const software_u32 x = (software_u32)a, y = (software_u32)b, keep = (software_u32)(x > y);
    return (__m512i)((x & keep) | (y & ~keep));
}

SOFTWARE __m512i _mm512_min_epu32(__m512i a, __m512i b)
{
    const software_u32 x = (software_u32)a, y = (software_u32)b, keep = (software_u32)(x < y);
    return (__m512i)((x & keep) | (y & ~keep));
}

SOFTWARE uint32_t _mm512_reduce_max_epu32(__m512i v)
{
    uint32_t r = 0;
    SOFTWARE_EACH(16) r = ((software_u32)v)[i] > r ? ((software_u32)v)[i] : r;
    return r;
}

SOFTWARE uint32_t _mm512_reduce_min_epu32(__m512i v)
{
    uint32_t r = UINT32_MAX;
    SOFTWARE_EACH(16) r = ((software_u32)v)[i] < r ? ((software_u32)v)[i] : r;
    return r;
}

SOFTWARE __mmask16 _mm512_test_epi32_mask(__m512i a, __m512i b)
{
    const software_u32 both = (software_u32)(a & b);
    unsigned r = 0;
    SOFTWARE_EACH(16) r |= (unsigned)(both[i] != 0) << i;
    return (__mmask16)r;
}

SOFTWARE __m512i _mm512_permutex2var_epi32(__m512i a, __m512i index, __m512i b)
{
    software_u32 r;
    SOFTWARE_EACH(16) {
        const uint32_t at = ((software_u32)index)[i];
        r[i] = at & 16 ? ((software_u32)b)[at & 15] : ((software_u32)a)[at & 15];
    }
    return (__m512i)r;
}

SOFTWARE __m512i _mm512_permutex2var_epi16(__m512i a, __m512i index, __m512i b)
{
    software_u16 r;
    SOFTWARE_EACH(32) {
        const uint16_t at = ((software_u16)index)[i];
        r[i] = at & 32 ? ((software_u16)b)[at & 31] : ((software_u16)a)[at & 31];
    }
    return (__m512i)r;
}

SOFTWARE __m512 _mm512_add_ps(__m512 a, __m512 b)
{
    return a + b;
}

SOFTWARE __m512 _mm512_sub_ps(__m512 a, __m512 b)
{
    return a - b;
}

SOFTWARE __m512 _mm512_mul_ps(__m512 a, __m512 b)
{
    return a * b;
}

SOFTWARE __mmask16 _mm512_cmp_ps_mask(__m512 a, __m512 b, const int how)
{
    unsigned r = 0;
    software_require(how == _CMP_NLE_UQ, "a comparison that is not written");
    SOFTWARE_EACH(16) r |= (unsigned)!(a[i] <= b[i]) << i;
    return (__mmask16)r;
}

SOFTWARE __m512 _mm512_mask_mov_ps(__m512 source, __mmask16 mask, __m512 v)
{
    SOFTWARE_EACH(16) if (mask >> i & 1) source[i] = v[i];
    return source;
}

SOFTWARE __m512 _mm512_maskz_mov_ps(__mmask16 mask, __m512 v)
{
    return _mm512_mask_mov_ps(_mm512_setzero_ps(), mask, v);
}

SOFTWARE __m512i _mm512_maskz_loadu_epi32(__mmask16 mask, const void *p)
{
    software_u32 r = {0};
    SOFTWARE_EACH(16) if (mask >> i & 1) {
        uint32_t v;
        memcpy(&v, (const char *)p + 4 * i, 4);
        r[i] = v;
    }
    return (__m512i)r;
}

SOFTWARE __m512 _mm512_maskz_loadu_ps(__mmask16 mask, const void *p)
{
    return (__m512)_mm512_maskz_loadu_epi32(mask, p);
}

SOFTWARE void _mm512_mask_storeu_ps(void *p, __mmask16 mask, __m512 v)
{
    SOFTWARE_EACH(16) if (mask >> i & 1) {
        const float lane = v[i];
        memcpy((char *)p + 4 * i, &lane, 4);
    }
}

SOFTWARE void _mm512_storeu_ps(void *p, __m512 v)
{
    memcpy(p, &v, 64);
}

SOFTWARE void _mm512_storeu_si512(void *p, __m512i v)
{
    memcpy(p, &v, 64);
}

SOFTWARE __m512 _mm512_load_ps(const void *p)
{
    software_require((uintptr_t)p % 64 == 0, "a load that is not aligned");
    return *(const __m512 *)p;
}

SOFTWARE void _mm512_store_si512(void *p, __m512i v)
{
    software_require((uintptr_t)p % 64 == 0, "a store that is not aligned");
    *(__m512i *)p = v;
}

/* ---- AMX ------------------------------------------------------------------------------------- */

enum { SOFTWARE_TILES = 8, SOFTWARE_ROWS = 16, SOFTWARE_ROW_BYTES = 64 };   /* of palette 1 */

/* A thread's tiles and their shapes; no rows: the tile is not configured. */
static _Thread_local struct {
    int rows[SOFTWARE_TILES], row_bytes[SOFTWARE_TILES];
    uint32_t tile[SOFTWARE_TILES][SOFTWARE_ROWS][SOFTWARE_ROW_BYTES / 4];
} software_unit;

SOFTWARE void software_require_tile(int t)
{
    software_require(t >= 0 && t < SOFTWARE_TILES, "there is no such tile");
    software_require(software_unit.rows[t] > 0, "a tile that is not configured");
}

/* Whether a kernel has left the calling thread's tiles in use. */
int software_amx_in_use(void)
{
    return software_unit.rows[0] > 0;
}

SOFTWARE void _tile_release(void)
{
    memset(&software_unit, 0, sizeof software_unit);
}

SOFTWARE void _tile_loadconfig(const void *config)
{
    const uint8_t *byte = config;
    _tile_release();
    if (byte[0] == 0)
        return;
    software_require(byte[0] == 1, "there is no such palette");
    software_require(byte[1] == 0, "a load or store that goes on in the middle is not written");
    for (int i = 2; i < 64; i++)
        software_require(byte[i] == 0 || (i >= 16 && i < 32) || (i >= 48 && i < 56),
                         "reserved bytes of the configuration that are not 0");
    for (int t = 0; t < SOFTWARE_TILES; t++) {
        const int row_bytes = byte[16 + 2 * t] | byte[17 + 2 * t] << 8, rows = byte[48 + t];
        software_require(row_bytes <= SOFTWARE_ROW_BYTES && rows <= SOFTWARE_ROWS &&
                             (row_bytes == 0) == (rows == 0),
                         "a tile of an impossible shape");
        software_unit.rows[t] = rows;
        software_unit.row_bytes[t] = row_bytes;
    }
}

SOFTWARE void _tile_zero(const int t)
{
    software_require_tile(t);
    memset(software_unit.tile[t], 0, sizeof software_unit.tile[t]);
}

SOFTWARE void _tile_loadd(const int t, const void *base, ptrdiff_t stride)
{
    _tile_zero(t);
    for (int row = 0; row < software_unit.rows[t]; row++)
        memcpy(software_unit.tile[t][row], (const char *)base + row * stride,
               (size_t)software_unit.row_bytes[t]);
}

SOFTWARE void _tile_stored(const int t, void *base, ptrdiff_t stride)
{
    software_require_tile(t);
    for (int row = 0; row < software_unit.rows[t]; row++)
        memcpy((char *)base + row * stride, software_unit.tile[t][row],
               (size_t)software_unit.row_bytes[t]);
}

SOFTWARE float software_float(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, 4);
    return v;
}

/* Rounding is that of the caller. Sanitizers would add minutes, and see arrays of fixed sizes. */
static __attribute__((noinline, unused, optimize("O3"), no_sanitize("address", "undefined"))) void
software_products(uint32_t sums[][16], const uint32_t a[][16], const uint32_t b[][16], int rows,
                  int pairs)
{
    float b_even[16][16], b_odd[16][16], row_sums[16];
    for (int k = 0; k < pairs; k++)
        for (int n = 0; n < 16; n++) {
            b_even[k][n] = software_float(b[k][n] << 16);
            b_odd[k][n] = software_float(b[k][n] & 0xffff0000u);
        }
    for (int m = 0; m < rows; m++) {
        float even[16] = {0}, odd[16] = {0};
        for (int k = 0; k < pairs; k++) {
            const float a_even = software_float(a[m][k] << 16);
            const float a_odd = software_float(a[m][k] & 0xffff0000u);
            for (int n = 0; n < 16; n++)
                even[n] = __builtin_fmaf(a_even, b_even[k][n], even[n]);
            for (int n = 0; n < 16; n++)
                odd[n] = __builtin_fmaf(a_odd, b_odd[k][n], odd[n]);
        }
        memcpy(row_sums, sums[m], sizeof row_sums);
        for (int n = 0; n < 16; n++)
            row_sums[n] += even[n] + odd[n];
        memcpy(sums[m], row_sums, sizeof row_sums);
    }
}

/* sums[m][n] += the sum over k of a[m][2k] b[k][2n] and of a[m][2k+1] b[k][2n+1], each of FMAs one
 * after the other.  Every step rounds to nearest even, reads subnormals as 0 and writes them as 0;
 * the caller's MXCSR plays no part. */
SOFTWARE void _tile_dpbf16ps(const int sums, const int a, const int b)
{
    const unsigned to_nearest_and_flush = 0x9fc0, control = _mm_getcsr();
    const int *rows = software_unit.rows, *row_bytes = software_unit.row_bytes;
    software_require_tile(sums);
    software_require_tile(a);
    software_require_tile(b);
    software_require(sums != a && a != b && sums != b, "a tile that is named twice");
    software_require(row_bytes[sums] % 4 == 0 && row_bytes[a] % 4 == 0 &&
                         rows[sums] == rows[a] && row_bytes[sums] == row_bytes[b] &&
                         row_bytes[a] / 4 == rows[b],
                     "tiles that do not fit each other");
    _mm_setcsr(to_nearest_and_flush);
    software_products(software_unit.tile[sums], (const uint32_t(*)[16])software_unit.tile[a],
                      (const uint32_t(*)[16])software_unit.tile[b], rows[a], row_bytes[a] / 4);
    _mm_setcsr(control);
    /* Columns behind the last one would stay 0 but for infinity and NaN in a. */
    for (int row = 0; row < rows[sums]; row++)
        memset((char *)software_unit.tile[sums][row] + row_bytes[sums], 0,
               (size_t)(SOFTWARE_ROW_BYTES - row_bytes[sums]));
}

#undef SOFTWARE
#undef SOFTWARE_EACH

#endif
