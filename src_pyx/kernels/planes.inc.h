/* Transpositions, one body for every element type and instruction set.
 *
 *   transpose   out[c*out_step + r] = x[r*x_step + c]   for r < rows, c < columns
 *   split       planes[e][j] = x[j*n_planes + e]        for j*n_planes + e < n
 *   interleave  out[j*n_planes + e] = planes[e][j]      for j < n
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

static inline __attribute__((always_inline)) void
NAME(split_planes)(const T *x, const int n_planes, ptrdiff_t n, T *planes, ptrdiff_t plane_step)
{
    const ptrdiff_t whole = n / n_planes / LANES * LANES;
    for (ptrdiff_t j = 0; j < whole; j += LANES) {
        VECTOR pixels[8];
        UNROLL for (int v = 0; v < n_planes; v++)
            pixels[v] = LOAD(x + j * n_planes + v * LANES);
        UNROLL for (int e = 0; e < n_planes; e++)
            STORE(planes + e * plane_step + j, NAME(pick)(pixels, n_planes, e, n_planes));
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
        CASE(2) CASE(3) CASE(4) CASE(6)
#undef CASE
    }
    const T *from = x;
    for (ptrdiff_t e = 0; e < n_planes; e++) {
        T *plane = (T *)planes + e * plane_step;
        for (ptrdiff_t i = e; i < n_elements; i += n_planes)
            *plane++ = from[i];
    }
}

/* Lane i of the v-th of n_planes output vectors is column (v*LANES + i) / n_planes of plane
 * (v*LANES + i) % n_planes. */
static inline __attribute__((always_inline)) void
NAME(interleave_planes)(const T *planes, const int n_planes, ptrdiff_t n, T *out,
                        ptrdiff_t plane_step)
{
    ptrdiff_t j = 0;
    for (; j + LANES <= n; j += LANES) {
        UNROLL for (int v = 0; v < n_planes; v++) {
            VECTOR pixels = LOAD(planes + j);
            UNROLL for (int e = 0; e < n_planes; e++) {
                NAME(mask) index;
                UNROLL for (int i = 0; i < LANES; i++) {
                    const int at = v * (int)LANES + i;
                    index[i] = at % n_planes == e ? LANES + at / n_planes : i;
                }
                const VECTOR plane = LOAD(planes + e * plane_step + j);
                pixels = SHUFFLE(pixels, plane, index);
            }
            STORE(out + j * n_planes + v * LANES, pixels);
        }
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
