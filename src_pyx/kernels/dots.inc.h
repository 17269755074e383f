/* A few filters over many channels: vectors along the products of a sum.
 *
 *   dots   out[p][f] = act(bias[f] + sum_t sum_{k < run} x[p*x_step + taps[t].x + k]
 *                                                        * w[f*w_step + taps[t].w + k])
 *
 * A tile of pixels x filters has a vector of sums for each output, whose lanes are added up in the
 * end, always halves first: the bits of an output do not depend on the tile it falls in.  A tap's last
 * vector may overlap the one before; what that had of it is masked, in the image as in the filters.
 *
 * A tile loads pixels + filters vectors for pixels * filters multiply-adds: that bounds one filter.
 * More are bound by the multiply-adds, short sums by the adding of lanes, and large images by the
 * cache that they come from.
 */

/* Vectors 2i and 2i + 1 become one: in each, lanes `half` apart are added up, the lower one first; the
 * sums of the second are in the lanes with the bit `half`. */
static inline __attribute__((always_inline)) void
NAME(add_halves)(VECTOR *sum, const int half)
{
    NAME(mask) low, high;
    UNROLL for (int i = 0; i < LANES; i++) {
        low[i] = i & half ? LANES + i - half : i;
        high[i] = i & half ? LANES + i : i + half;
    }
    UNROLL for (int i = 0; i < half; i++)
        sum[i] = SHUFFLE(sum[2 * i], sum[2 * i + 1], low)
               + SHUFFLE(sum[2 * i], sum[2 * i + 1], high);
}

/* Lane i of the result is the sum of the lanes of v[i]. */
static inline __attribute__((always_inline)) VECTOR
NAME(add_lanes)(const VECTOR *v)
{
    VECTOR sum[LANES];
    UNROLL for (int i = 0; i < LANES; i++) {
        /* which half of the lanes, which quarter, ...: the bits of i, lowest first */
        int reversed = 0;
        UNROLL for (int bit = 1; bit < LANES; bit *= 2)
            reversed += i & bit ? (int)LANES / 2 / bit : 0;
        sum[reversed] = v[i];
    }
    if (LANES > 8)
        NAME(add_halves)(sum, 8);
    if (LANES > 4)
        NAME(add_halves)(sum, 4);
    if (LANES > 2)
        NAME(add_halves)(sum, 2);
    NAME(add_halves)(sum, 1);
    return sum[0];
}

static inline __attribute__((always_inline)) VECTOR
NAME(dots_vector)(const T *from, const NAME(mask) *used, const int times)
{
    VECTOR v = LOAD(from);
    if (used != NULL)
        v = (VECTOR)((NAME(mask))v & *used);
    if (times > 1)      /* else it would be loaded as often as it is multiplied */
        IN_REGISTER(v);
    return v;
}

/* Adds a vector of products to each sum; but those of `used`.  The fewer of pixels and filters are
 * kept in registers, of the others there is one at a time: all fit into 16 with 12 sums. */
static inline __attribute__((always_inline)) void
NAME(dots_products)(const T *const *x, ptrdiff_t x_step, const T *w, ptrdiff_t w_step,
                    const NAME(mask) *used, VECTOR (*sum)[DOTS_FILTERS], const int pixels,
                    const int filters)
{
    VECTOR kept[DOTS_PIXELS];
#define PIXEL(p) NAME(dots_vector)(x[(p) / 5] + (p) % 5 * x_step, used, filters)
#define FILTER(f) NAME(dots_vector)(w + (f) * w_step, used, pixels)
    if (filters <= pixels) {
        UNROLL for (int f = 0; f < filters; f++)
            kept[f] = FILTER(f);
        UNROLL for (int p = 0; p < pixels; p++) {
            const VECTOR pixel = PIXEL(p);
            UNROLL for (int f = 0; f < filters; f++)
                sum[p][f] += pixel * kept[f];
        }
    } else {
        UNROLL for (int p = 0; p < pixels; p++)
            kept[p] = PIXEL(p);
        UNROLL for (int f = 0; f < filters; f++) {
            const VECTOR filter = FILTER(f);
            UNROLL for (int p = 0; p < pixels; p++)
                sum[p][f] += kept[p] * filter;
        }
    }
#undef PIXEL
#undef FILTER
}

/* All pixels, at least `pixels` of them; the last tile may step back over the one before. */
static inline __attribute__((always_inline)) void
NAME(dots_tiles)(const pycnn_line *line, const int pixels, const int filters)
{
    enum { SUMS = DOTS_PIXELS * DOTS_FILTERS };
    const ptrdiff_t n_taps = line->n_taps, run = line->run, rest = run % LANES;
    const ptrdiff_t x_step = line->x_step, w_step = line->w_step, out_step = line->out_step;
    const pycnn_tap *taps = line->taps;
    const int n = pixels * filters;
    VECTOR bias[SUMS / LANES + 1];
    NAME(mask) used;
    for (int i = 0; i < n || i % LANES != 0; i++)
        bias[i / LANES][i % LANES] = ((const T *)line->bias)[i % filters];
    for (int i = 0; i < LANES; i++)
        used[i] = i < LANES - rest ? 0 : -1;

    for (ptrdiff_t first = 0; first < line->n_pixels; first += pixels) {
        if (first > line->n_pixels - pixels)
            first = line->n_pixels - pixels;
        const T *x = (const T *)line->x + first * x_step;
        VECTOR sum[DOTS_PIXELS][DOTS_FILTERS];
        UNROLL for (int i = 0; i < n; i++)
            sum[i / filters][i % filters] = (VECTOR){0};
        for (ptrdiff_t t = 0; t < n_taps; t++) {
            const T *xt[2] = {x + taps[t].x};
            const T *wt = (const T *)line->w + taps[t].w;
            xt[1] = xt[0] + (pixels > 5 ? 5 * x_step : 0);
            OPAQUE(xt[1]);
            ptrdiff_t k = 0;
            for (; k + LANES <= run; k += LANES, xt[0] += LANES, xt[1] += LANES, wt += LANES)
                NAME(dots_products)(xt, x_step, wt, w_step, NULL, sum, pixels, filters);
            if (rest > 0) {
                xt[0] += rest - LANES;
                xt[1] += rest - LANES;
                NAME(dots_products)(xt, x_step, wt + rest - LANES, w_step, &used, sum, pixels,
                                    filters);
            }
        }
        VECTOR y[SUMS / LANES + 1];
        UNROLL for (int v = 0; v * LANES < n; v++) {
            VECTOR each[LANES];
            const int left = n - v * (int)LANES;    /* fewer than lanes: taken again */
            UNROLL for (int i = 0; i < LANES; i++) {
                const int at = v * (int)LANES + (i < left ? i : i % left);
                each[i] = sum[at / filters][at % filters];
            }
            y[v] = NAME(activate)(NAME(add_lanes)(each) + bias[v], line->activation, (T)line->slope);
        }
        T *out = (T *)line->out + first * out_step;
        if (out_step == filters)
            memcpy(out, y, (size_t)n * sizeof(T));
        else
            for (int p = 0; p < pixels; p++)
                memcpy(out + p * out_step, (const T *)y + p * filters, (size_t)filters * sizeof(T));
    }
}

#define DOTS_TILES(TILE)                                                                           \
    TILE(1, 1) TILE(2, 1) TILE(4, 1) TILE(8, 1) TILE(1, 2) TILE(2, 2) TILE(4, 2)                   \
    TILE(1, 3) TILE(2, 3) TILE(4, 3) TILE(1, 4) TILE(2, 4) TILE(3, 4)
#define TILE(pixels, filters)                                                                      \
    static __attribute__((noinline)) void NAME(dots_##pixels##x##filters)(const pycnn_line *line)  \
    {                                                                                              \
        NAME(dots_tiles)(line, pixels, filters);                                                   \
    }
DOTS_TILES(TILE)
#undef TILE

/* The largest tile of so many filters that the line is long enough for. */
static void NAME(dots)(const pycnn_line *line)
{
#define TILE(pixels, filters) [filters - 1][pixels] = NAME(dots_##pixels##x##filters),
    static void (*const functions[DOTS_FILTERS][DOTS_PIXELS + 1])(const pycnn_line *) = {
        DOTS_TILES(TILE)};
#undef TILE
    ptrdiff_t pixels = line->n_pixels < DOTS_PIXELS ? line->n_pixels : DOTS_PIXELS;
    while (functions[line->n_filters - 1][pixels] == NULL)
        pixels--;
    functions[line->n_filters - 1][pixels](line);
}
#undef DOTS_TILES

/* The same results, bit for bit, of one pixel and one tap, with the weights as `multiply` takes them,
 * at least a vector of filters: a vector of them for each lane that dots has.  (The masked products of
 * dots may make +0 of a sum of -0, but so does the bias.) */
static void NAME(dots_columns)(const pycnn_line *line)
{
    const ptrdiff_t run = line->run, w_step = line->w_step, last = line->n_filters - LANES;
    const T *x = line->x;
    for (ptrdiff_t f = 0; f < line->n_filters; f += LANES) {
        const ptrdiff_t at = f < last ? f : last;   /* may step back over the one before */
        const T *w = (const T *)line->w + at;
        VECTOR sum[LANES];
        ptrdiff_t k = 0;
        UNROLL for (int i = 0; i < LANES; i++)
            sum[i] = (VECTOR){0};
        for (; k + LANES <= run; k += LANES)
            UNROLL for (int i = 0; i < LANES; i++)
                sum[i] += x[k + i] * LOAD(w + (k + i) * w_step);
        UNROLL for (int i = 0; i < LANES; i++)      /* the last lanes take what is left */
            if (run - LANES + i >= k)
                sum[i] += x[run - LANES + i] * LOAD(w + (run - LANES + i) * w_step);
        UNROLL for (int half = LANES / 2; half > 0; half /= 2)
            UNROLL for (int i = 0; i < half; i++)
                sum[i] += sum[i + half];
        STORE((T *)line->out + at, NAME(activate)(sum[0] + LOAD((const T *)line->bias + at),
                                                  line->activation, (T)line->slope));
    }
}
