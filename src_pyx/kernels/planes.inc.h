/* Channels last to planes and back, one body for every element type and instruction set.
 *
 *   split       planes[e][j] = x[j*n_planes + e]        for j*n_planes + e < n
 *   interleave  out[j*n_planes + e] = planes[e][j]      for j < n
 *
 * Few planes move by register shuffles, bound by the one shuffle port; more by scalar moves.
 */

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
