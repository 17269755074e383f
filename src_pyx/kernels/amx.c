/* Float32 convolution on bfloat16 tiles (Intel AMX: Sapphire Rapids and later).
 *
 *     out[y, x, f] = act(bias[f] + sum over ky, kx, c of
 *                        image[y * stride_y - pad_top + ky, x * stride_x - pad_left + kx, c]
 *                        * filters[f, ky, kx, c])
 *
 * Every float32 is split into three bfloat16 numbers of eight bits each, v = hi + mid + lo,
 * exactly, and six of the nine products are added ("highest"):
 *
 *     x * w  ~  xl*wh + xm*wh + xm*wm + xh*wl + xh*wm + xh*wh
 *
 * "high" rounds to two parts (xm*wh + xh*wm + xh*wh), "medium" to one (xh*wh).
 *
 * Tiles.  C (16 pixels x 16 filters, float32) += A (16 pixels x 32 products) * B (32 x 16), B in
 * pairs of products.  A block is up to four C tiles, in tiles 0 to 3, below each other or side by
 * side.  What they share, B's parts or A's, stays in tiles 5 to 7; one tile of the other (4) is
 * loaded and used at a time.  TDPBF16PS takes 16 cycles even when each waits for the one before,
 * since its rows are pipelined; a tile load takes 8 from L1 and 20 from L2, hidden behind it.  So
 * TDPBF16PS bounds a layer: 1024 floating-point operations a cycle, 170 for six products (455
 * GFLOP/s at 2.67 GHz), as long as a block's A stays in L1 and B in L2; filters larger than L2 come
 * at the speed of L3 (7x7x512 -> 512: 14 MB).  The inner loop reaches 95 % of that; random numbers
 * take more power than zeros do, and on one CPU a fifth more time.  Around it: the split, 20 cycles
 * per cell, and one 64-byte line written per pixel and panel, which L3's write speed bounds when
 * the output does not fit in L2 (1x1 layers with many filters).
 *
 * Band.  A window's products must lie 32 to a 64-byte line, and lines of neighbouring pixels at
 * a constant distance.  A band holds cells of 32 bfloat16 numbers, [plane][part][row][column]:
 *   - channels % 32 == 0 and kw > 1: a plane holds 32 channels, a column is an image column, and
 *     A tiles of neighbouring taps overlap.  The pixels of all rows form one line of places; those
 *     where the window leaves the row on the right are computed and thrown away.
 *   - otherwise: a column is an output pixel and holds its whole filter row, kw * channels values.
 *   - where that would fill more tiles than all kh * kw * channels products of a window do: no
 *     cells, but numbers without gaps.  Each output row has its own, column by column of the
 *     image, the kh rows of its windows below each other: a window is one run, (kx, ky, c), and
 *     the next begins stride_x columns later.  Behind a run its neighbours meet zero weights.
 *     Such tiles are not aligned and take 40 cycles to load: they are what a block shares.
 * With a stride, rows y, y + stride_y, ... of the image follow each other ("phases"), so that the
 * distance of two places does not depend on the tap.  Cells outside the image are zero.
 *
 * Bound.  The promise, u = 2^-24, K products, S = |bias| + sum |x||w|:
 *     |error| <= gamma_(K+2) S + (K+2) 2^-149
 * Rounding.  The parts are truncated, so they have the sign of their number, all sums of parts'
 * products are at most S in magnitude, and whole numbers with S < 2^24 stay exact.  TDPBF16PS
 * adds to C the sum of two chains of at most c = min(16, half the products) FMAs, one of the even
 * and one of the odd products, each step rounded to nearest; the first FMA of a chain and the
 * first addition to C are exact.  With t tiles of 32 products, a product meets c - 1 + 1 + 6 t - 1
 * roundings and one more with the bias: gamma_(c + 6 t) S.
 * Dropped: |mid| < 2^-7 |v| and |lo| < 2^-15 |v|, so xm*wl + xl*wm + xl*wl < (2^-21 + 2^-30)
 * |x||w| = (8 + 1/64) u |x||w|.
 * Flushing.  AMX reads subnormal parts as 0 and flushes subnormal sums to 0.  For exponents of x
 * and w of -103 and more every part is normal, 2^-126 or more.  At most 6 n + 12 t sums can be
 * flushed when n products are not zero (adding zero changes nothing), each for less than 2^-126.
 * The image and the filters together are refused unless their exponents add up to -96 or more:
 * then u S >= n 2^-120, and flushing adds at most (6 n + 12 t) / 64 n <= (6 + 12 t) / 64 times u S.
 * Together it keeps the promise when  c + 6 t + 8 + 1/64 + (6 + 12 t) / 64 <= K + 2,  which
 * plan_filters checks; where all tiles are full, K = 32 t, that is always so, and "highest" is
 * as good as the direct sum or better.  Sums stay below 2^127: no overflow.
 * "high": |error| <= (2^-15 + gamma_(c + 3 t)) S; "medium": (2^-7 + 2^-16 + gamma_(c + t)) S.
 */
#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE
#endif

#include "amx.h"

#if defined(__x86_64__) && defined(__linux__)

#ifndef PYCNN_SOFTWARE_AMX
#include <immintrin.h>
#endif
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    TILE = 16,                 /* pixels, and filters, of a tile */
    DEPTH = 32,                /* products of a tile */
    CELL = 64,                 /* bytes of DEPTH bfloat16 numbers */
    TILE_BYTES = TILE * CELL,
    MOST_TILES = 4,            /* of a block */
    MANY_PRODUCTS = 48,        /* after more of them a tile is stored */
    AHEAD = 2048,              /* bytes of the image to ask for in advance */
    BAND_BYTES = 1 << 20,      /* half of an L2 cache for the image ... */
    FILTER_BYTES = 512 << 10,  /* ... and a quarter for the filters it meets */
};

static ptrdiff_t least(ptrdiff_t a, ptrdiff_t b)
{
    return a < b ? a : b;
}

static ptrdiff_t most(ptrdiff_t a, ptrdiff_t b)
{
    return a > b ? a : b;
}

static ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b)
{
    return (a + b - 1) / b;
}

enum {
    ARCH_GET_XCOMP_SUPPORTED = 0x1021,
    ARCH_REQUEST_XCOMP_PERMISSION = 0x1023,
    TILE_DATA = 18,
};

int pycnn_amx_permitted(void)
{
    unsigned long supported = 0;
    return syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPPORTED, &supported) == 0 &&
           supported >> TILE_DATA & 1;
}

int pycnn_amx_enable(void)
{
    return syscall(SYS_arch_prctl, ARCH_REQUEST_XCOMP_PERMISSION, TILE_DATA) == 0;
}

#if defined(PYCNN_SOFTWARE_AMX)  /* a test build */
#include "../../tests/native/software_amx.h"
#elif defined(__clang__)
#pragma clang attribute push(                                                                      \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16"))),               \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,amx-tile,amx-bf16")
#endif

#define INLINE static inline __attribute__((always_inline))

/* ---- splitting ------------------------------------------------------------------------------- */

/* Smallest and largest of twice the bits of values, which drops the sign.  The smallest is kept
 * less one, so that zero is the largest of all. */
typedef struct {
    __m512i least, most;
} range;

INLINE void range_clear(range *r)
{
    r->least = _mm512_set1_epi32(-1);
    r->most = _mm512_setzero_si512();
}

INLINE void range_add(range *r, __m512i v)
{
    v = _mm512_add_epi32(v, v);
    r->most = _mm512_max_epu32(r->most, v);
    r->least = _mm512_min_epu32(r->least, _mm512_sub_epi32(v, _mm512_set1_epi32(1)));
}

/* The bits of the smallest |value| but zero and of the largest; 0 and 0 when all are zero. */
INLINE void range_get(const range *r, uint32_t *low, uint32_t *high)
{
    *high = _mm512_reduce_max_epu32(r->most) / 2;
    *low = *high ? (_mm512_reduce_min_epu32(r->least) + 1) / 2 : 0;
}

INLINE __m512i remainder_of(__m512i v, __m512i part)
{
    part = _mm512_and_si512(part, _mm512_set1_epi32((int)0xffff0000u));
    return _mm512_castps_si512(
        _mm512_sub_ps(_mm512_castsi512_ps(v), _mm512_castsi512_ps(part)));
}

/* The bfloat16 parts of 32 floats: truncated when there are three, else rounded to nearest. */
INLINE void split(__m512i a, __m512i b, const int parts, __m512i *part)
{
    const __m512i upper_halves =
        _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29,
                         27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    const __m512i half = _mm512_set1_epi32(parts < 3 ? 0x8000 : 0);
    for (int p = 0; p < parts; p++) {
        const __m512i a_part = _mm512_add_epi32(a, half), b_part = _mm512_add_epi32(b, half);
        part[p] = _mm512_permutex2var_epi16(a_part, upper_halves, b_part);
        a = remainder_of(a, a_part);
        b = remainder_of(b, b_part);
    }
}

/* Bits first to end - 1 of 32. */
INLINE __mmask32 span(ptrdiff_t first, ptrdiff_t end)
{
    const uint64_t up_to_end = ((uint64_t)1 << most(0, least(DEPTH, end))) - 1;
    return (__mmask32)(up_to_end >> most(0, least(DEPTH, first)) << most(0, least(DEPTH, first)));
}

/* Splits the values x[k] of a cell whose bit k is set; the others are zero. */
INLINE void split_cell(const float *x, __mmask32 valid, const int parts, __m512i *part, range *r)
{
    const __m512i a = _mm512_maskz_loadu_epi32((__mmask16)valid, x);
    const __m512i b = _mm512_maskz_loadu_epi32((__mmask16)(valid >> 16), x + 16);
    _mm_prefetch((const char *)x + AHEAD, _MM_HINT_T0);
    _mm_prefetch((const char *)x + AHEAD + CELL, _MM_HINT_T0);
    range_add(r, a);
    range_add(r, b);
    split(a, b, parts, part);
}

/* ---- filters --------------------------------------------------------------------------------- */

/* Whether all products of a window lie together, in the order (kx, ky, c). */
INLINE int whole_windows(const pycnn_amx_filters *f)
{
    return f->taps_y < f->kh;
}

static int plan_filters(pycnn_amx_filters *f)
{
    const ptrdiff_t products = f->kh * f->kw * f->channels;
    f->taps_y = f->kh;
    f->taps_x = f->channels % DEPTH == 0 ? f->kw : 1;
    f->run = f->kw / f->taps_x * f->channels;
    f->planes = ceil_div(f->run, DEPTH);
    f->tiles = f->planes * f->kh * f->taps_x;
    if (ceil_div(products, DEPTH) < f->tiles) {
        f->taps_y = f->taps_x = 1;
        f->run = products;
        f->planes = f->tiles = ceil_div(products, DEPTH);
    }
    const ptrdiff_t chain = least(DEPTH, f->run + 1) / 2;
    f->panels = ceil_div(f->n_filters, TILE);
    f->panel_bytes = f->tiles * f->parts * TILE_BYTES;
    f->packed_bytes = f->panels * f->panel_bytes;
    return f->parts < 3 ||
           64 * (chain + 6 * f->tiles + 8) + 1 + 6 + 12 * f->tiles <= 64 * (products + 2);
}

/* Transposes 16 x 16 pairs of bfloat16 numbers: swaps blocks of 8, 4, 2 and 1. */
INLINE void transpose(__m512i *row)
{
    const __m512i index = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (int size = 8; size > 0; size /= 2) {
        const __m512i bit = _mm512_set1_epi32(size), other = _mm512_set1_epi32(TILE);
        const __mmask16 right = _mm512_test_epi32_mask(index, bit);
        const __m512i upper =
            _mm512_mask_add_epi32(index, right, _mm512_sub_epi32(index, bit), other);
        const __m512i lower =
            _mm512_mask_add_epi32(_mm512_add_epi32(index, bit), right, index, other);
        for (int i = 0; i < TILE; i++) {
            if (i & size)
                continue;
            const __m512i a = row[i], b = row[i + size];
            row[i] = _mm512_permutex2var_epi32(a, upper, b);
            row[i + size] = _mm512_permutex2var_epi32(a, lower, b);
        }
    }
}

/* The range of x that is safe with weights from `low` to `high`; exponents have a bias of 127. */
static int safe_range(pycnn_amx_filters *f, uint32_t low, uint32_t high)
{
    const int smallest = 127 - 103, largest = 253;
    int x_low = smallest, x_high = largest, bits = 0;
    if (high) {
        const int w_low = (int)(low >> 23), w_high = (int)(high >> 23);
        while (((ptrdiff_t)1 << bits) < f->kh * f->kw * f->channels)
            bits++;
        if (w_low < smallest || w_high > largest)
            return 0;
        x_low = (int)most(x_low, 2 * 127 - 96 - w_low);
        x_high = (int)least(x_high, 2 * 127 + 125 - w_high - bits);
    }
    f->x_min = (uint32_t)x_low << 23;
    f->x_max = (uint32_t)x_high << 23 | 0x7fffff;
    return x_low <= x_high;
}

/* Where the 32 products from k on of a whole window stand in a filter; behind it, anywhere. */
INLINE void list_products(const pycnn_amx_filters *f, ptrdiff_t k, ptrdiff_t *where)
{
    const ptrdiff_t column = f->kh * f->channels;
    for (int i = 0; i < DEPTH; i++, k++) {
        const ptrdiff_t kx = k / column, ky = k % column / f->channels, c = k % f->channels;
        where[i] = k < f->run ? (ky * f->kw + kx) * f->channels + c : 0;
    }
}

INLINE int pack(pycnn_amx_filters *f, const float *weights, char *packed, const int parts)
{
    const ptrdiff_t size = f->kh * f->kw * f->channels;
    range r;
    range_clear(&r);
    for (ptrdiff_t first = 0; first < f->n_filters; first += TILE)
        for (ptrdiff_t plane = 0; plane < f->planes; plane++)
            for (ptrdiff_t tap = 0; tap < f->taps_y * f->taps_x; tap++) {
                const float *w = weights + first * size + tap * f->run + plane * DEPTH;
                const __mmask32 valid = span(0, f->run - plane * DEPTH);
                __m512i tile[3][TILE], cell[3];
                ptrdiff_t where[DEPTH];
                float ordered[DEPTH];
                if (whole_windows(f))
                    list_products(f, plane * DEPTH, where);
                for (int i = 0; i < TILE; i++) {
                    const int real = first + i < f->n_filters;
                    const float *values = real ? w + i * size : w;
                    if (whole_windows(f)) {
                        for (int k = 0; k < DEPTH; k++)
                            ordered[k] = weights[(real ? first + i : first) * size + where[k]];
                        values = ordered;
                    }
                    split_cell(values, real ? valid : 0, parts, cell, &r);
                    for (int p = 0; p < parts; p++)
                        tile[p][i] = cell[p];
                }
                for (int p = 0; p < parts; p++, packed += TILE_BYTES) {
                    transpose(tile[p]);
                    memcpy(packed, tile[p], TILE_BYTES);
                }
            }
    uint32_t low, high;
    range_get(&r, &low, &high);
    return safe_range(f, low, high);
}

static int pack_filters(pycnn_amx_filters *f, const float *weights, void *packed)
{
    return f->parts == 1   ? pack(f, weights, packed, 1)
           : f->parts == 2 ? pack(f, weights, packed, 2)
                           : pack(f, weights, packed, 3);
}

/* ---- image ----------------------------------------------------------------------------------- */

/* Whole windows: room for one row of floats, and two vectors to spare. */
static ptrdiff_t gathered_bytes(const pycnn_amx_filters *f, const pycnn_amx_image *g)
{
    const ptrdiff_t values = g->columns * f->kh * f->channels;
    return (ceil_div(values * (ptrdiff_t)sizeof(float), CELL) + 2) * CELL;
}

static void plan_image(const pycnn_amx_filters *f, pycnn_amx_image *g)
{
    const int whole = whole_windows(f);
    const ptrdiff_t phases = least(f->taps_y, g->stride_y), taps_x = whole ? f->kw : f->taps_x;
    const ptrdiff_t copies = (whole ? 1 : f->planes) * f->parts;    /* of a row: parts, planes */
    g->step_x = whole || taps_x > 1 ? g->stride_x : 1;
    g->column_bytes = whole ? f->kh * f->channels * 2 : CELL;
    g->row_places = ceil_div((g->out_width - 1) * g->step_x + taps_x, g->step_x);
    g->columns = g->row_places * g->step_x;
    const ptrdiff_t row_bytes = g->columns * g->column_bytes;
    if (g->rows == 0) {
        const ptrdiff_t fit = BAND_BYTES / (phases * row_bytes * copies) -
                              (f->taps_y - 1) / g->stride_y;
        const ptrdiff_t bands = ceil_div(g->out_height, most(1, least(g->out_height, fit)));
        g->rows = ceil_div(g->out_height, bands);
    }
    g->phase_rows = g->rows - 1 + ceil_div(f->taps_y, g->stride_y);

    /* Tiles of 16 places, or of fewer that start and end with a row, whichever is less work. */
    const ptrdiff_t places = (g->rows - 1) * g->row_places + g->out_width;
    const ptrdiff_t thrown = g->row_places - g->out_width;
    const ptrdiff_t in_rows = (TILE + thrown) / g->row_places * g->row_places;
    g->tile_places = g->tile_rows = TILE;
    if (in_rows > 0 &&
        ceil_div(places, in_rows) * (8 + in_rows - thrown) < ceil_div(places, TILE) * (8 + TILE)) {
        g->tile_places = in_rows;
        g->tile_rows = in_rows - thrown;
    }

    /* Room for the last place of the last tile at its last tap, and for what split_whole writes
     * behind the last row; an odd number of lines, so that parts and planes do not fight for the
     * same sets of the L1 cache. */
    const ptrdiff_t stored = phases * g->phase_rows * row_bytes;
    const ptrdiff_t last = (ceil_div(places, g->tile_places) - 1) * g->tile_places + g->tile_rows;
    const ptrdiff_t reach =
        whole ? (last - 1) * g->step_x * g->column_bytes + f->planes * CELL
              : stored - g->rows * row_bytes + (last * g->step_x + f->taps_x) * CELL;
    g->part_bytes = (ceil_div(most(stored + (whole ? CELL : 0), reach), CELL) | 1) * CELL;
    g->plane_bytes = whole ? CELL : g->part_bytes * f->parts;
    g->band_bytes = g->part_bytes * copies + (whole ? gathered_bytes(f, g) : 0);
}

/* One image row: cell `column`, plane by plane; row_values floats, windows may leave it. */
INLINE void split_row(const pycnn_amx_filters *f, const pycnn_amx_image *g, const float *row,
                      char *to, const int parts, range *r)
{
    const ptrdiff_t row_values = g->width * f->channels;
    const ptrdiff_t step = f->channels * (f->taps_x > 1 ? 1 : g->stride_x);
    ptrdiff_t at = -g->pad_left * f->channels;
    for (ptrdiff_t column = 0; column < g->columns; column++, at += step, to += CELL) {
        const int inside = at >= 0 && at + f->run <= row_values;
        char *cell = to;
        for (ptrdiff_t k = 0; k < f->run; k += DEPTH) {
            const ptrdiff_t end = inside ? f->run - k : least(f->run, row_values - at) - k;
            __m512i part[3];
            split_cell(row + at + k, span(inside ? 0 : -at - k, end), parts, part, r);
            for (int p = 0; p < parts; p++, cell += g->part_bytes)
                _mm512_store_si512(cell, part[p]);
        }
    }
}

INLINE ptrdiff_t split_band(const pycnn_amx_filters *f, const pycnn_amx_image *g, const float *x,
                            ptrdiff_t first, ptrdiff_t end, char *band, unsigned char *unsafe,
                            const int parts)
{
    const ptrdiff_t rows = end - first, used = (rows - 1) * g->stride_y + f->kh;
    const ptrdiff_t row_bytes = g->columns * CELL;
    const ptrdiff_t stored = least(f->kh, g->stride_y) * g->phase_rows;
    ptrdiff_t n_unsafe = 0;
    memset(unsafe, 0, (size_t)rows);
    for (ptrdiff_t i = 0; i <= stored; i++) {
        char *to = band + i * row_bytes;
        const ptrdiff_t y = i / g->phase_rows + i % g->phase_rows * g->stride_y;
        const ptrdiff_t image_y = first * g->stride_y - g->pad_top + y;
        if (i < stored && y < used && 0 <= image_y && image_y < g->height) {
            uint32_t low, high;
            range r;
            range_clear(&r);
            split_row(f, g, x + image_y * g->width * f->channels, to, parts, &r);
            range_get(&r, &low, &high);
            if (high == 0 || (low >= f->x_min && high <= f->x_max))
                continue;
            for (ptrdiff_t row = 0; row < rows; row++)
                if (row * g->stride_y <= y && y < row * g->stride_y + f->kh && !unsafe[row]) {
                    unsafe[row] = 1;
                    n_unsafe++;
                }
        }
        /* Rows outside the image or unsafe (their NaN must not reach other rows' windows through
         * cells that meet a zero weight), and the lines after the last row. */
        const ptrdiff_t bytes = i < stored ? row_bytes : g->part_bytes - stored * row_bytes;
        for (ptrdiff_t p = 0; p < f->planes * parts; p++)
            memset(to + p * g->part_bytes, 0, (size_t)bytes);
    }
    return n_unsafe;
}

/* Whole windows: the image rows of one output row, column by column; zeros outside the image.  What
 * lies beside it is left as it is. */
static void gather_rows(const pycnn_amx_filters *f, const pycnn_amx_image *g, const float *x,
                        ptrdiff_t image_y, float *gathered)
{
    const ptrdiff_t channels = f->channels, column = f->kh * channels;
    const ptrdiff_t left = most(0, g->pad_left), image_x = left - g->pad_left;
    const ptrdiff_t n = least(g->columns - left, g->width - image_x);
    for (ptrdiff_t ky = 0; ky < f->kh; ky++, image_y++) {
        const int inside = 0 <= image_y && image_y < g->height;
        for (ptrdiff_t c = 0; c < channels; c += 16) {
            const __mmask16 some = (__mmask16)span(0, least(16, channels - c));
            const float *from = x + (inside ? image_y * g->width + image_x : 0) * channels + c;
            float *to = gathered + left * column + ky * channels + c;
            for (ptrdiff_t i = 0; i < n; i++, from += channels, to += column)
                _mm512_mask_storeu_ps(
                    to, some,
                    _mm512_castsi512_ps(_mm512_maskz_loadu_epi32(inside ? some : 0, from)));
        }
    }
}

INLINE ptrdiff_t split_whole(const pycnn_amx_filters *f, const pycnn_amx_image *g, const float *x,
                             ptrdiff_t first, ptrdiff_t end, char *band, unsigned char *unsafe,
                             const int parts)
{
    const ptrdiff_t values = g->columns * f->kh * f->channels, row_bytes = values * 2;
    const ptrdiff_t rows = end - first;
    float *gathered = (float *)(band + parts * g->part_bytes);
    ptrdiff_t n_unsafe = 0;
    memset(gathered, 0, (size_t)gathered_bytes(f, g));
    for (ptrdiff_t i = 0; i < rows; i++) {
        char *row = band + i * row_bytes;
        uint32_t low, high;
        range r;
        range_clear(&r);
        gather_rows(f, g, x, (first + i) * g->stride_y - g->pad_top, gathered);
        /* The last cell may go on in the next row, which comes later. */
        for (ptrdiff_t k = 0; k < values; k += DEPTH) {
            const __m512i a = _mm512_maskz_loadu_epi32(0xffff, gathered + k);
            const __m512i b = _mm512_maskz_loadu_epi32(0xffff, gathered + k + 16);
            __m512i part[3];
            range_add(&r, a);
            range_add(&r, b);
            split(a, b, parts, part);
            for (int p = 0; p < parts; p++)
                _mm512_storeu_si512(row + k * 2 + p * g->part_bytes, part[p]);
        }
        range_get(&r, &low, &high);
        unsafe[i] = high != 0 && (low < f->x_min || high > f->x_max);
        n_unsafe += unsafe[i];
        for (int p = 0; p < parts && unsafe[i]; p++)
            memset(row + p * g->part_bytes, 0, (size_t)row_bytes);
    }
    for (int p = 0; p < parts; p++)
        memset(band + p * g->part_bytes + rows * row_bytes, 0,
               (size_t)(g->part_bytes - rows * row_bytes));
    return n_unsafe;
}

INLINE ptrdiff_t split_any(const pycnn_amx_filters *f, const pycnn_amx_image *g, const float *x,
                           ptrdiff_t first, ptrdiff_t end, char *band, unsigned char *unsafe,
                           const int parts)
{
    return whole_windows(f) ? split_whole(f, g, x, first, end, band, unsafe, parts)
                            : split_band(f, g, x, first, end, band, unsafe, parts);
}

static ptrdiff_t split_rows(const pycnn_amx_filters *f, const pycnn_amx_image *g, const float *x,
                            ptrdiff_t first, ptrdiff_t end, void *band, unsigned char *unsafe)
{
    return f->parts == 1   ? split_any(f, g, x, first, end, band, unsafe, 1)
           : f->parts == 2 ? split_any(f, g, x, first, end, band, unsafe, 2)
                           : split_any(f, g, x, first, end, band, unsafe, 3);
}

/* ---- products -------------------------------------------------------------------------------- */

typedef struct {
    const pycnn_amx_filters *f;
    const pycnn_amx_image *g;
    const pycnn_amx_result *r;
    ptrdiff_t places;          /* of the band */
} job;

/* A place of the band: its column, the output row that it belongs to. */
typedef struct {
    ptrdiff_t place, x;
    float *row;
} position;

INLINE void advance(const job *j, position *at, ptrdiff_t places)
{
    at->place += places;
    at->x += places;
    for (; at->x >= j->g->row_places; at->x -= j->g->row_places)
        at->row += j->r->row_step;
}

/* A block of tiles: one panel's sums at several tiles of places or, across, several panels' at one;
 * sums[tile][pixel][filter]. */
typedef struct {
    float *sums;
    position at;               /* its first place; then the next to be written */
    ptrdiff_t panel;
    int tiles;
    int written;               /* of as many shares as it has tiles */
} block;

INLINE void write_pixels(const pycnn_amx_result *r, const float *sums, float *out, ptrdiff_t n,
                         const __mmask16 *filters, const __m512 *bias, const int panels,
                         const int full, const int activation)
{
    const __m512 slope = _mm512_set1_ps(r->slope);
    for (; n > 0; n--, sums += TILE, out += r->pixel_step)
        for (int i = 0; i < panels; i++) {
            __m512 v = _mm512_add_ps(_mm512_load_ps(sums + i * TILE * TILE), bias[i]);
            const __mmask16 keep = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NLE_UQ);
            if (activation == PYCNN_AMX_RELU)
                v = _mm512_maskz_mov_ps(keep, v);
            if (activation == PYCNN_AMX_LEAKY_RELU)
                v = _mm512_mask_mov_ps(_mm512_mul_ps(v, slope), keep, v);
            if (full)
                _mm512_storeu_ps(out + i * TILE, v);
            else
                _mm512_mask_storeu_ps(out + i * TILE, filters[i], v);   /* slower */
        }
}

INLINE void activate_pixels(const pycnn_amx_result *r, const float *sums, float *out, ptrdiff_t n,
                            const __mmask16 *filters, const __m512 *bias, const int panels,
                            const int full)
{
    if (r->activation == PYCNN_AMX_LINEAR)
        write_pixels(r, sums, out, n, filters, bias, panels, full, PYCNN_AMX_LINEAR);
    else if (r->activation == PYCNN_AMX_RELU)
        write_pixels(r, sums, out, n, filters, bias, panels, full, PYCNN_AMX_RELU);
    else
        write_pixels(r, sums, out, n, filters, bias, panels, full, PYCNN_AMX_LEAKY_RELU);
}

/* Adds the bias to the next `pixels` of a tile, activates and writes them, row by row.  What is
 * stored of a pixel is as long as can be: caches take neighbouring lines faster. */
INLINE void write_tile(const job *j, block *b, const float *sums, ptrdiff_t pixels,
                       const int panels)
{
    const pycnn_amx_image *g = j->g;
    const pycnn_amx_result *r = j->r;
    const ptrdiff_t filter = b->panel * TILE;
    const int full = filter + panels * TILE <= j->f->n_filters;
    position *at = &b->at;
    __mmask16 filters[MOST_TILES];
    __m512 bias[MOST_TILES];
    for (int i = 0; i < panels; i++) {
        filters[i] = (__mmask16)span(0, least(TILE, j->f->n_filters - filter - i * TILE));
        bias[i] = r->bias ? _mm512_maskz_loadu_ps(filters[i], r->bias + filter + i * TILE)
                          : _mm512_setzero_ps();
        /* A zero sum may be -0 or 0, as the products of zero weights have it. */
        bias[i] = _mm512_add_ps(bias[i], _mm512_setzero_ps());
    }
    pixels = least(pixels, j->places - at->place);
    while (pixels > 0) {
        const ptrdiff_t in_row = least(pixels, g->row_places - at->x);
        const ptrdiff_t n = least(in_row, g->out_width - at->x);
        float *out = at->row + at->x * r->pixel_step + filter;
        if (full)
            activate_pixels(r, sums, out, n, filters, bias, panels, 1);
        else
            activate_pixels(r, sums, out, n, filters, bias, panels, 0);
        sums += in_row * TILE;
        pixels -= in_row;
        advance(j, at, in_row);
    }
}

/* Writes the next of a block's shares, as many as it has tiles. */
static void write_share(const job *j, block *b)
{
    const pycnn_amx_image *g = j->g;
    const int share = b->written++;
    if (!whole_windows(j->f)) {
        write_tile(j, b, b->sums + share * TILE * TILE, g->tile_rows, 1);
        advance(j, &b->at, g->tile_places - g->tile_rows);
        return;
    }
    const ptrdiff_t first = g->tile_rows * share / b->tiles;
    const ptrdiff_t pixels = g->tile_rows * (share + 1) / b->tiles - first;
    const float *sums = b->sums + first * TILE;
    if (b->tiles == 1)
        write_tile(j, b, sums, pixels, 1);
    else if (b->tiles == 2)
        write_tile(j, b, sums, pixels, 2);
    else if (b->tiles == 3)
        write_tile(j, b, sums, pixels, 3);
    else
        write_tile(j, b, sums, pixels, MOST_TILES);
}

/* Computes a block.  The block before it, *done, is written between its first products, and its own
 * tiles are stored between the last, so that the matrix unit does not wait.
 *
 * A store of a tile that comes 130 products or more after the one before it stops the unit for the
 * time of 50, as measured, whatever it stores; one in between, of any tile and to anywhere, costs
 * nothing.  So a tile of filters is stored now and then, where the sums will be. */
INLINE void compute_block(const job *j, const char *packed, const char *band, const block *b,
                          block *done, const int parts, const int tiles, const int across)
{
    const pycnn_amx_filters *f = j->f;
    const pycnn_amx_image *g = j->g;
    const ptrdiff_t place_bytes = g->step_x * g->column_bytes, part_bytes = g->part_bytes;
    const ptrdiff_t next_x = g->tile_places * place_bytes, next_w = f->panel_bytes;
    const char *w = packed + b->panel * f->panel_bytes;
    const int products = tiles * parts * (parts + 1) / 2;   /* of a step */
    ptrdiff_t steps = f->tiles;
    int since_store = 0;

/* The parts of what all tiles share stay in tiles 5 to 7; the others' come to tile 4 in turn. */
#define LOAD_X(tile, i, p) _tile_loadd(tile, x + (i) * next_x + (p) * part_bytes, place_bytes)
#define LOAD_W(tile, i, p) _tile_loadd(tile, w + (i) * next_w + (p) * TILE_BYTES, CELL)
#define SHARED(tile, p)                                                                            \
    if (p < parts) {                                                                               \
        if (across)                                                                                \
            LOAD_X(tile, 0, p);                                                                    \
        else                                                                                       \
            LOAD_W(tile, 0, p);                                                                    \
    }
#define LOAD(i, p)                                                                                 \
    if (across)                                                                                    \
        LOAD_W(4, i, p);                                                                           \
    else                                                                                           \
        LOAD_X(4, i, p);
#define PRODUCT(i, part)                                                                           \
    if (across)                                                                                    \
        _tile_dpbf16ps(i, part, 4);                                                                \
    else                                                                                           \
        _tile_dpbf16ps(i, 4, part);
#define TILE_PRODUCTS(i)                                                                           \
    if (i < tiles) {                                                                               \
        if (parts == 3) {                                                                          \
            LOAD(i, 2) PRODUCT(i, 5)                                                               \
            LOAD(i, 1) PRODUCT(i, 5) PRODUCT(i, 6)                                                 \
            LOAD(i, 0) PRODUCT(i, 7) PRODUCT(i, 6) PRODUCT(i, 5)                                   \
        } else if (parts == 2) {                                                                   \
            LOAD(i, 1) PRODUCT(i, 5)                                                               \
            LOAD(i, 0) PRODUCT(i, 6) PRODUCT(i, 5)                                                 \
        } else {                                                                                   \
            LOAD(i, 0) PRODUCT(i, 5)                                                               \
        }                                                                                          \
        if (steps == 0)                                                                            \
            _tile_stored(i, b->sums + i * TILE * TILE, CELL);                                      \
        if (done->written < done->tiles)                                                           \
            write_share(j, done);                                                                  \
    }

    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (ptrdiff_t plane = 0; plane < f->planes; plane++) {
        const char *plane_x = band + b->at.place * place_bytes + plane * g->plane_bytes;
        ptrdiff_t phase = 0, row = 0;
        for (ptrdiff_t ky = 0; ky < f->taps_y; ky++) {
            const char *x = plane_x + (phase * g->phase_rows + row) * g->columns * g->column_bytes;
            if (++phase == g->stride_y) {
                phase = 0;
                row++;
            }
            for (ptrdiff_t kx = 0; kx < f->taps_x; kx++, x += CELL, w += parts * TILE_BYTES) {
                steps--;
                SHARED(5, 0)
                SHARED(6, 1)
                SHARED(7, 2)
                TILE_PRODUCTS(0)
                TILE_PRODUCTS(1)
                TILE_PRODUCTS(2)
                TILE_PRODUCTS(3)
                if ((since_store += products) > MANY_PRODUCTS && steps > 0) {
                    _tile_stored(5, b->sums, CELL);
                    since_store = 0;
                }
            }
        }
    }
    while (done->written < done->tiles)
        write_share(j, done);
#undef LOAD_X
#undef LOAD_W
#undef SHARED
#undef LOAD
#undef PRODUCT
#undef TILE_PRODUCTS
}

INLINE void compute_tiles(const job *j, const char *packed, const char *band, const block *b,
                          block *done, const int parts, const int across)
{
    if (b->tiles == 1)
        compute_block(j, packed, band, b, done, parts, 1, across);
    else if (b->tiles == 2)
        compute_block(j, packed, band, b, done, parts, 2, across);
    else if (b->tiles == 3)
        compute_block(j, packed, band, b, done, parts, 3, across);
    else
        compute_block(j, packed, band, b, done, parts, MOST_TILES, across);
}

/* For each group of panels that stays in L2: for each block of places, which stays in L1. */
INLINE void multiply(const job *j, const char *packed, const char *band, ptrdiff_t first_panel,
                     ptrdiff_t end_panel, const int parts)
{
    /* Four tiles share the filters best, and read them once when the band has no more.  Else
     * three leave tile registers to rename, which six products need when the core's other
     * hardware thread uses the matrix unit too. */
    const ptrdiff_t tile_places = j->g->tile_places;
    const ptrdiff_t all = ceil_div(j->places, tile_places);
    const ptrdiff_t widest = parts == 3 && all > MOST_TILES ? 3 : MOST_TILES;
    const ptrdiff_t group = most(1, FILTER_BYTES / j->f->panel_bytes);
    float sums[2][MOST_TILES * TILE * TILE] __attribute__((aligned(64)));
    block done = {sums[1], {0, 0, j->r->out}, 0, 0, 0};
    for (ptrdiff_t first = first_panel; first < end_panel; first += group) {
        const ptrdiff_t end = least(first + group, end_panel);
        ptrdiff_t tiles;
        position at = {0, 0, j->r->out};
        for (; at.place < j->places; advance(j, &at, tiles * tile_places)) {
            const ptrdiff_t left = ceil_div(j->places - at.place, tile_places);
            tiles = ceil_div(left, ceil_div(left, widest));
            for (ptrdiff_t panel = first; panel < end; panel++) {
                const block next = {done.sums == sums[0] ? sums[1] : sums[0], at, panel,
                                    (int)tiles, 0};
                compute_tiles(j, packed, band, &next, &done, parts, 0);
                done = next;
            }
        }
    }
    while (done.written < done.tiles)
        write_share(j, &done);
}

/* Whole windows: their lines cross those of the cache, and take long to load.  So several panels of
 * filters share them. */
INLINE void multiply_whole(const job *j, const char *packed, const char *band,
                           ptrdiff_t first_panel, ptrdiff_t end_panel, const int parts)
{
    float sums[2][MOST_TILES * TILE * TILE] __attribute__((aligned(64)));
    block done = {sums[1], {0, 0, j->r->out}, 0, 0, 0};
    position at = {0, 0, j->r->out};
    ptrdiff_t tiles;
    for (; at.place < j->places; advance(j, &at, j->g->tile_places))
        for (ptrdiff_t panel = first_panel; panel < end_panel; panel += tiles) {
            const ptrdiff_t left = end_panel - panel;
            tiles = ceil_div(left, ceil_div(left, MOST_TILES));
            const block next = {done.sums == sums[0] ? sums[1] : sums[0], at, panel, (int)tiles,
                                0};
            compute_tiles(j, packed, band, &next, &done, parts, 1);
            done = next;
        }
    while (done.written < done.tiles)
        write_share(j, &done);
}

INLINE void multiply_any(const job *j, const char *packed, const char *band,
                         ptrdiff_t first_panel, ptrdiff_t end_panel, const int parts)
{
    if (whole_windows(j->f))
        multiply_whole(j, packed, band, first_panel, end_panel, parts);
    else
        multiply(j, packed, band, first_panel, end_panel, parts);
}

static void multiply_panels(const pycnn_amx_filters *f, const pycnn_amx_image *g,
                            const void *packed, const void *band, ptrdiff_t first, ptrdiff_t end,
                            ptrdiff_t first_panel, ptrdiff_t end_panel, const pycnn_amx_result *r)
{
    const job j = {f, g, r, (end - first - 1) * g->row_places + g->out_width};
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = CELL;
        config.rows[i] = i < 4 || (i == 4) != whole_windows(f) ? (uint8_t)g->tile_rows : TILE;
    }
    /* GCC's tile intrinsics do not say that they read memory. */
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
    if (f->parts == 1)
        multiply_any(&j, packed, band, first_panel, end_panel, 1);
    else if (f->parts == 2)
        multiply_any(&j, packed, band, first_panel, end_panel, 2);
    else
        multiply_any(&j, packed, band, first_panel, end_panel, 3);
    _tile_release();
}

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const pycnn_amx_kernels pycnn_amx = {plan_filters, pack_filters, plan_image, split_rows,
                                     multiply_panels};

#endif
