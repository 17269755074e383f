/* The convolution tiles, one body for every element type and instruction set.
 *
 * The including file defines T (float or double), VECTOR_BYTES, TILE_PIXELS and NAME(x).
 *
 *   direct     out[p][f] = act(bias[f] + sum_t sum_{k < run} x[p*x_step + taps[t].x + k]
 *                                                          * w[(taps[t].w + k) * w_step + f])
 *   multiply   out[f] = act(bias[f] + sum_{k < run} x[k] * w[k*w_step + f])
 *
 * Every sum runs over t (then k) in order, starting from zero, the bias last: the bits of an output
 * do not depend on the tile it falls in.
 *
 * direct is bound by the multiply-add ports: TILE_PIXELS x 2 accumulators, two filter vectors and one
 * broadcast stay in registers, so each product costs one multiply-add and half a broadcast load.
 * multiply is bound by reading the matrix once.
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

/* ---- direct ---------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void
NAME(direct_store)(const pycnn_line *line, VECTOR (*sum)[2], T *out, const int pixels,
                   const int vectors, int activation)
{
    const T *bias = line->bias;
    const int whole = line->n_filters == vectors * LANES;
    UNROLL for (int p = 0; p < pixels; p++) {
        T *row = out + p * line->out_step;
        T partial[2 * LANES];
        UNROLL for (int v = 0; v < vectors; v++) {
            VECTOR y = NAME(activate)(sum[p][v] + LOAD(bias + v * LANES), activation,
                                      (T)line->slope);
            STORE((whole ? row : partial) + v * LANES, y);
        }
        if (!whole)
            memcpy(row, partial, (size_t)line->n_filters * sizeof(T));
    }
}

static inline __attribute__((always_inline)) void
NAME(direct_tile)(const pycnn_line *line, const T *x, const T *sums, T *out, const int pixels,
                  const int vectors)
{
    const ptrdiff_t x_step = line->x_step, w_step = line->w_step;
    VECTOR sum[TILE_PIXELS][2];

    UNROLL for (int p = 0; p < pixels; p++)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[p][v] = (VECTOR){0};
    if (sums != NULL)
        UNROLL for (int p = 0; p < pixels; p++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[p][v] = LOAD(sums + (p * vectors + v) * LANES);

    for (ptrdiff_t t = 0; t < line->n_taps; t++) {
        /* Every fifth pixel has a pointer of its own: one, two, three and four steps from it are
         * within reach, and everything stays in the integer registers. */
        const T *xt[3] = {x + line->taps[t].x};
        xt[1] = xt[0] + (pixels > 5 ? 5 * x_step : 0);
        xt[2] = xt[0] + (pixels > 10 ? 10 * x_step : 0);
        OPAQUE(xt[1]);
        OPAQUE(xt[2]);
        const T *wt = (const T *)line->w + line->taps[t].w * w_step;
        for (ptrdiff_t k = 0; k < line->run; k++, wt += w_step) {
            VECTOR filter[2];
            UNROLL for (int v = 0; v < vectors; v++) {
                filter[v] = LOAD(wt + v * LANES);
                __builtin_prefetch(wt + line->w_ahead + v * LANES);
            }
            UNROLL for (int p = 0; p < pixels; p++)
                UNROLL for (int v = 0; v < vectors; v++)
                    sum[p][v] += xt[p / 5][p % 5 * x_step + k] * filter[v];
        }
    }

    if (line->activation == PYCNN_LINEAR)
        NAME(direct_store)(line, sum, out, pixels, vectors, PYCNN_LINEAR);
    else
        NAME(direct_store)(line, sum, out, pixels, vectors, line->activation);
}

/* Tiles of almost equal height: fifteen pixels are 8 + 7, not 14 and a slow 1. */
static inline __attribute__((always_inline)) void
NAME(direct_line)(const pycnn_line *from, const int vectors)
{
    const pycnn_line copy = *from, *line = &copy;   /* which no store can change */
    const T *x = line->x, *sums = line->sums;
    T *out = line->out;
    /* Pixels a multiple of 4 KiB apart share the eight or twelve ways of one set of the L1 cache. */
    const int aliased = line->x_step * (ptrdiff_t)sizeof(T) % 4096 == 0;
    const ptrdiff_t most = TILE_PIXELS > 7 && aliased ? 7 : TILE_PIXELS;
    ptrdiff_t tiles = (line->n_pixels + most - 1) / most;
    for (ptrdiff_t left = line->n_pixels; left > 0; tiles--) {
        const ptrdiff_t pixels = (left + tiles - 1) / tiles;
        switch (pixels) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        NAME(direct_tile)(line, x, sums, out, n, vectors);                                         \
        break;
            CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if TILE_PIXELS > 6
            CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#endif
#undef CASE
        }
        x += pixels * line->x_step;
        sums += sums != NULL ? pixels * vectors * LANES : 0;
        out += pixels * line->out_step;
        left -= pixels;
    }
}

static void NAME(direct)(const pycnn_line *line)
{
    if (line->n_filters <= LANES)
        NAME(direct_line)(line, 1);
    else
        NAME(direct_line)(line, 2);
}

/* ---- one vector through a matrix -------------------------------------------------------------- */

/* Adds `rows` rows of the matrix to the sums of `vectors` vectors in `out`, or starts them. */
static inline __attribute__((always_inline)) void
NAME(multiply_vectors)(const T *x, const T *w, ptrdiff_t w_step, T *out, int start, const int rows,
                       const int vectors)
{
    VECTOR sum[2] = {{0}, {0}};
    if (!start)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] = LOAD(out + v * LANES);
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] += x[i] * LOAD(w + i * w_step + v * LANES);
    UNROLL for (int v = 0; v < vectors; v++)
        STORE(out + v * LANES, sum[v]);
}

/* Adds `rows` rows of the matrix, from row k on, to the sums in `out`: of each row whole cache lines,
 * two vectors, before the next. */
static inline __attribute__((always_inline)) void
NAME(multiply_rows)(const pycnn_line *line, ptrdiff_t k, const int rows)
{
    const ptrdiff_t w_step = line->w_step, n = line->n_filters;
    const T *x = (const T *)line->x + k, *w = (const T *)line->w + k * w_step;
    T *out = line->out;
    ptrdiff_t f = 0;
    for (; f + 2 * LANES <= n; f += 2 * LANES)
        NAME(multiply_vectors)(x, w + f, w_step, out + f, k == 0, rows, 2);
    for (; f + LANES <= n; f += LANES)
        NAME(multiply_vectors)(x, w + f, w_step, out + f, k == 0, rows, 1);
    for (; f < n; f++) {
        T sum = k > 0 ? out[f] : 0;
        UNROLL for (int i = 0; i < rows; i++)
            sum += x[i] * w[i * w_step + f];
        out[f] = sum;
    }
}

/* Whole rows, so that the matrix is read from front to back; run > 0. */
static void NAME(multiply)(const pycnn_line *line)
{
    const T *bias = line->bias;
    T *out = line->out;
    ptrdiff_t k = 0, f = 0;
    for (; k + 8 <= line->run; k += 8)
        NAME(multiply_rows)(line, k, 8);
    for (; k < line->run; k++)
        NAME(multiply_rows)(line, k, 1);
    for (; f + LANES <= line->n_filters; f += LANES)
        STORE(out + f, NAME(activate)(LOAD(out + f) + LOAD(bias + f), line->activation,
                                      (T)line->slope));
    for (; f < line->n_filters; f++) {
        const T y = out[f] + bias[f];
        out[f] = line->activation == PYCNN_LINEAR
                     ? y
                     : NAME(rectify_one)(y, line->activation == PYCNN_LEAKY_RELU, (T)line->slope);
    }
}
