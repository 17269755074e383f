/* Convolution of few channels by few filters.
 *
 *   conv[y][f][j] = act(bias[f] + sum over k < taps_y * n_taps of
 *       x[y*x_row + j + taps[k]] * w[k*w_step + f])
 *   out[y][f][j] = conv[y][f][j], or where `pool` is set
 *       max(conv[2*y][f][2*j], conv[2*y][f][2*j+1], conv[2*y+1][f][2*j], conv[2*y+1][f][2*j+1])
 *
 * The vectors of planes lie along the output row.  A tile is one or more rows x filters x vectors of
 * outputs: an image vector serves all its filters and rows, a weight all its vectors.  Every sum runs
 * over k from zero, the bias last: its bits do not depend on the tile.
 *
 * Bound by multiply-adds and by what is issued beside them: where two 512-bit ones start in a cycle, a
 * load that crosses a line, as most here do, was measured to delay them by as much as one of them
 * takes, a broadcast by a quarter of that.  Hence as many rows in a tile as registers allow.  Windows
 * of few taps are bound by what is around their products: hence one list of taps, rows of tiles in
 * one function, and a pool that takes its maxima before anything is stored.
 */

typedef VECTOR NAME(planes_sums)[PLANES_ROWS][PLANES_FILTERS][PLANES_VECTORS];

/* Adds n products to the sums of rows [begin, end); w has row 0's weights, row r's are r*w_row
 * before them. */
static inline __attribute__((always_inline)) void
NAME(planes_add)(const T *x, const ptrdiff_t *taps, ptrdiff_t n, const T *w, ptrdiff_t w_step,
                 ptrdiff_t w_row, NAME(planes_sums) sum, const int begin, const int end,
                 const int filters, const int vectors)
{
    /* Twice, as the loads of taps and of the loop take the place of loads of the image. */
    _Pragma("GCC unroll 2") for (ptrdiff_t k = 0; k < n; k++, w += w_step) {
        OPAQUE(w);      /* no second loop for a step of one, which there is not */
        const T *tap = x + taps[k];
        /* What there are fewer of stays in registers: the weights or the image. */
        if ((end - begin) * filters <= vectors) {
            VECTOR weight[PLANES_ROWS][PLANES_FILTERS];
            UNROLL for (int r = begin; r < end; r++)
                UNROLL for (int f = 0; f < filters; f++)
                    weight[r][f] = w[f - r * w_row] - (VECTOR){0};
            UNROLL for (int v = 0; v < vectors; v++) {
                VECTOR column = LOAD(tap + v * LANES);
                IN_REGISTER(column);
                UNROLL for (int r = begin; r < end; r++)
                    UNROLL for (int f = 0; f < filters; f++)
                        sum[r][f][v] += weight[r][f] * column;
            }
        } else {
            VECTOR column[PLANES_VECTORS];
            UNROLL for (int v = 0; v < vectors; v++) {
                VECTOR loaded = LOAD(tap + v * LANES);
                IN_REGISTER(loaded);
                column[v] = loaded;
            }
            UNROLL for (int r = begin; r < end; r++)
                UNROLL for (int f = 0; f < filters; f++) {
                    VECTOR weight = w[f - r * w_row] - (VECTOR){0};
                    IN_REGISTER(weight);
                    UNROLL for (int v = 0; v < vectors; v++)
                        sum[r][f][v] += weight * column[v];
                }
        }
    }
}

static inline __attribute__((always_inline)) void
NAME(planes_store)(VECTOR (*y)[PLANES_VECTORS], T *out, const int beside, ptrdiff_t out_plane,
                   const int filters, const int vectors)
{
    UNROLL for (int v = 0; v < vectors; v++) {
        VECTOR pixels[PLANES_FILTERS];
        UNROLL for (int f = 0; f < filters; f++)
            pixels[f] = y[f][v];
        if (beside) {
            NAME(interleave_vectors)(pixels, filters);
            UNROLL for (int f = 0; f < filters; f++)
                STORE(out + (v * filters + f) * LANES, pixels[f]);
        } else
            UNROLL for (int f = 0; f < filters; f++)
                STORE(out + f * out_plane + v * LANES, pixels[f]);
    }
}

static inline __attribute__((always_inline)) void
NAME(planes_store_half)(T *out, VECTOR v, const int half)
{
    memcpy(out, (const char *)&v + half * sizeof v / 2, sizeof v / 2);
}

/* The maxima of squares of 2 x 2, of one to three filters.  relu of the largest is the largest relu. */
static inline __attribute__((always_inline)) void
NAME(planes_pool)(VECTOR (*upper)[PLANES_VECTORS], VECTOR (*lower)[PLANES_VECTORS], int relu,
                  T *out, ptrdiff_t out_step, ptrdiff_t out_plane, const int filters,
                  const int vectors)
{
    VECTOR high[PLANES_FILTERS][PLANES_VECTORS];
    UNROLL for (int f = 0; f < filters; f++)
        UNROLL for (int v = 0; v < vectors; v++)
            high[f][v] = NAME(combine)(lower[f][v], upper[f][v], 0);
    /* Two vectors give one, of two filters or of neighbouring columns. */
    if (filters == 2) {
        UNROLL for (int v = 0; v < vectors; v++) {
            VECTOR maxima = NAME(pair_maxima)(high[0][v], high[1][v], 1);
            if (relu)
                maxima = NAME(rectify_sum)(maxima);
            if (out_step == 2) {
                STORE(out + v * LANES, NAME(order_pairs)(maxima, 1, 1));
                continue;
            }
            maxima = NAME(order_pairs)(maxima, 1, 0);
            NAME(planes_store_half)(out + v * LANES / 2, maxima, 0);
            NAME(planes_store_half)(out + v * LANES / 2 + out_plane, maxima, 1);
        }
        return;
    }
    UNROLL for (int f = 0; f < filters; f++)
        UNROLL for (int v = 0; v < vectors; v += 2) {
            const int whole = v + 1 < vectors;
            VECTOR maxima = NAME(pair_maxima)(high[f][v], high[f][whole ? v + 1 : v], 1);
            if (relu)
                maxima = NAME(rectify_sum)(maxima);
            maxima = NAME(order_pairs)(maxima, 1, 0);
            if (whole)
                STORE(out + f * out_plane + v * LANES / 2, maxima);
            else
                NAME(planes_store_half)(out + f * out_plane + v * LANES / 2, maxima, 0);
        }
}

#define FOR_SUMS                                                                                   \
    UNROLL for (int r = 0; r < rows; r++)                                                          \
        UNROLL for (int f = 0; f < filters; f++)                                                   \
            UNROLL for (int v = 0; v < vectors; v++)

/* `tiles` of `rows` x `filters` x `vectors` sums, side by side from column `at` on; one that would go
 * beyond the row's end ends there instead and repeats bits of the tile before it. */
static inline __attribute__((always_inline)) void
NAME(planes_tiles)(const pycnn_planes *p, ptrdiff_t y, ptrdiff_t at, ptrdiff_t tiles,
                   ptrdiff_t first, const int rows, const int filters, const int vectors,
                   const int pool)
{
    const T *x = (const T *)p->x + y * p->x_row, *w = (const T *)p->w + first;
    T *out = (T *)p->out + (pool ? y / 2 : y) * p->out_row + first * p->out_plane;
    const ptrdiff_t n = p->n_taps, w_step = p->w_step, w_row = n * w_step;
    const ptrdiff_t out_row = p->out_row, out_step = p->out_step, out_plane = p->out_plane;
    const ptrdiff_t last = p->n_pixels - vectors * LANES;

    for (; tiles > 0; tiles--, at += vectors * LANES) {
        const ptrdiff_t column = at < last ? at : last;
        const T *tile_x = x + column, *tile_w = w;
        T *tile_out = out + (pool ? column / 2 : column) * out_step;
        const ptrdiff_t *taps = p->taps;
        OPAQUE(tile_x);
        NAME(planes_sums) sum;
        FOR_SUMS sum[r][f][v] = (VECTOR){0};

        /* Row i of the image meets row i - r of the window in row r of the outputs: first in fewer
         * rows, then in all, then in fewer. */
#define ADD(n, begin, end)                                                                         \
    do {                                                                                           \
        const ptrdiff_t n_ = n;                                                                    \
        NAME(planes_add)(tile_x, taps, n_, tile_w, w_step, w_row, sum, begin, end, filters,        \
                         vectors);                                                                 \
        taps += n_;                                                                                \
        tile_w += n_ * w_step;                                                                     \
    } while (0)
        UNROLL for (int r = 1; r < rows; r++)
            ADD(n, 0, r);
        ADD((p->taps_y - (rows - 1)) * n, 0, rows);
        UNROLL for (int r = 1; r < rows; r++)
            ADD(n, r, rows);
#undef ADD

        const T *bias = (const T *)p->bias + first;
        FOR_SUMS sum[r][f][v] += bias[f];
        if (!pool && p->activation == PYCNN_LEAKY_RELU) {
            VECTOR y[PLANES_ROWS * PLANES_FILTERS * PLANES_VECTORS];
            int i = 0, j = 0;
            FOR_SUMS y[i++] = sum[r][f][v];
            NAME(leak)(y, i, p->slope);
            FOR_SUMS sum[r][f][v] = y[j++];
        }
        const int relu = p->activation == PYCNN_RELU;
        if (pool) {
            UNROLL for (int r = 0; r + 1 < rows; r += 2)
                NAME(planes_pool)(sum[r], sum[r + 1], relu, tile_out + r / 2 * out_row, out_step,
                                  out_plane, filters, vectors);
            continue;
        }
        if (relu)
            FOR_SUMS sum[r][f][v] = NAME(rectify_sum)(sum[r][f][v]);
        if (filters > 1 && out_step > 1)
            UNROLL for (int r = 0; r < rows; r++)
                NAME(planes_store)(sum[r], tile_out + r * out_row, 1, out_plane, filters, vectors);
        else
            UNROLL for (int r = 0; r < rows; r++)
                NAME(planes_store)(sum[r], tile_out + r * out_row, 0, out_plane, filters, vectors);
    }
}
#undef FOR_SUMS

/* A function for each kind of tile: in one, the compiler runs out of registers. */
typedef void NAME(planes_function)(const pycnn_planes *, ptrdiff_t y, ptrdiff_t at, ptrdiff_t tiles,
                                   ptrdiff_t first);
#define FUNCTION(rows, filters, vectors, kind, pool)                                               \
    static __attribute__((noinline)) void NAME(planes_##kind##_##rows##filters##vectors)(          \
        const pycnn_planes *p, ptrdiff_t y, ptrdiff_t at, ptrdiff_t tiles, ptrdiff_t first)        \
    {                                                                                              \
        NAME(planes_tiles)(p, y, at, tiles, first, rows, filters, vectors, pool);                  \
    }
#define TILE(rows, filters, vectors) FUNCTION(rows, filters, vectors, tile, 0)
PLANES_TILES(TILE)
#undef TILE
#define TILE(rows, filters, vectors) FUNCTION(rows, filters, vectors, pool, 1)
PLANES_POOL_TILES(TILE)
#undef TILE
#undef FUNCTION

/* [pool][rows - 1][filters - 1][vectors - 1] */
static NAME(planes_function) *const
    NAME(planes_functions)[2][PLANES_ROWS][PLANES_FILTERS][PLANES_VECTORS] = {
#define TILE(rows, filters, vectors)                                                               \
    [0][rows - 1][filters - 1][vectors - 1] = NAME(planes_tile_##rows##filters##vectors),
        PLANES_TILES(TILE)
#undef TILE
#define TILE(rows, filters, vectors)                                                               \
    [1][rows - 1][filters - 1][vectors - 1] = NAME(planes_pool_##rows##filters##vectors),
        PLANES_POOL_TILES(TILE)
#undef TILE
};

/* n_pixels >= LANES: the caller sends shorter rows to `direct`. */
static void NAME(planes)(const pycnn_planes *p)
{
    static const ptrdiff_t most_vectors[2][PLANES_FILTERS] = {PLANES_MOST_VECTORS,
                                                              PLANES_POOL_MOST_VECTORS};
    const ptrdiff_t vectors = (p->n_pixels - 1) / LANES + 1;
    ptrdiff_t filters, rows;
    for (ptrdiff_t first = 0; first < p->n_filters; first += filters) {
        const ptrdiff_t left = p->n_filters - first;
        /* Of pooled filters one alone is slow: it goes with two others. */
        const ptrdiff_t most = !p->pool ? PLANES_FILTERS : left % 2 ? 3 : 2;
        filters = (left - 1) / ((left - 1) / most + 1) + 1;
        ptrdiff_t tiles = (vectors - 1) / most_vectors[p->pool][filters - 1] + 1;
        if (tiles == 1 && p->n_pixels % LANES > 0)
            tiles = 2;      /* which overlap */
        /* Of almost equal width: some have a vector more. */
        const ptrdiff_t wide = vectors / tiles, wider = vectors % tiles;
        /* As many rows as leave all sums in registers; the last begins no later than one image row
         * after the first has ended. */
        ptrdiff_t most_rows = p->share_rows ? PLANES_MOST_ROWS : 1;
        while (most_rows * filters * (wide + (wider > 0)) > PLANES_SUMS
               || most_rows > p->taps_y + 1)
            most_rows /= 2;
        for (ptrdiff_t y = 0; y < p->n_rows; y += rows) {
            rows = most_rows;
            while (rows > p->n_rows - y)
                rows /= 2;
            NAME(planes_function) *const *kinds =
                NAME(planes_functions)[p->pool][rows - 1][filters - 1];
            if (wider > 0)
                kinds[wide](p, y, 0, wider, first);
            kinds[wide - 1](p, y, wider * (wide + 1) * LANES, tiles - wider, first);
        }
    }
}
