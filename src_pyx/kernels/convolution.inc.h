/* The convolution tiles, one body for every element type and instruction set.
 *
 * The including file defines T (float or double), VECTOR_BYTES, TILE_PIXELS and NAME(x).
 *
 *   direct     out[p][f] = act(bias[f] + sum_t sum_{k < run} x[p*x_step + taps[t].x + k]
 *                                                          * w[(taps[t].w + k) * w_step + f])
 *
 * Every sum runs over t (then k) in order, starting from zero, the bias last: the bits of an output
 * do not depend on the tile it falls in.
 *
 * direct is bound by the multiply-add ports: TILE_PIXELS x 2 accumulators, two filter vectors and one
 * broadcast stay in registers, so each product costs one multiply-add and half a broadcast load.
 */

#define OPAQUE(x) __asm__("" : "+r"(x))  /* keeps the compiler from deriving x anew */

static inline __attribute__((always_inline)) VECTOR
NAME(activate)(VECTOR v, int activation, T slope)
{
    if (activation == PYCNN_LINEAR)
        return v;
    if (activation == PYCNN_RELU)
        return NAME(rectify)(v, 0, 0);
    return NAME(rectify)(v, 1, slope);
}

/* relu of a sum with its bias, which is never -0: copy_bias leaves none of it in the bias. */
static inline __attribute__((always_inline)) VECTOR
NAME(rectify_sum)(VECTOR y)
{
    static const T nothing = 0;
    const T *zero = &nothing;
    OPAQUE(zero);       /* no register is kept for it while the products are added up */
    return MAXIMUM(*zero - (VECTOR){0}, y);
}

/* A bias as rectify_sum needs it. */
static void NAME(copy_bias)(const void *bias, ptrdiff_t n, void *out)
{
    for (ptrdiff_t i = 0; i < n; i++)
        ((T *)out)[i] = ((const T *)bias)[i] + 0;   /* -0 becomes +0 */
}

/* Called, so that what leaky_relu needs takes no registers from the sums. */
static __attribute__((noinline)) void NAME(leak)(VECTOR *y, const int n, double slope)
{
    for (int i = 0; i < n; i++)
        y[i] = NAME(rectify)(y[i], 1, (T)slope);
}

/* ---- direct ---------------------------------------------------------------------------------- */

/* leaky_relu, and fewer filters than the vectors hold: rare, and called for the sake of the rest. */
static __attribute__((noinline)) void
NAME(direct_store_rest)(const pycnn_line *line, VECTOR *y, T *out, const int pixels,
                        const int vectors)
{
    const ptrdiff_t n = line->n_filters, out_step = line->out_step;
    if (line->activation != PYCNN_LINEAR)
        for (int i = 0; i < pixels * vectors; i++)
            y[i] = NAME(activate)(y[i], line->activation, (T)line->slope);
    for (int p = 0; p < pixels; p++, y += vectors, out += out_step) {
        const T *from = (const T *)y;
        T *to = out;
        if (n >= LANES)
            STORE(to, y[0]);
        if (n == 2 * LANES)
            STORE(to + LANES, y[1]);
        ptrdiff_t at = n / LANES * LANES;
        UNROLL for (int size = LANES / 2; size > 0; size /= 2)
            if (n & size) {     /* a number of bytes that is known is one load and one store */
                memcpy(to + at, from + at, (size_t)size * sizeof(T));
                at += size;
            }
    }
}

static inline __attribute__((always_inline)) void
NAME(direct_store)(const pycnn_line *line, VECTOR (*sum)[2], T *out, const int pixels,
                   const int vectors)
{
    const int activation = line->activation;
    const ptrdiff_t out_step = line->out_step;
    VECTOR bias[2], y[2 * TILE_PIXELS];
    UNROLL for (int v = 0; v < vectors; v++)
        bias[v] = LOAD((const T *)line->bias + v * LANES);
    if (activation == PYCNN_LEAKY_RELU || line->n_filters != vectors * LANES) {
        UNROLL for (int i = 0; i < pixels * vectors; i++)
            y[i] = sum[i / vectors][i % vectors] + bias[i % vectors];
        NAME(direct_store_rest)(line, y, out, pixels, vectors);
    } else if (activation == PYCNN_RELU) {
        UNROLL for (int p = 0; p < pixels; p++)
            UNROLL for (int v = 0; v < vectors; v++)
                STORE(out + p * out_step + v * LANES, NAME(rectify_sum)(sum[p][v] + bias[v]));
    } else {
        UNROLL for (int p = 0; p < pixels; p++)
            UNROLL for (int v = 0; v < vectors; v++)
                STORE(out + p * out_step + v * LANES, sum[p][v] + bias[v]);
    }
}

static inline __attribute__((always_inline)) void
NAME(direct_product)(const T *const *x, ptrdiff_t k, ptrdiff_t x_step, const T *w,
                     ptrdiff_t w_ahead, VECTOR (*sum)[2], const int pixels, const int vectors)
{
    VECTOR filter[2];
    UNROLL for (int v = 0; v < vectors; v++) {
        filter[v] = LOAD(w + v * LANES);
        if (v * VECTOR_BYTES % 64 == 0)     /* a cache line */
            __builtin_prefetch(w + w_ahead + v * LANES);
    }
    UNROLL for (int p = 0; p < pixels; p++)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[p][v] += x[p / 5][p % 5 * x_step + k] * filter[v];
}

/* `tiles` of `pixels` x `vectors` sums behind each other. */
static inline __attribute__((always_inline)) void
NAME(direct_tiles)(const pycnn_line *line, const T *x, T *out, ptrdiff_t tiles, const int pixels,
                   const int vectors)
{
    const ptrdiff_t n_taps = line->n_taps, run = line->run;
    const ptrdiff_t x_step = line->x_step, w_step = line->w_step, w_ahead = line->w_ahead;
    const pycnn_tap *taps = line->taps;
    const T *w = line->w;
    const ptrdiff_t tile_x = pixels * x_step, tile_out = pixels * line->out_step;

    for (; tiles > 0; tiles--, x += tile_x, out += tile_out) {
        VECTOR sum[TILE_PIXELS][2];
        UNROLL for (int p = 0; p < pixels; p++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[p][v] = (VECTOR){0};
        for (ptrdiff_t t = 0; t < n_taps; t++) {
            /* Every fifth pixel has a pointer of its own: one, two, three and four steps from it are
             * within reach, and everything stays in the integer registers. */
            const T *xt[3] = {x + taps[t].x};
            xt[1] = xt[0] + (pixels > 5 ? 5 * x_step : 0);
            xt[2] = xt[0] + (pixels > 10 ? 10 * x_step : 0);
            OPAQUE(xt[1]);
            OPAQUE(xt[2]);
            const T *wt = w + taps[t].w * w_step;
            for (ptrdiff_t k = 0; k < run; k++, wt += w_step)
                NAME(direct_product)(xt, k, x_step, wt, w_ahead, sum, pixels, vectors);
        }
        NAME(direct_store)(line, sum, out, pixels, vectors);
    }
}

/* A function for each kind of tile. */
typedef void NAME(direct_function)(const pycnn_line *, const T *x, T *out, ptrdiff_t tiles);
#if TILE_PIXELS > 6
#define DIRECT_TILES(TILE, v)                                                                      \
    TILE(1, v) TILE(2, v) TILE(3, v) TILE(4, v) TILE(5, v) TILE(6, v) TILE(7, v) TILE(8, v)        \
    TILE(9, v) TILE(10, v) TILE(11, v) TILE(12, v) TILE(13, v) TILE(14, v)
#else
#define DIRECT_TILES(TILE, v) TILE(1, v) TILE(2, v) TILE(3, v) TILE(4, v) TILE(5, v) TILE(6, v)
#endif
#define TILE(pixels, vectors)                                                                      \
    static __attribute__((noinline)) void NAME(direct_tile_##pixels##x##vectors)(                  \
        const pycnn_line *line, const T *x, T *out, ptrdiff_t tiles)                               \
    {                                                                                              \
        NAME(direct_tiles)(line, x, out, tiles, pixels, vectors);                                  \
    }
DIRECT_TILES(TILE, 1)
DIRECT_TILES(TILE, 2)
#undef TILE

/* [vectors - 1][pixels - 1] */
static NAME(direct_function) *const NAME(direct_functions)[2][TILE_PIXELS] = {
#define TILE(pixels, vectors)                                                                      \
    [vectors - 1][pixels - 1] = NAME(direct_tile_##pixels##x##vectors),
    DIRECT_TILES(TILE, 1) DIRECT_TILES(TILE, 2)
#undef TILE
};

/* `tiles` of `pixels` x `panels` x two vectors behind each other.  Several panels for lines of up to
 * three pixels: a sum can take the next product when the last one is added, after the time of eight
 * multiply-adds, and one panel has fewer sums.  Two panels for sums of few products, where it counts
 * how outputs are stored: the longer the piece of a pixel, the sooner the caches take it. */
static inline __attribute__((always_inline)) void
NAME(direct_panels)(const pycnn_line *line, const T *x, T *out, ptrdiff_t tiles, const int pixels,
                    const int panels)
{
    const ptrdiff_t x_step = line->x_step, w_step = line->w_step, panel_step = line->panel_step;
    const ptrdiff_t tile_x = pixels * x_step, tile_out = pixels * line->out_step;
    pycnn_line panel[DIRECT_PANELS];
    for (int i = 0; i < panels; i++) {
        panel[i] = *line;
        panel[i].n_filters = line->n_filters - i * 2 * LANES;
        panel[i].n_filters = panel[i].n_filters < 2 * LANES ? panel[i].n_filters : 2 * LANES;
        panel[i].bias = (const T *)line->bias + i * 2 * LANES;
    }
    for (; tiles > 0; tiles--, x += tile_x, out += tile_out) {
        VECTOR sum[2 * PANELS_PIXELS][2];
        UNROLL for (int i = 0; i < pixels * panels; i++)
            sum[i][0] = sum[i][1] = (VECTOR){0};
        for (ptrdiff_t t = 0; t < line->n_taps; t++) {
            const T *xt[2] = {x + line->taps[t].x};
            xt[1] = xt[0] + (pixels > 5 ? 5 * x_step : 0);
            OPAQUE(xt[1]);
            /* Two panels' steps from a pointer are within reach. */
            const T *w[2] = {(const T *)line->w + line->taps[t].w * w_step};
            w[1] = w[0] + 3 * panel_step;
            OPAQUE(w[1]);
            for (ptrdiff_t k = 0; k < line->run; k++, w[0] += w_step, w[1] += w_step)
                UNROLL for (int i = 0; i < panels; i++)
                    UNROLL for (int v = 0; v < 2; v++) {
                        VECTOR filter = LOAD(w[i / 3] + i % 3 * panel_step + v * LANES);
                        if (pixels > 1)
                            IN_REGISTER(filter);
                        UNROLL for (int p = 0; p < pixels; p++)
                            sum[i * pixels + p][v] += xt[p / 5][p % 5 * x_step + k] * filter;
                    }
        }
        UNROLL for (int i = 0; i < panels; i++)
            NAME(direct_store)(&panel[i], sum + i * pixels, out + i * 2 * LANES, pixels, 2);
    }
}

#define TILE(pixels, panels)                                                                       \
    static __attribute__((noinline)) void NAME(direct_panels_##pixels##x##panels)(                 \
        const pycnn_line *line, const T *x, T *out, ptrdiff_t tiles)                               \
    {                                                                                              \
        NAME(direct_panels)(line, x, out, tiles, pixels, panels);                                  \
    }
DIRECT_PANELS_TILES(TILE)
#undef TILE

/* [panels - 2][pixels - 1] */
static NAME(direct_function) *const
NAME(direct_panels_functions)[DIRECT_PANELS - 1][PANELS_PIXELS] = {
#define TILE(pixels, panels) [panels - 2][pixels - 1] = NAME(direct_panels_##pixels##x##panels),
    DIRECT_PANELS_TILES(TILE)
#undef TILE
};

/* Tiles of almost equal height: fifteen pixels are 8 + 7, not 14 and a slow 1. */
static void NAME(direct)(const pycnn_line *line)
{
    const T *x = line->x;
    T *out = line->out;
    const int panels = (int)((line->n_filters - 1) / (2 * LANES)) + 1;
    const int vectors = line->n_filters <= LANES ? 1 : 2;
    /* Pixels a multiple of 4 KiB apart share the eight or twelve ways of one set of the L1 cache. */
    const int aliased = line->x_step * (ptrdiff_t)sizeof(T) % 4096 == 0;
    NAME(direct_function) *const *functions = NAME(direct_functions)[vectors - 1];
    ptrdiff_t most = TILE_PIXELS > 7 && aliased ? 7 : TILE_PIXELS;
    if (panels > 1) {
        functions = NAME(direct_panels_functions)[panels - 2];
        most = panels == 2 ? PANELS_PIXELS : DIRECT_PANELS / panels;
    }
    const ptrdiff_t tiles = (line->n_pixels - 1) / most + 1;
    const ptrdiff_t high = line->n_pixels / tiles, higher = line->n_pixels % tiles;
    const ptrdiff_t first = higher * (high + 1);    /* pixels of the tiles that have one more */
    if (higher > 0)
        functions[high](line, x, out, higher);
    functions[high - 1](line, x + first * line->x_step, out + first * line->out_step, tiles - higher);
}
