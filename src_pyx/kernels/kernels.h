/* What the C kernels offer to the loops in src_pyx.
 *
 * A kernel owns one innermost register tile.  It sees plain pointers and element counts: images,
 * rows, filter panels and pool windows are the callers' business.  One table per instruction set
 * and element type holds the kernels; `pycnn_levels` lists the tables, best level last.
 */
#ifndef PYCNN_KERNELS_H
#define PYCNN_KERNELS_H

#include <stddef.h>

#include "amx.h"

/* Element types, in the order of every table below. */
#define PYCNN_FLOATS(TYPE)                                                                         \
    TYPE(float, f32)                                                                               \
    TYPE(double, f64)
#define PYCNN_INTEGERS(TYPE)                                                                       \
    TYPE(signed char, i8)                                                                          \
    TYPE(unsigned char, u8)                                                                        \
    TYPE(short, i16)                                                                               \
    TYPE(unsigned short, u16)                                                                      \
    TYPE(int, i32)                                                                                 \
    TYPE(unsigned int, u32)                                                                        \
    TYPE(long long, i64)                                                                           \
    TYPE(unsigned long long, u64)

#define PYCNN_ENUM(T, S) PYCNN_##S,
enum pycnn_type { PYCNN_FLOATS(PYCNN_ENUM) PYCNN_INTEGERS(PYCNN_ENUM) PYCNN_TYPE_COUNT };
#undef PYCNN_ENUM

enum pycnn_activation { PYCNN_LINEAR, PYCNN_RELU, PYCNN_LEAKY_RELU };

/* One contiguous run of products: where it starts in the image (elements from the window's first
 * valid tap) and in the packed filters (products from the start of the panel). */
typedef struct {
    ptrdiff_t x;
    ptrdiff_t w;
} pycnn_tap;

/* A line of output pixels that all have the same taps. */
typedef struct {
    const void *x;            /* first valid tap of the first pixel */
    const void *w;            /* packed filters, [product][filter]; dots: [filter][product];
                               * depthwise: [vector][tap][lane] */
    const void *bias;         /* one per output, in the packed filters' padded count; with relu, here
                               * and below, none is -0 */
    void *out;
    const pycnn_tap *taps;
    ptrdiff_t n_taps;
    ptrdiff_t run;            /* direct, dots: products per tap; depthwise: taps of a filter */
    ptrdiff_t w_step;         /* direct: elements from one product's filters to the next's; dots: from
                               * one filter to the next */
    ptrdiff_t w_ahead;        /* direct: elements from a product's filters to those to be fetched */
    ptrdiff_t panel_step;     /* direct, of several panels: elements from one to the next */
    ptrdiff_t n_pixels;       /* at least 1 */
    ptrdiff_t n_filters;      /* outputs per pixel to store */
    ptrdiff_t x_step;         /* elements from one pixel to the next */
    ptrdiff_t out_step;       /* likewise in out */
    int activation;
    double slope;             /* of leaky_relu */
} pycnn_line;

#define DIRECT_PANELS 6       /* pixels times panels of a tile of several panels */
#define BATCH_PIXELS 32       /* the most vectors of multiply_batch */
#define DOTS_PIXELS 8         /* the most pixels ... */
#define DOTS_FILTERS 4        /* ... and filters of a tile of dots */

/* Rows of outputs that all have the same taps, in an image of planes; steps in elements. */
#define PLANES_ROWS 4         /* the most rows of a tile */
#define PLANES_FILTERS 4      /* the most filters that are laid beside each other, ... */
#define PLANES_POOL_FILTERS 2 /* ... and pooled ones */
typedef struct {
    const void *x;            /* first valid tap of the first output */
    const void *w;            /* its filters, [tap][filter] */
    const void *bias;
    void *out;
    const ptrdiff_t *taps;    /* where the taps are, from the first, row by row of the window */
    ptrdiff_t n_taps, taps_y; /* of one row, rows of the window */
    ptrdiff_t w_step;         /* from one tap's filters to the next's */
    int share_rows;           /* rows of outputs are as far apart as those of the window, and `taps`
                               * has PLANES_ROWS - 1 rows more, beneath the window */
    int pool;                 /* out is the maximum of each 2 x 2 outputs: share_rows, n_rows and
                               * n_pixels are even, and there is no leaky_relu, whose -0 among other
                               * zeros would be found in another order than by max_windows */
    ptrdiff_t n_rows, n_pixels, n_filters;
    ptrdiff_t x_row, out_row; /* from one row of outputs to the next */
    ptrdiff_t out_plane;      /* from one filter's outputs to the next's ... */
    ptrdiff_t out_step;       /* ... and from one pixel to the next: one of the two is 1, the latter
                               * for more filters than PLANES_FILTERS, or PLANES_POOL_FILTERS */
    int activation;
    double slope;             /* of leaky_relu */
} pycnn_planes;

/* A block of outputs of a depthwise convolution of one image, every filter in one channel. */
#define DEPTHWISE_ROWS 9      /* what taps_y + stride_y may be */
typedef struct {
    const void *x;            /* the image, height x width x channels; at least a vector of them */
    const void *w;            /* [vector][tap][lane]; the last vector ends with the channels */
    const void *bias;
    void *out;                /* the first output of the block */
    void *ring;               /* NULL, or taps_y + stride_y rows of width pixels, each with a vector
                               * to spare, for images whose pixels fall into two sets of the cache */
    ptrdiff_t height, width, channels;
    ptrdiff_t first_row, end_row, first_column, end_column;  /* outputs */
    ptrdiff_t top, left;      /* padding */
    ptrdiff_t x_row, out_row; /* elements to the next row */
    ptrdiff_t taps_y, taps_x, stride_y, stride_x;
    int activation;
    double slope;             /* of leaky_relu */
} pycnn_depthwise;

/* Windows that all have the same taps, side by side in one row of the image; steps in elements. */
typedef struct {
    const void *x;            /* first tap of the first window */
    void *out;
    ptrdiff_t row_step, rows;
    ptrdiff_t tap_step, taps;
    ptrdiff_t pixel_step, pixels;
    ptrdiff_t channels;
    double count;             /* mean: divides every sum */
    double reciprocal;        /* mean: 1 / count where that is exact, else 0 */
} pycnn_windows;

/* A share of a 3x3 convolution of stride 1 over a batch of images.  The outputs are cut into tiles
 * of tile x tile pixels; the rows of tiles of all images are numbered through.  The share is rows
 * [first_row, end_row) for the filter panels [first_panel, end_panel), each of 2 vectors. */
typedef struct {
    const void *x;            /* images, height x width x channels each */
    const void *w;            /* all that winograd_pack made */
    const void *bias;         /* one per filter, padded to whole vectors */
    void *out;                /* images, out_height x out_width x filters each */
    void *scratch;            /* aligned like a cache line */
    unsigned char *retry;     /* one per row of tiles: set to 1 where it must be computed directly,
                               * else left; threads that share rows have an array each */
    ptrdiff_t scratch_size;   /* in elements; decides the speed, never the result */
    ptrdiff_t height, width, channels, filters;
    ptrdiff_t out_height, out_width;
    ptrdiff_t top, left;      /* padding; negative: so many rows or columns are left out */
    ptrdiff_t x_row, out_row, x_image, out_image;  /* elements to the next row, the next image */
    ptrdiff_t first_row, end_row, first_panel, end_panel;
    int tile;                 /* 2 or 4 */
    int activation;
    double slope;             /* of leaky_relu */
} pycnn_winograd;

typedef struct {
    ptrdiff_t lanes;          /* elements of one vector */
    ptrdiff_t direct_pixels;  /* the largest direct tile is direct_pixels x 2 vectors */

    /* Convolution, float types only; the equations are in convolution.inc.h. */
    void (*copy_bias)(const void *bias, ptrdiff_t n, void *out);    /* without -0 */
    void (*direct)(const pycnn_line *);     /* a panel of 1 or 2 vectors, or two panels of 2; for up
                                             * to three pixels also DIRECT_PANELS / n_pixels of 2 */

    /* Vectors through a matrix of n_filters columns, float types only; multiply.inc.h. */
    void (*multiply)(const pycnn_line *);       /* one */
    void (*multiply_batch)(const pycnn_line *); /* at most BATCH_PIXELS; n_filters >= 2 lanes */

    /* Few filters over many channels, float types only; dots.inc.h. */
    void (*dots)(const pycnn_line *);       /* n_filters <= DOTS_FILTERS, run >= lanes */
    void (*dots_columns)(const pycnn_line *);   /* run, n_filters >= lanes; weights of multiply */

    /* One filter a channel, float types only; depthwise.inc.h. */
    void (*depthwise_line)(const pycnn_line *);       /* any taps; n_filters are the channels */
    void (*depthwise_rows)(const pycnn_depthwise *);  /* 3 or 5 columns, stride 1 or 2 */

    /* Fewer products for 3x3 windows, float only; winograd.inc.h. */
    void (*winograd_pack)(const void *w, ptrdiff_t channels, ptrdiff_t filters, int tile,
                          void *packed);
    void (*winograd)(const pycnn_winograd *);

    /* Few channels and filters, float types only; planes.inc.h. */
    void (*planes)(const pycnn_planes *);

    /* Rows to columns, channels last to planes and back, float types only; transpose.inc.h. */
    void (*transpose)(const void *x, ptrdiff_t x_step, ptrdiff_t n_rows, ptrdiff_t n_columns,
                      void *out, ptrdiff_t out_step);
    void (*split)(const void *x, ptrdiff_t n_planes, ptrdiff_t n, void *planes,
                  ptrdiff_t plane_step);
    void (*interleave)(const void *planes, ptrdiff_t n_planes, ptrdiff_t n, void *out,
                       ptrdiff_t plane_step);

    /* Pooling; the equations are in pooling.inc.h and compact.inc.h.  Means: float types only. */
    void (*max_windows)(const pycnn_windows *);
    void (*mean_windows)(const pycnn_windows *);
    void (*compact)(const void *x, ptrdiff_t step, void *out, ptrdiff_t pixels,
                    ptrdiff_t pixel);       /* step and pixel in bytes */

    /* Activations.  `out` may be `x`.  `stream`: store past the caches. */
    void (*relu)(const void *x, void *out, ptrdiff_t n, int stream);
    void (*leaky_relu)(const void *x, double slope, void *out, ptrdiff_t n, int stream);
} pycnn_kernels;

typedef struct {
    const char *name;
    int (*available)(void);
    int (*enable)(void);           /* before the first call; 0 when the system refuses */
    const pycnn_kernels *kernels;  /* PYCNN_TYPE_COUNT tables */
    const pycnn_amx_kernels *amx;  /* NULL where there is none */
} pycnn_level;

/* The levels this build knows, worst first; a level may be unavailable on this machine. */
extern const pycnn_level pycnn_levels[];
extern const int pycnn_level_count;

#endif
