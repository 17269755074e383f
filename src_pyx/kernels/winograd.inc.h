/* Winograd convolution: 3x3, stride 1, in tiles of m x m outputs, m = 2 or 4, with n = m + 2.
 *
 *   Y = A' [ sum_c (G w_c G') * (B' x_c B) ] A        (A. Lavin, S. Gray, arXiv:1509.09308)
 *
 * x_c is the n x n input of a tile in channel c, w_c the 3x3 filter, * the product by elements; so
 * n*n products make m*m outputs where a direct sum takes 9*m*m: 2.25 times fewer for m = 2, 4 times
 * for m = 4.  The interpolation points are 0, +-1, infinity for m = 2 and 0, +-a, +-b, infinity for
 * m = 4, with a = sqrt(1/2) and b = sqrt(2): their error is a half (rms) to a fifth (bound) of that
 * of the usual 0, +-1, +-2, and a*b = 1 saves products.
 *
 *   m = 4:  B' = |1  0   -5/2  0    1  0|   G = | 1    0     0  |   A' = |1  1   1   1   1   0|
 *                |0 -2a  -2    a    1  0|       |-2/3 -2a/3 -1/3|        |0  a  -a   b  -b   0|
 *                |0  2a  -2   -a    1  0|       |-2/3  2a/3 -1/3|        |0  a2  a2  b2  b2  0|
 *                |0 -b/2 -1/2  b    1  0|       | 1/6  b/6   1/3|        |0  a3 -a3  b3 -b3  1|
 *                |0  b/2 -1/2 -b    1  0|       | 1/6 -b/6   1/3|
 *                |0  1    0   -5/2  0  1|       | 0    0     1  |
 *
 *   m = 2:  B' = |1  0  -1   0|             G = | 1    0    0 |     A' = |1  1   1   0|
 *                |0  1   1   0|                 |1/2  1/2  1/2|          |0  1  -1   1|
 *                |0 -1   1   0|                 |1/2 -1/2  1/2|
 *                |0 -1   0   1|                 | 0    0    1 |
 *
 * The work is done in blocks of tiles whose transforms stay in the second-level cache:
 *
 *   inputs     scratch[position][tile][channel]; the lanes are channels
 *   products   for each panel of filters and each position: tiles x channels by channels x panel,
 *              the tile of `direct` with a single tap; bound by the multiply-add ports, or by the
 *              cache behind the second level when few tiles share the packed filters
 *   outputs    the lanes are filters; bias, activation, store
 *
 * Inputs and outputs are bound by memory where the images are in no cache, so each tile fetches
 * the next one's pixels: into the second level, since the first waits for few lines at a time.
 *
 * Every output is computed by the same operations in the same order whatever the block, band or
 * panel it falls in.  A value that is not finite anywhere (an input, a filter, an overflow on the
 * way) makes an output of its tile that is not: `retry` is then set for the row of tiles, whose
 * outputs are to be computed again directly.
 *
 * Error, with u the unit round-off, k = channels + 28 and gamma_k = k u / (1 - k u):
 *
 *   |error| <= gamma_k |A'| [sum_c (|G||w_c||G'|) * (|B'||x_c||B|)] |A| + 2 u (|bias| + |out|)
 *
 * where the first term is at most kappa gamma_k sum_c (max |x_c| in the tile) (sum |w_c|), with
 * kappa = 16 for m = 2 and 158 for m = 4.  The tile, not the window: a dark window beside a bright
 * one gets an error in proportion to the bright one.  On random data the rms error is 0.6 (m = 2)
 * to 2 (m = 4) times that of a direct sum.
 */

#define SQRT_HALF 0.70710678118654752440
#define SQRT_2 1.41421356237309504880

/* ---- transforms of one column or row, in place, elements `step` vectors apart ---------------- */

static inline __attribute__((always_inline)) void
NAME(winograd_b)(VECTOR *d, const int step, const int m)
{
    const VECTOR d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step];
    if (m == 2) {
        d[0] = d0 - d2;
        d[step] = d1 + d2;
        d[2 * step] = d2 - d1;
        d[3 * step] = d3 - d1;
        return;
    }
    const VECTOR d4 = d[4 * step], d5 = d[5 * step];
    const VECTOR even_a = d4 - (T)2 * d2, odd_a = d3 - (T)2 * d1;
    const VECTOR even_b = d4 - (T)0.5 * d2, odd_b = d3 - (T)0.5 * d1;
    d[0] = d0 + d4 - (T)2.5 * d2;
    d[step] = even_a + (T)SQRT_HALF * odd_a;
    d[2 * step] = even_a - (T)SQRT_HALF * odd_a;
    d[3 * step] = even_b + (T)SQRT_2 * odd_b;
    d[4 * step] = even_b - (T)SQRT_2 * odd_b;
    d[5 * step] = d1 + d5 - (T)2.5 * d3;
}

static inline __attribute__((always_inline)) void
NAME(winograd_a)(VECTOR *y, const int step, const int m)
{
    const VECTOR sum_a = y[step] + y[2 * step], odd_a = y[step] - y[2 * step];
    if (m == 2) {
        y[0] = y[0] + sum_a;
        y[step] = odd_a + y[3 * step];
        return;
    }
    const VECTOR sum_b = y[3 * step] + y[4 * step], odd_b = y[3 * step] - y[4 * step];
    y[0] = y[0] + sum_a + sum_b;
    y[step] = (T)SQRT_HALF * odd_a + (T)SQRT_2 * odd_b;
    y[2 * step] = (T)0.5 * sum_a + (T)2 * sum_b;
    y[3 * step] = (T)(SQRT_HALF / 2) * odd_a + (T)(SQRT_2 * 2) * odd_b + y[5 * step];
}

/* n values from 3. */
static inline __attribute__((always_inline)) void
NAME(winograd_g)(VECTOR *w, const int step, const int m)
{
    const VECTOR w0 = w[0], w1 = w[step], w2 = w[2 * step];
    if (m == 2) {
        w[step] = (T)0.5 * (w0 + w2 + w1);
        w[2 * step] = (T)0.5 * (w0 + w2 - w1);
        w[3 * step] = w2;
        return;
    }
    const VECTOR even_a = (T)(-1.0 / 3) * ((T)2 * w0 + w2), odd_a = (T)(-2 * SQRT_HALF / 3) * w1;
    const VECTOR even_b = (T)(1.0 / 6) * (w0 + (T)2 * w2), odd_b = (T)(SQRT_2 / 6) * w1;
    w[step] = even_a + odd_a;
    w[2 * step] = even_a - odd_a;
    w[3 * step] = even_b + odd_b;
    w[4 * step] = even_b - odd_b;
    w[5 * step] = w2;
}

/* ---- filters --------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void
NAME(winograd_pack_tile)(const T *w, ptrdiff_t channels, ptrdiff_t filters, T *packed, const int m)
{
    const int n = m + 2;
    for (ptrdiff_t filter = 0; filter < filters; filter += LANES) {
        const ptrdiff_t panel = filter / (2 * LANES) * (2 * LANES);
        const ptrdiff_t width = filters - panel <= LANES ? LANES : 2 * LANES;
        const ptrdiff_t used = filters - filter < LANES ? filters - filter : LANES;
        T *to = packed + n * n * channels * panel + (filter - panel);
        T lane[LANES * 9 * LANES] = {0};
        for (ptrdiff_t channel = 0; channel < channels; channel++, to += width) {
            const ptrdiff_t k = channel % LANES, left = channels - channel;
            VECTOR d[6 * 6];
            /* whole lines at once: those of all filters and taps often share a few cache sets */
            for (ptrdiff_t row = 0; row < used * 9 && k == 0; row++)
                for (ptrdiff_t l = 0; l < LANES && l < left; l++)
                    lane[(l * 9 + row % 9) * LANES + row / 9] =
                        w[(filter * 9 + row) * channels + channel + l];
            UNROLL for (int j = 0; j < 3; j++) {
                UNROLL for (int i = 0; i < 3; i++)
                    d[i * n + j] = LOAD(lane + (k * 9 + i * 3 + j) * LANES);
                NAME(winograd_g)(d + j, n, m);
            }
            UNROLL for (int i = 0; i < n; i++) {
                NAME(winograd_g)(d + i * n, 1, m);
                UNROLL for (int j = 0; j < n; j++)
                    STORE(to + (i * n + j) * channels * width, d[i * n + j]);
            }
        }
    }
}

/* w is (filters, 3, 3, channels); packed is [panel][position][channel][lane], where a panel is 2
 * vectors, the last one 1 where that holds its filters: (tile + 2)^2 channels x padded filters. */
static void NAME(winograd_pack)(const void *w, ptrdiff_t channels, ptrdiff_t filters, int tile,
                                void *packed)
{
    if (tile == 2)
        NAME(winograd_pack_tile)(w, channels, filters, packed, 2);
    else
        NAME(winograd_pack_tile)(w, channels, filters, packed, 4);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

/* With `ahead`, fetches what the next tile of the row reads and this one does not. */
static inline __attribute__((always_inline)) void
NAME(winograd_input_vector)(const T *x, ptrdiff_t row, ptrdiff_t pixel, T *v, ptrdiff_t position,
                            const int ahead, const int m)
{
    const int n = m + 2;
    VECTOR d[6 * 6];
    UNROLL for (int j = 0; j < n; j++) {
        UNROLL for (int i = 0; i < n; i++)
            d[i * n + j] = LOAD(x + i * row + j * pixel);
        if (ahead && j >= 2)
            UNROLL for (int i = 0; i < n; i++)
                __builtin_prefetch(x + i * row + (m + j) * pixel, 0, 2);
        NAME(winograd_b)(d + j, n, m);
    }
    UNROLL for (int i = 0; i < n; i++) {
        NAME(winograd_b)(d + i * n, 1, m);
        UNROLL for (int j = 0; j < n; j++)
            STORE(v + (i * n + j) * position, d[i * n + j]);
    }
}

/* LANES channels of the tile whose input begins at (y, x); what lies outside the image is zero. */
static inline __attribute__((always_inline)) void
NAME(winograd_input)(const pycnn_winograd *c, const T *image, ptrdiff_t y, ptrdiff_t x,
                     ptrdiff_t channel, T *v, ptrdiff_t position, const int m)
{
    const int n = m + 2;
    const T *source = image + channel;
    const ptrdiff_t left = c->channels - channel;
    if (y >= 0 && x >= 0 && y + n <= c->height && x + n <= c->width && left >= LANES) {
        NAME(winograd_input_vector)(source + y * c->x_row + x * c->channels, c->x_row, c->channels,
                                    v, position, 1, m);
        return;
    }
    T patch[6 * 6 * LANES] = {0};
    for (ptrdiff_t i = y < 0 ? -y : 0; i < n && y + i < c->height; i++)
        for (ptrdiff_t j = x < 0 ? -x : 0; j < n && x + j < c->width; j++) {
            const T *pixel = source + (y + i) * c->x_row + (x + j) * c->channels;
            if (left >= LANES)
                STORE(patch + (i * n + j) * LANES, LOAD(pixel));
            else
                memcpy(patch + (i * n + j) * LANES, pixel, (size_t)left * sizeof(T));
        }
    NAME(winograd_input_vector)(patch, n * LANES, LANES, v, position, 0, m);
}

/* ---- products -------------------------------------------------------------------------------- */

/* out[t][f] = sum_k v[k / LANES][t][k % LANES] * w[k][f], summed in the order of k.  The filters of
 * the next position follow those of this one and are fetched ahead. */
static inline __attribute__((always_inline)) void
NAME(winograd_product)(const T *v, const T *w, T *out, ptrdiff_t channels,
                       const int tiles, const int vectors)
{
    VECTOR sum[TILE_PIXELS][2];
    UNROLL for (int t = 0; t < tiles; t++)
        UNROLL for (int f = 0; f < vectors; f++)
            sum[t][f] = (VECTOR){0};
    for (ptrdiff_t left = channels; left > 0; left -= LANES, v += tiles * LANES)
        for (ptrdiff_t k = 0; k < LANES && k < left; k++, w += vectors * LANES) {
            VECTOR filter[2];
            UNROLL for (int f = 0; f < vectors; f++) {
                filter[f] = LOAD(w + f * LANES);
                __builtin_prefetch(w + (channels * vectors + f) * LANES, 0, 2);
            }
            UNROLL for (int t = 0; t < tiles; t++)
                UNROLL for (int f = 0; f < vectors; f++)
                    sum[t][f] += v[t * LANES + k] * filter[f];
        }
    UNROLL for (int t = 0; t < tiles; t++)
        UNROLL for (int f = 0; f < vectors; f++)
            STORE(out + (t * vectors + f) * LANES, sum[t][f]);
}

static inline __attribute__((always_inline)) void
NAME(winograd_products)(const T *v, const T *w, T *out, ptrdiff_t channels, ptrdiff_t tiles,
                        ptrdiff_t group, const int vectors)
{
    const ptrdiff_t padded = (channels + LANES - 1) / LANES * LANES;
    for (; tiles > 0; tiles -= group) {
        switch (tiles < group ? tiles : group) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        NAME(winograd_product)(v, w, out, channels, n, vectors);                                   \
        break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if TILE_PIXELS > 6
            CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#endif
#undef CASE
        }
        v += group * padded;
        out += group * vectors * LANES;
    }
}

/* ---- outputs --------------------------------------------------------------------------------- */

/* One vector of filters of one tile; adds to *bad what is NaN where an output is not finite.
 * Fetches where the next tile of the row goes: a store to a line from afar is slow as well. */
static inline __attribute__((always_inline)) void
NAME(winograd_output)(const pycnn_winograd *c, const T *products, ptrdiff_t position, T *out,
                      ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t filters, VECTOR bias,
                      VECTOR *bad, const int m)
{
    const int n = m + 2;
    VECTOR y[6 * 6];
    UNROLL for (int j = 0; j < n; j++) {
        UNROLL for (int i = 0; i < n; i++)
            y[i * n + j] = LOAD(products + (i * n + j) * position);
        UNROLL for (int i = 0; i < m && j < m; i++)
            __builtin_prefetch(out + i * c->out_row + (m + j) * c->filters, 0, 2);
        NAME(winograd_a)(y + j, n, m);
    }
    UNROLL for (int i = 0; i < m; i++) {
        VECTOR check = {0};
        NAME(winograd_a)(y + i * n, 1, m);
        UNROLL for (int j = 0; j < m; j++) {
            y[i * n + j] += bias;
            check += y[i * n + j] * 0;
            y[i * n + j] = NAME(activate)(y[i * n + j], c->activation, (T)c->slope);
        }
        *bad += check;
    }
    if (rows == m && columns == m && filters >= LANES) {
        UNROLL for (int i = 0; i < m; i++)
            UNROLL for (int j = 0; j < m; j++)
                STORE(out + i * c->out_row + j * c->filters, y[i * n + j]);
        return;
    }
    T partial[4 * 4 * LANES];
    UNROLL for (int i = 0; i < m; i++)
        UNROLL for (int j = 0; j < m; j++)
            STORE(partial + (i * m + j) * LANES, y[i * n + j]);
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j++)
            memcpy(out + i * c->out_row + j * c->filters, partial + (i * m + j) * LANES,
                   (size_t)(filters < LANES ? filters : LANES) * sizeof(T));
}

/* ---- the whole ------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void
NAME(winograd_tiles)(const pycnn_winograd *c, const int m)
{
    const ptrdiff_t positions = (m + 2) * (m + 2);
    const ptrdiff_t rows = (c->out_height + m - 1) / m, columns = (c->out_width + m - 1) / m;
    const ptrdiff_t begin = c->first_row * columns, count = c->end_row * columns - begin;
    const ptrdiff_t padded = (c->channels + LANES - 1) / LANES * LANES;
    const ptrdiff_t most = (c->scratch_size / positions - 2 * LANES) / (padded + 2 * LANES);
    const ptrdiff_t blocks = (count + most - 1) / most;

    for (ptrdiff_t block = 0; block < blocks; block++) {
        /* blocks of almost equal size, and groups in each: 15 are 8 + 7, not 14 and a slow 1 */
        const ptrdiff_t first = begin + count * block / blocks;
        const ptrdiff_t tiles = begin + count * (block + 1) / blocks - first;
        const ptrdiff_t groups = (tiles + TILE_PIXELS - 1) / TILE_PIXELS;
        const ptrdiff_t group = (tiles + groups - 1) / groups;
        /* odd numbers of vectors apart, the positions of a tile lie in different cache sets */
        const ptrdiff_t v_step = (tiles * padded / LANES | 1) * LANES;
        const ptrdiff_t y_step = (tiles * 2 | 1) * LANES;
        T *inputs = c->scratch, *products = inputs + positions * v_step;

        for (ptrdiff_t t = 0; t < tiles; t++) {
            const ptrdiff_t row = (first + t) / columns, column = (first + t) % columns;
            const T *image = (const T *)c->x + row / rows * c->x_image;
            const ptrdiff_t at = t % group, left = tiles - (t - at);
            const ptrdiff_t step = left < group ? left : group;
            T *v = inputs + (t - at) * padded + at * LANES;
            for (ptrdiff_t channel = 0; channel < c->channels; channel += LANES)
                NAME(winograd_input)(c, image, row % rows * m - c->top, column * m - c->left,
                                     channel, v + channel * step, v_step, m);
        }

        for (ptrdiff_t panel = c->first_panel; panel < c->end_panel; panel++) {
            const ptrdiff_t filter = panel * 2 * LANES, left = c->filters - filter;
            const ptrdiff_t width = left <= LANES ? LANES : 2 * LANES;
            const T *w = (const T *)c->w + positions * c->channels * filter;
            for (ptrdiff_t p = 0; p < positions; p++, w += c->channels * width) {
                const T *v = inputs + p * v_step;
                T *out = products + p * y_step;
                if (width == LANES)
                    NAME(winograd_products)(v, w, out, c->channels, tiles, group, 1);
                else
                    NAME(winograd_products)(v, w, out, c->channels, tiles, group, 2);
            }
            for (ptrdiff_t t = 0; t < tiles;) {
                const ptrdiff_t row = (first + t) / columns, stop = (row + 1) * columns - first;
                const ptrdiff_t y = row % rows * m;
                const ptrdiff_t down = c->out_height - y < m ? c->out_height - y : m;
                VECTOR bad = {0};
                for (; t < tiles && t < stop; t++) {
                    const ptrdiff_t x = (first + t) % columns * m;
                    const ptrdiff_t across = c->out_width - x < m ? c->out_width - x : m;
                    T *out = (T *)c->out + row / rows * c->out_image + y * c->out_row +
                             x * c->filters + filter;
                    for (ptrdiff_t f = 0; f < width; f += LANES)
                        NAME(winograd_output)(c, products + t * width + f, y_step, out + f, down,
                                              across, left - f,
                                              LOAD((const T *)c->bias + filter + f), &bad, m);
                }
                for (int l = 0; l < LANES; l++)
                    c->retry[row] |= bad[l] != 0;
            }
        }
    }
}

/* scratch_size is at least (tile + 2)^2 (padded channels + 4 vectors): one tile. */
static void NAME(winograd)(const pycnn_winograd *c)
{
    if (c->tile == 2)
        NAME(winograd_tiles)(c, 2);
    else
        NAME(winograd_tiles)(c, 4);
}
