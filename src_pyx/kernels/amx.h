/* Float32 convolution on the matrix unit, Intel AMX.  The equation and its bound are in amx.c.
 *
 *     pycnn_amx_filters f = {n_filters, kh, kw, channels, parts};
 *     if (!pycnn_amx.plan_filters(&f) || !pycnn_amx.pack(&f, weights, packed))  -> direct kernel
 *     pycnn_amx_image g = {height, width, ..., rows};
 *     pycnn_amx.plan_image(&f, &g);
 *     for each band of output rows [first, end), at most g.rows of them:
 *         pycnn_amx.split(&f, &g, x, first, end, band, unsafe);
 *         pycnn_amx.multiply(&f, &g, packed, band, first, end, 0, f.panels, &result);
 *         rows whose byte in `unsafe` is set                                    -> direct kernel
 *
 * Nothing here allocates, locks or keeps state.  Once a band is split, any number of threads may
 * multiply different panels of filters from it.  The bits of a result depend on its window and
 * its filter alone: not on bands, panels or threads, nor on its place in a tile.
 */
#ifndef PYCNN_AMX_H
#define PYCNN_AMX_H

#include <stddef.h>
#include <stdint.h>

/* Filters (n_filters, kh, kw, channels), contiguous; dilation 1, one group. */
typedef struct {
    /* Set by the caller. */
    ptrdiff_t n_filters, kh, kw, channels;
    int parts;               /* bfloat16 numbers per float32: 3 "highest", 2 "high", 1 "medium" */

    /* Set by plan_filters. */
    int whole;               /* all products of a window are one run, in the order (kx, ky, c) */
    ptrdiff_t run;           /* products that lie together: channels, kw * channels, or all */
    ptrdiff_t taps_y;        /* runs from top to bottom of a window: kh, or 1 */
    ptrdiff_t taps_x;        /* runs from left to right: kw, or 1 */
    ptrdiff_t planes;        /* of 32 products, that hold one run */
    ptrdiff_t tiles;         /* of 32 products, that hold a window */
    ptrdiff_t panels;        /* of 16 filters */
    ptrdiff_t panel_bytes;
    ptrdiff_t packed_bytes;  /* what pack writes; align it to 64 */

    /* Set by pack: 0 and x_min <= |x| <= x_max are safe, as the bits of a float. */
    uint32_t x_min, x_max;
} pycnn_amx_filters;

/* An image (height, width, channels), contiguous, and its output (out_height, out_width). */
typedef struct {
    /* Set by the caller.  pad_left may be negative, to compute a range of columns only. */
    ptrdiff_t height, width, out_height, out_width;
    ptrdiff_t stride_y, stride_x, pad_top, pad_left;
    ptrdiff_t rows;          /* the most output rows in a band; 0: as many as suit the L2 cache */

    /* Set by plan_image: the layout of a band, see amx.c. */
    ptrdiff_t columns;       /* per row of the band */
    ptrdiff_t column_bytes;
    ptrdiff_t step_x;        /* columns from one output pixel to the next */
    ptrdiff_t phase_rows;    /* rows of the band that are stride_y image rows apart */
    ptrdiff_t row_places;    /* output pixels per row, with those that are thrown away */
    ptrdiff_t tile_places;   /* places from one tile to the next ... */
    ptrdiff_t tile_rows;     /* ... and how many of them a tile computes */
    ptrdiff_t part_bytes;    /* from a bfloat16 part to the next */
    ptrdiff_t plane_bytes;   /* from a plane to the next */
    ptrdiff_t band_bytes;    /* what split writes; align it to 64 */
} pycnn_amx_image;

enum { PYCNN_AMX_LINEAR, PYCNN_AMX_RELU, PYCNN_AMX_LEAKY_RELU };  /* as enum pycnn_activation */

/* Where results go, and what is done to them on the way. */
typedef struct {
    float *out;              /* filter 0 of pixel 0 of the output row `first` */
    ptrdiff_t row_step;      /* floats from one output row to the next */
    ptrdiff_t pixel_step;    /* likewise from one pixel to the next */
    const float *bias;       /* n_filters, or NULL */
    int activation;
    float slope;             /* of leaky relu */
} pycnn_amx_result;

/* Whether Linux knows the unit and lets processes ask for it. */
int pycnn_amx_permitted(void);

/* Asks Linux for the right to use it, for good and for all threads; 0 when it refuses. */
int pycnn_amx_enable(void);

typedef struct {
    /* Fills in the plan.  Returns 0 when the window is too small for the bound of "highest". */
    int (*plan_filters)(pycnn_amx_filters *f);

    /* Splits and packs the filters.  Returns 0 when a weight is not finite or out of range. */
    int (*pack)(pycnn_amx_filters *f, const float *weights, void *packed);

    void (*plan_image)(const pycnn_amx_filters *f, pycnn_amx_image *g);

    /* Splits into `band` what the output rows [first, end) need of x.  Sets unsafe[i], else clears
     * it, when an image row that the windows of row first + i touch holds NaN, infinity or a value
     * out of range: what multiply then writes to that row is wrong.  Returns how many are set. */
    ptrdiff_t (*split)(const pycnn_amx_filters *f, const pycnn_amx_image *g, const float *x,
                       ptrdiff_t first, ptrdiff_t end, void *band, unsigned char *unsafe);

    /* Computes the filters of the panels [first_panel, end_panel) in the band split for the output
     * rows [first, end). */
    void (*multiply)(const pycnn_amx_filters *f, const pycnn_amx_image *g, const void *packed,
                     const void *band, ptrdiff_t first, ptrdiff_t end, ptrdiff_t first_panel,
                     ptrdiff_t end_panel, const pycnn_amx_result *r);
} pycnn_amx_kernels;

extern const pycnn_amx_kernels pycnn_amx;

#endif
