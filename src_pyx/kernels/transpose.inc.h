/* Rows to columns, and planes to pixels and back.
 *
 *   transpose   out[c*out_step + r] = x[r*x_step + c]   for r < rows, c < columns
 *   split       planes[e][j] = x[j*n_planes + e]        for j*n_planes + e < n
 *   interleave  out[j*n_planes + e] = planes[e][j]      for j < n
 *
 * transpose moves squares of LANES x LANES, each in log2(LANES) shuffles a vector; split and
 * interleave move few planes likewise, and more by transpose.  What is left at an end is moved with
 * some of what lies before it once more.  Bound by the shuffle port.
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
    const ptrdiff_t last_row = n_rows - LANES, last_column = n_columns - LANES;
    if (last_row < 0 || last_column < 0) {
        for (ptrdiff_t c = 0; c < n_columns; c++)
            for (ptrdiff_t r = 0; r < n_rows; r++)
                to[c * out_step + r] = from[r * x_step + c];
        return;
    }
    /* The longer axis outside, so that the lines of the other are still in the cache: a cache line of
     * it at a time. */
    const ptrdiff_t line = 64 / sizeof(T);
#define SQUARE(r, c)                                                                               \
    do {                                                                                           \
        const ptrdiff_t row_ = (r) < last_row ? (r) : last_row;                                    \
        const ptrdiff_t column_ = (c) < last_column ? (c) : last_column;                           \
        NAME(transpose_square)(from + row_ * x_step + column_, x_step,                             \
                               to + column_ * out_step + row_, out_step);                          \
    } while (0)
    if (n_rows > n_columns)
        for (ptrdiff_t r = 0; r < n_rows; r += line)
            for (ptrdiff_t c = 0; c < n_columns; c += LANES)
                for (ptrdiff_t i = r; i < r + line && i < n_rows; i += LANES)
                    SQUARE(i, c);
    else
        for (ptrdiff_t c = 0; c < n_columns; c += line)
            for (ptrdiff_t r = 0; r < n_rows; r += LANES)
                for (ptrdiff_t i = c; i < c + line && i < n_columns; i += LANES)
                    SQUARE(r, i);
#undef SQUARE
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

/* Returns from a call with their number a constant, where planes are few. */
#define FOR_FEW_PLANES(function, from, n, to, plane_step)                                          \
    switch (n_planes) {                                                                            \
    case 2: NAME(function)(from, 2, n, to, plane_step); return;                                    \
    case 3: NAME(function)(from, 3, n, to, plane_step); return;                                    \
    case 4: NAME(function)(from, 4, n, to, plane_step); return;                                    \
    case 5: NAME(function)(from, 5, n, to, plane_step); return;                                    \
    case 6: NAME(function)(from, 6, n, to, plane_step); return;                                    \
    case 7: NAME(function)(from, 7, n, to, plane_step); return;                                    \
    case 8: NAME(function)(from, 8, n, to, plane_step); return;                                    \
    }

/* LANES columns, from x + j*n_planes to the planes. */
static inline __attribute__((always_inline)) void
NAME(split_columns)(const T *x, const int n_planes, T *planes, ptrdiff_t plane_step, ptrdiff_t j)
{
    VECTOR v[8];
    UNROLL for (int e = 0; e < n_planes; e++)
        v[e] = LOAD(x + j * n_planes + e * LANES);
    NAME(split_vectors)(v, n_planes);
    UNROLL for (int e = 0; e < n_planes; e++)
        STORE(planes + e * plane_step + j, v[e]);
}

static inline __attribute__((always_inline)) void
NAME(split_planes)(const T *x, const int n_planes, ptrdiff_t n, T *planes, ptrdiff_t plane_step)
{
    const ptrdiff_t columns = n / n_planes;
    ptrdiff_t j = 0;
    for (; j + LANES <= columns; j += LANES)
        NAME(split_columns)(x, n_planes, planes, plane_step, j);
    if (j > 0 && j < columns) {
        NAME(split_columns)(x, n_planes, planes, plane_step, columns - LANES);
        j = columns;
    }
    for (ptrdiff_t i = j * n_planes; i < n; i++)
        planes[i % n_planes * plane_step + i / n_planes] = x[i];
}

static void NAME(split)(const void *x, ptrdiff_t n_planes, ptrdiff_t n_elements, void *planes,
                        ptrdiff_t plane_step)
{
    FOR_FEW_PLANES(split_planes, x, n_elements, planes, plane_step)
    const ptrdiff_t columns = n_elements / n_planes;
    NAME(transpose)(x, n_planes, columns, n_planes, planes, plane_step);
    for (ptrdiff_t i = columns * n_planes; i < n_elements; i++)
        ((T *)planes)[(i - columns * n_planes) * plane_step + columns] = ((const T *)x)[i];
}

/* The inverse. */
static inline __attribute__((always_inline)) void
NAME(interleave_columns)(const T *planes, const int n_planes, T *out, ptrdiff_t plane_step,
                         ptrdiff_t j)
{
    VECTOR v[8];
    UNROLL for (int e = 0; e < n_planes; e++)
        v[e] = LOAD(planes + e * plane_step + j);
    NAME(interleave_vectors)(v, n_planes);
    UNROLL for (int e = 0; e < n_planes; e++)
        STORE(out + j * n_planes + e * LANES, v[e]);
}

static inline __attribute__((always_inline)) void
NAME(interleave_planes)(const T *planes, const int n_planes, ptrdiff_t n, T *out,
                        ptrdiff_t plane_step)
{
    ptrdiff_t j = 0;
    for (; j + LANES <= n; j += LANES)
        NAME(interleave_columns)(planes, n_planes, out, plane_step, j);
    if (j > 0 && j < n) {
        NAME(interleave_columns)(planes, n_planes, out, plane_step, n - LANES);
        j = n;
    }
    for (; j < n; j++)
        for (int e = 0; e < n_planes; e++)
            out[j * n_planes + e] = planes[e * plane_step + j];
}

static void NAME(interleave)(const void *planes, ptrdiff_t n_planes, ptrdiff_t n_columns, void *out,
                             ptrdiff_t plane_step)
{
    FOR_FEW_PLANES(interleave_planes, planes, n_columns, out, plane_step)
    NAME(transpose)(planes, plane_step, n_planes, n_columns, out, n_planes);
}
#undef FOR_FEW_PLANES
