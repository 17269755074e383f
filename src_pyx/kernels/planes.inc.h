/* Convolution of few channels by few filters, and the transpositions around it.
 *
 *   planes      out[y][f][j] = act(bias[f] + sum over ky, t of
 *                   x[y*x_row + ky*tap_row + j + taps[t]] * w[ky*w_row + t*w_step + f])
 *   transpose   out[c*out_step + r] = x[r*x_step + c]   for r < rows, c < columns
 *   split       planes[e][j] = x[j*n_planes + e]        for j*n_planes + e < n
 *   interleave  out[j*n_planes + e] = planes[e][j]      for j < n
 *
 * The vectors of planes lie along the output row.  A tile is one or more rows x filters x vectors of
 * outputs: an image vector serves all its filters and rows, a weight all its vectors, so that loads,
 * which mostly cross a cache line, take less time than the multiply-adds.  Every sum runs over ky,
 * then t, from zero, the bias last: its bits do not depend on the tile.
 *
 * transpose moves squares of LANES x LANES, each in log2(LANES) shuffles a vector; split and
 * interleave move few planes likewise, more by scalar moves.  Bound by the shuffle port.
 */

/* After log2(LANES) perfect shuffles, row r of the square has become its column r. */
static inline __attribute__((always_inline)) void
NAME(transpose_square)(const T *x, ptrdiff_t x_step, T *out, ptrdiff_t out_step)
{
    VECTOR v[LANES];
    NAME(mask) low, high;
    UNROLL for (int i = 0; i < LANES; i++) {
        v[i] = LOAD(x + i * x_step);
        __builtin_prefetch(x + i * x_step + 8 * LANES);
        low[i] = i / 2 + i % 2 * LANES;
        high[i] = low[i] + LANES / 2;
    }
    UNROLL for (int left = LANES; left > 1; left /= 2) {
        VECTOR shuffled[LANES];
        UNROLL for (int i = 0; i < LANES / 2; i++) {
            shuffled[2 * i] = SHUFFLE(v[i], v[i + LANES / 2], low);
            shuffled[2 * i + 1] = SHUFFLE(v[i], v[i + LANES / 2], high);
        }
        UNROLL for (int i = 0; i < LANES; i++)
            v[i] = shuffled[i];
    }
    UNROLL for (int i = 0; i < LANES; i++)
        STORE(out + i * out_step, v[i]);
}

static void NAME(transpose)(const void *x, ptrdiff_t x_step, ptrdiff_t n_rows, ptrdiff_t n_columns,
                            void *out, ptrdiff_t out_step)
{
    const T *from = x;
    T *to = out;
    const ptrdiff_t rows = n_rows / LANES * LANES, columns = n_columns / LANES * LANES;
    for (ptrdiff_t c = 0; c < columns; c += LANES)
        for (ptrdiff_t r = 0; r < rows; r += LANES)
            NAME(transpose_square)(from + r * x_step + c, x_step, to + c * out_step + r, out_step);
    for (ptrdiff_t c = 0; c < n_columns; c++)
        for (ptrdiff_t r = c < columns ? rows : 0; r < n_rows; r++)
            to[c * out_step + r] = from[r * x_step + c];
}

/* Lane i is that of vector (first + i) % n. */
static inline __attribute__((always_inline)) VECTOR
NAME(select)(const VECTOR *x, const int n, const int first)
{
    VECTOR selected = x[0];
    UNROLL for (int v = 1; v < n; v++) {
        NAME(mask) index;
        UNROLL for (int i = 0; i < LANES; i++)
            index[i] = (first + i) % n == v ? LANES + i : i;
        selected = SHUFFLE(selected, x[v], index);
    }
    return selected;
}

/* The largest odd divisor of n <= 8, a constant where n is one. */
#define ODD(n) ((n) % 8 == 0 ? (n) / 8 : (n) % 4 == 0 ? (n) / 4 : (n) % 2 == 0 ? (n) / 2 : (n))

/* One vector of each of n planes becomes n vectors of whole pixels: lane i of the v-th is column
 * (v*LANES + i) / n of plane (v*LANES + i) % n.
 *
 * Halves of an even number of planes are laid into each other, first with first.  The columns of an
 * odd number each have a lane of their own, whatever the vector: one shuffle brings them there. */
static inline __attribute__((always_inline)) void
NAME(interleave_vectors)(VECTOR *v, const int n)
{
    const int odd = ODD(n), parts = n / odd;    /* in the end, v[plane * parts + part] */
    VECTOR laid[8];
    NAME(mask) low, high;
    UNROLL for (int i = 0; i < LANES; i++) {
        low[i] = i / 2 + i % 2 * LANES;
        high[i] = low[i] + LANES / 2;
    }
    UNROLL for (int planes = n; planes > odd; planes /= 2) {
        UNROLL for (int i = 0; i < n / 2; i++) {
            laid[2 * i] = SHUFFLE(v[i], v[i + n / 2], low);
            laid[2 * i + 1] = SHUFFLE(v[i], v[i + n / 2], high);
        }
        UNROLL for (int i = 0; i < n; i++)
            v[i] = laid[i];
    }
    if (odd == 1)
        return;
    UNROLL for (int part = 0; part < parts; part++) {
        VECTOR plane[8];
        UNROLL for (int e = 0; e < odd; e++) {
            NAME(mask) place;
            UNROLL for (int j = 0; j < LANES; j++)
                place[(j * odd + e) % LANES] = j;
            plane[e] = SHUFFLE(v[e * parts + part], v[e * parts + part], place);
        }
        UNROLL for (int q = 0; q < odd; q++)
            laid[part * odd + q] = NAME(select)(plane, odd, q * (int)LANES);
    }
    UNROLL for (int i = 0; i < n; i++)
        v[i] = laid[i];
}

/* The inverse: n vectors of whole pixels become one vector of each plane. */
static inline __attribute__((always_inline)) void
NAME(split_vectors)(VECTOR *v, const int n)
{
    const int odd = ODD(n), parts = n / odd;
    VECTOR split[8];
    if (odd > 1) {
        UNROLL for (int part = 0; part < parts; part++)
            UNROLL for (int e = 0; e < odd; e++) {
                /* lane i comes from the one vector q that holds plane e there */
                VECTOR mixed = v[part * odd];
                NAME(mask) place;
                UNROLL for (int q = 1; q < odd; q++) {
                    NAME(mask) index;
                    UNROLL for (int i = 0; i < LANES; i++)
                        index[i] = (q * LANES + i) % odd == e ? LANES + i : i;
                    mixed = SHUFFLE(mixed, v[part * odd + q], index);
                }
                UNROLL for (int j = 0; j < LANES; j++)
                    place[j] = (j * odd + e) % LANES;
                split[e * parts + part] = SHUFFLE(mixed, mixed, place);
            }
        UNROLL for (int i = 0; i < n; i++)
            v[i] = split[i];
    }
    NAME(mask) even;
    UNROLL for (int i = 0; i < LANES; i++)
        even[i] = 2 * i;
    UNROLL for (int planes = odd; planes < n; planes *= 2) {
        UNROLL for (int i = 0; i < n / 2; i++) {
            split[i] = SHUFFLE(v[2 * i], v[2 * i + 1], even);
            split[i + n / 2] = SHUFFLE(v[2 * i], v[2 * i + 1], even + 1);
        }
        UNROLL for (int i = 0; i < n; i++)
            v[i] = split[i];
    }
}

static inline __attribute__((always_inline)) void
NAME(split_planes)(const T *x, const int n_planes, ptrdiff_t n, T *planes, ptrdiff_t plane_step)
{
    const ptrdiff_t whole = n / n_planes / LANES * LANES;
    for (ptrdiff_t j = 0; j < whole; j += LANES) {
        VECTOR v[8];
        UNROLL for (int e = 0; e < n_planes; e++)
            v[e] = LOAD(x + j * n_planes + e * LANES);
        NAME(split_vectors)(v, n_planes);
        UNROLL for (int e = 0; e < n_planes; e++)
            STORE(planes + e * plane_step + j, v[e]);
    }
    for (ptrdiff_t i = whole * n_planes; i < n; i++)
        planes[i % n_planes * plane_step + i / n_planes] = x[i];
}

static void NAME(split)(const void *x, ptrdiff_t n_planes, ptrdiff_t n_elements, void *planes,
                        ptrdiff_t plane_step)
{
    switch (n_planes) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        NAME(split_planes)(x, n, n_elements, planes, plane_step);                                  \
        return;
        CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
    }
    const T *from = x;
    for (ptrdiff_t e = 0; e < n_planes; e++) {
        T *plane = (T *)planes + e * plane_step;
        for (ptrdiff_t i = e; i < n_elements; i += n_planes)
            *plane++ = from[i];
    }
}

static inline __attribute__((always_inline)) void
NAME(interleave_planes)(const T *planes, const int n_planes, ptrdiff_t n, T *out,
                        ptrdiff_t plane_step)
{
    ptrdiff_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        VECTOR v[8];
        UNROLL for (int e = 0; e < n_planes; e++)
            v[e] = LOAD(planes + e * plane_step + j);
        NAME(interleave_vectors)(v, n_planes);
        UNROLL for (int e = 0; e < n_planes; e++)
            STORE(out + j * n_planes + e * LANES, v[e]);
    }
    for (; j < n; j++)
        for (int e = 0; e < n_planes; e++)
            out[j * n_planes + e] = planes[e * plane_step + j];
}

static void NAME(interleave)(const void *planes, ptrdiff_t n_planes, ptrdiff_t n_columns, void *out,
                             ptrdiff_t plane_step)
{
    switch (n_planes) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        NAME(interleave_planes)(planes, n, n_columns, out, plane_step);                            \
        return;
        CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
    }
    const T *from = planes;
    T *pixel = out;
    for (ptrdiff_t j = 0; j < n_columns; j++)
        for (ptrdiff_t e = 0; e < n_planes; e++)
            *pixel++ = from[e * plane_step + j];
}

/* ---- convolution ------------------------------------------------------------------------------ */

/* Adds one row of the image to the sums of the rows of outputs [begin, end); w is the row of the
 * filter that the first row of outputs, were it in reach, would meet there. */
static inline __attribute__((always_inline)) void
NAME(planes_row)(const pycnn_planes *p, const T *x, const T *w,
                 VECTOR (*sum)[PLANES_FILTERS][PLANES_VECTORS], const int begin, const int end,
                 const int filters, const int vectors, ptrdiff_t last)
{
    const ptrdiff_t w_step = p->w_step, w_row = p->w_row;
    for (ptrdiff_t t = 0; t < p->n_taps; t++, w += w_step) {
        const T *xt = x + p->taps[t];
        /* What there are fewer of stays in registers: the weights or the image. */
        if ((end - begin) * filters <= vectors) {
            VECTOR weight[PLANES_ROWS][PLANES_FILTERS];
            UNROLL for (int r = begin; r < end; r++)
                UNROLL for (int f = 0; f < filters; f++)
                    weight[r][f] = w[f - r * w_row] - (VECTOR){0};
            UNROLL for (int v = 0; v < vectors; v++) {
                VECTOR column = LOAD(xt + (v < vectors - 1 ? v * LANES : last));
                IN_REGISTER(column);
                UNROLL for (int r = begin; r < end; r++)
                    UNROLL for (int f = 0; f < filters; f++)
                        sum[r][f][v] += weight[r][f] * column;
            }
        } else {
            VECTOR column[PLANES_VECTORS];
            UNROLL for (int v = 0; v < vectors; v++)
                column[v] = LOAD(xt + (v < vectors - 1 ? v * LANES : last));
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

/* `rows` x `filters` x `vectors` sums, rows <= taps_y, from column `at` on.  The last vector ends at
 * the last column at the latest: it may overlap the one before it and repeat its bits. */
static inline __attribute__((always_inline)) void
NAME(planes_tile)(const pycnn_planes *from, ptrdiff_t y, ptrdiff_t at, ptrdiff_t first,
                  const int rows, const int filters, const int vectors)
{
    const pycnn_planes copy = *from, *p = &copy;    /* which no store can change */
    const ptrdiff_t end = p->n_pixels - at - LANES;
    const ptrdiff_t last = end < (vectors - 1) * LANES ? end : (vectors - 1) * LANES;
    const T *x = (const T *)p->x + y * p->x_row + at, *w = (const T *)p->w + first;
    const T *bias = (const T *)p->bias + first;
    VECTOR sum[PLANES_ROWS][PLANES_FILTERS][PLANES_VECTORS];

    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int f = 0; f < filters; f++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[r][f][v] = (VECTOR){0};

    /* Row i of the image meets row i - r of the filter in row r of the outputs: first in fewer rows,
     * then in all, then in fewer. */
#define ROW(begin, end)                                                                            \
    do {                                                                                           \
        NAME(planes_row)(p, x, w, sum, begin, end, filters, vectors, last);                        \
        x += p->tap_row;                                                                           \
        w += p->w_row;                                                                             \
    } while (0)
    UNROLL for (int r = 1; r < rows; r++)
        ROW(0, r);
    for (ptrdiff_t i = rows - 1; i < p->taps_y; i++)
        ROW(0, rows);
    UNROLL for (int r = 1; r < rows; r++)
        ROW(r, rows);
#undef ROW

    UNROLL for (int r = 0; r < rows; r++) {
        T *out = (T *)p->out + (y + r) * p->out_row + first * p->out_plane + at * p->out_step;
        UNROLL for (int v = 0; v < vectors; v++) {
            const ptrdiff_t column = v < vectors - 1 ? v * LANES : last;
            VECTOR pixels[PLANES_FILTERS];
            UNROLL for (int f = 0; f < filters; f++)
                pixels[f] = sum[r][f][v] + bias[f];
            if (p->activation != PYCNN_LINEAR)
                UNROLL for (int f = 0; f < filters; f++)
                    pixels[f] = NAME(activate)(pixels[f], p->activation, (T)p->slope);
            if (p->out_step > 1)
                NAME(interleave_vectors)(pixels, filters);
            UNROLL for (int f = 0; f < filters; f++)
                STORE(out + column * p->out_step + (p->out_step > 1 ? f * LANES : f * p->out_plane),
                      pixels[f]);
        }
    }
}

/* A function for each kind of tile: in one, the compiler runs out of registers. */
#define TILE(rows, filters, vectors)                                                               \
    static __attribute__((noinline)) void NAME(planes_tile_##rows##filters##vectors)(              \
        const pycnn_planes *p, ptrdiff_t y, ptrdiff_t at, ptrdiff_t first)                         \
    {                                                                                              \
        NAME(planes_tile)(p, y, at, first, rows, filters, vectors);                                \
    }
PLANES_TILES(TILE)
#undef TILE

/* [rows - 1][filters - 1][vectors - 1] */
static void (*const NAME(planes_tiles)[PLANES_ROWS][PLANES_FILTERS][PLANES_VECTORS])(
    const pycnn_planes *, ptrdiff_t, ptrdiff_t, ptrdiff_t) = {
#define TILE(rows, filters, vectors)                                                               \
    [rows - 1][filters - 1][vectors - 1] = NAME(planes_tile_##rows##filters##vectors),
    PLANES_TILES(TILE)
#undef TILE
};

/* n_pixels >= LANES: the caller sends shorter rows to `direct`.  Tiles of almost equal width. */
static void NAME(planes)(const pycnn_planes *p)
{
    static const ptrdiff_t most_rows[] = PLANES_MOST_ROWS, most_vectors[] = PLANES_MOST_VECTORS;
    const ptrdiff_t all = (p->n_pixels + LANES - 1) / LANES;
    ptrdiff_t filters, rows;
    for (ptrdiff_t first = 0; first < p->n_filters; first += filters) {
        filters = p->n_filters - first < PLANES_FILTERS ? p->n_filters - first : PLANES_FILTERS;
        const ptrdiff_t most = most_vectors[filters - 1], tiles = (all + most - 1) / most;
        const ptrdiff_t wide = all / tiles, wider = all % tiles;  /* so many have one vector more */
        for (ptrdiff_t y = 0; y < p->n_rows; y += rows) {
            rows = most_rows[filters - 1];
            /* Rows share image rows where these are as far apart as those of the window. */
            if (rows > p->taps_y || rows > p->n_rows - y || p->x_row != p->tap_row)
                rows = 1;
            for (ptrdiff_t tile = 0, at = 0; tile < tiles; tile++) {
                const ptrdiff_t vectors = tile < wider ? wide + 1 : wide;
                NAME(planes_tiles)[rows - 1][filters - 1][vectors - 1](p, y, at, first);
                at += vectors * LANES;
            }
        }
    }
}
