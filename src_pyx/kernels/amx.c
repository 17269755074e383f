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
 *   - where all kh * kw * channels products of a window fill fewer tiles by an eighth, and the
 *     filters stay in L2: no cells, but numbers without gaps.  Each output row has its own, column
 *     by column of the image, the kh rows of its windows below each other: a window is one run,
 *     (kx, ky, c), and the next begins stride_x columns later.  Behind a run its neighbours meet
 *     zero weights.  Such tiles are not aligned and take 40 cycles to load: they are what a block
 *     shares.
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

/* ---- plans ----------------------------------------------------------------------------------- */

static int plan_filters(pycnn_amx_filters *f)
{
    const ptrdiff_t products = f->kh * f->kw * f->channels;
    f->taps_y = f->kh;
    f->taps_x = f->channels % DEPTH == 0 ? f->kw : 1;
    f->run = f->kw / f->taps_x * f->channels;
    f->planes = ceil_div(f->run, DEPTH);
    f->tiles = f->planes * f->kh * f->taps_x;
    f->panels = ceil_div(f->n_filters, TILE);
    /* Tiles that are not aligned take an eighth more time, and filters are read for each. */
    const ptrdiff_t fewest = ceil_div(products, DEPTH);
    f->whole = 8 * fewest <= 7 * f->tiles &&
               fewest * f->parts * TILE_BYTES * f->panels <= FILTER_BYTES;
    if (f->whole) {
        f->taps_y = f->taps_x = 1;
        f->run = products;
        f->planes = f->tiles = fewest;
    }
    f->panel_bytes = f->tiles * f->parts * TILE_BYTES;
    f->packed_bytes = f->panels * f->panel_bytes;
    const ptrdiff_t chain = least(DEPTH, f->run + 1) / 2;
    return f->parts < 3 ||
           64 * (chain + 6 * f->tiles + 8) + 1 + 6 + 12 * f->tiles <= 64 * (products + 2);
}

/* Whole windows: room for one row of floats, and two vectors to spare. */
static ptrdiff_t gathered_bytes(const pycnn_amx_filters *f, const pycnn_amx_image *g)
{
    const ptrdiff_t values = g->columns * f->kh * f->channels;
    return (ceil_div(values * (ptrdiff_t)sizeof(float), CELL) + 2) * CELL;
}

static void plan_image(const pycnn_amx_filters *f, pycnn_amx_image *g)
{
    const int whole = f->whole;
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
#include "amx_split.inc.h"
#include "amx_multiply.inc.h"

#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

const pycnn_amx_kernels pycnn_amx = {plan_filters, pack_filters, plan_image, split_rows,
                                     multiply_panels};

#endif
