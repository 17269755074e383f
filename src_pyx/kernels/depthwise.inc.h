/* Depthwise convolution, one filter a channel, the lanes are channels.
 *
 *   depthwise_line   out[p][c] = act(bias[c] + sum_t x[p*x_step + taps[t].x + c] * w[taps[t].w][c])
 *   depthwise_rows   out[y][x][c] = act(bias[c] + sum over ky, kx of
 *                        image[y*sy - top + ky][x*sx - left + kx][c] * w[ky][kx][c])
 *
 * The weights of a vector of channels lie together, [vector][tap][lane]: those of one tap would lie
 * in a few sets of the cache where channels are many.
 *
 * Every sum runs over the taps in order, starting from zero, the bias last: the bits of an output do
 * not depend on the tile it falls in.  Taps outside the image are left out.
 *
 * A product takes one multiply-add and, in depthwise_line, one load: the load ports bound it.
 * depthwise_rows computes tiles of 2 rows x DEPTHWISE_PIXELS outputs and loads what their windows
 * share once, 2.6 loads for the 9 products of an output, so that loads and multiply-adds take about
 * as long; what is left is the cache that the image comes from.
 */

static inline __attribute__((always_inline)) void
NAME(depthwise_store)(const VECTOR *sum, const T *bias, T *out, ptrdiff_t out_step, int activation,
                      T slope, const int pixels)
{
    const VECTOR b = LOAD(bias);
    UNROLL for (int p = 0; p < pixels; p++)
        STORE(out + p * out_step, NAME(activate)(sum[p] + b, activation, slope));
}

/* Channel by channel, a vector at a time.  The last vector overlaps the one before and repeats its
 * bits; its weights are its own. */
#define FOR_CHANNELS(at, vector, channels)                                                         \
    for (ptrdiff_t vector = 0, at = 0; vector * LANES < (channels); vector++,                      \
         at = (vector + 1) * LANES < (channels) ? vector * LANES : (channels) - LANES)

/* ---- any taps -------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void
NAME(depthwise_taps)(const pycnn_line *line, ptrdiff_t pixel, ptrdiff_t channel, ptrdiff_t vector,
                     const int pixels)
{
    const T *x = (const T *)line->x + pixel * line->x_step + channel;
    const T *w = (const T *)line->w + vector * line->run * LANES;
    VECTOR sum[DEPTHWISE_PIXELS];

    UNROLL for (int p = 0; p < pixels; p++)
        sum[p] = (VECTOR){0};
    for (ptrdiff_t t = 0; t < line->n_taps; t++) {
        const T *xt = x + line->taps[t].x;
        const VECTOR filter = LOAD(w + line->taps[t].w * LANES);
        UNROLL for (int p = 0; p < pixels; p++)
            sum[p] += LOAD(xt + p * line->x_step) * filter;
    }
    NAME(depthwise_store)(sum, (const T *)line->bias + channel,
                          (T *)line->out + pixel * line->out_step + channel, line->out_step,
                          line->activation, (T)line->slope, pixels);
}

/* n_filters >= LANES channels: the caller sends fewer to `direct`. */
static void NAME(depthwise_line)(const pycnn_line *line)
{
    ptrdiff_t pixel = 0;
    for (; pixel + DEPTHWISE_PIXELS <= line->n_pixels; pixel += DEPTHWISE_PIXELS)
        FOR_CHANNELS(channel, vector, line->n_filters)
            NAME(depthwise_taps)(line, pixel, channel, vector, DEPTHWISE_PIXELS);
    for (; pixel < line->n_pixels; pixel++)
        FOR_CHANNELS(channel, vector, line->n_filters)
            NAME(depthwise_taps)(line, pixel, channel, vector, 1);
}

/* ---- rows of an image ------------------------------------------------------------------------ */

/* Adds one row of the image to the sums of the rows of outputs [begin, end), where w0 and w1 are the
 * rows of the filter.  `column` is that of the first tap; it may lie outside, as may others. */
static inline __attribute__((always_inline)) void
NAME(depthwise_row)(const pycnn_depthwise *d, const T *x, ptrdiff_t x_step, ptrdiff_t column,
                    const T *w0, const T *w1, VECTOR (*sum)[DEPTHWISE_PIXELS], const int begin,
                    const int end, const int pixels, const int taps, const int stride)
{
    VECTOR filter[2][5];
    UNROLL for (int r = begin; r < end; r++)
        UNROLL for (int k = 0; k < taps; k++)
            filter[r][k] = LOAD((r == 0 ? w0 : w1) + k * LANES);
    x += column * x_step;
    UNROLL for (int j = 0; j < (pixels - 1) * stride + taps; j++, x += x_step)
        if ((size_t)(column + j) < (size_t)d->width) {
            VECTOR pixel = LOAD(x);
            IN_REGISTER(pixel);
            UNROLL for (int p = 0; p < pixels; p++)
                if (j >= p * stride && j - p * stride < taps)
                    UNROLL for (int r = begin; r < end; r++)
                        sum[r][p] += pixel * filter[r][j - p * stride];
        }
}

/* One vector of channels of `pixels` outputs in each of one or two rows; rows[i] is row i of the
 * image below the first tap, or NULL outside. */
static inline __attribute__((always_inline)) void
NAME(depthwise_tile)(const pycnn_depthwise *from, const T *const *rows, ptrdiff_t x_step,
                     ptrdiff_t column, ptrdiff_t channel, ptrdiff_t vector, T *out,
                     ptrdiff_t n_rows, const int pixels, const int taps, const int stride)
{
    const pycnn_depthwise copy = *from, *d = &copy;     /* which no store can change */
    const ptrdiff_t w_row = taps * LANES, second = d->stride_y;
    const ptrdiff_t shared = n_rows == 2 ? second : d->taps_y;
    const T *w = (const T *)d->w + vector * d->taps_y * taps * LANES;
    VECTOR sum[2][DEPTHWISE_PIXELS];
    ptrdiff_t i = 0;

    UNROLL for (int p = 0; p < pixels; p++)
        sum[0][p] = sum[1][p] = (VECTOR){0};
    for (; i < shared && i < d->taps_y; i++)
        if (rows[i])
            NAME(depthwise_row)(d, rows[i] + channel, x_step, column, w + i * w_row, NULL, sum, 0, 1,
                                pixels, taps, stride);
    for (; i < d->taps_y; i++)
        if (rows[i])
            NAME(depthwise_row)(d, rows[i] + channel, x_step, column, w + i * w_row,
                                w + (i - second) * w_row, sum, 0, 2, pixels, taps, stride);
    for (i = i < second ? second : i; n_rows == 2 && i < second + d->taps_y; i++)
        if (rows[i])
            NAME(depthwise_row)(d, rows[i] + channel, x_step, column, NULL, w + (i - second) * w_row,
                                sum, 1, 2, pixels, taps, stride);
    out += channel;
    NAME(depthwise_store)(sum[0], (const T *)d->bias + channel, out, d->channels, d->activation,
                          (T)d->slope, pixels);
    if (n_rows == 2)
        NAME(depthwise_store)(sum[1], (const T *)d->bias + channel, out + d->out_row, d->channels,
                              d->activation, (T)d->slope, pixels);
}

/* ---- the usual tile -------------------------------------------------------------------------- *
 *
 * 2 rows of DEPTHWISE_PIXELS outputs of square windows and strides, of whose columns the first
 * `before` or the last `after` are outside.  All is known but which rows are, so nothing is done but
 * the products.  from[i] is where row i begins, or NULL outside. */

#define FOR_SUMS                                                                                   \
    UNROLL for (int p = 0; p < DEPTHWISE_PIXELS; p++)                                              \
        UNROLL for (int s = 0; s < 2; s++)

/* Two rows, or vectors of channels, beside each other. */
static inline __attribute__((always_inline)) void
NAME(depthwise_finish)(const pycnn_depthwise *d, VECTOR (*sum)[DEPTHWISE_PIXELS], const T *bias,
                       T *out, ptrdiff_t next_bias, ptrdiff_t next_out)
{
    const VECTOR b[2] = {LOAD(bias), LOAD(bias + next_bias)};
    FOR_SUMS sum[s][p] += b[s];
    if (d->activation == PYCNN_RELU)
        FOR_SUMS sum[s][p] = NAME(rectify_sum)(sum[s][p]);
    if (d->activation == PYCNN_LEAKY_RELU) {
        VECTOR y[2 * DEPTHWISE_PIXELS];
        FOR_SUMS y[s * DEPTHWISE_PIXELS + p] = sum[s][p];
        NAME(leak)(y, 2 * DEPTHWISE_PIXELS, d->slope);
        FOR_SUMS sum[s][p] = y[s * DEPTHWISE_PIXELS + p];
    }
    FOR_SUMS STORE(out + s * next_out + p * d->channels, sum[s][p]);
}

/* Both rows at once, which load what their windows share once. */
static inline __attribute__((always_inline)) void
NAME(depthwise_two_rows)(const pycnn_depthwise *d, const T *const *from, ptrdiff_t x_step, T *out,
                         const int taps, const int stride, const int before, const int after)
{
    const int columns = (DEPTHWISE_PIXELS - 1) * stride + taps;
    FOR_CHANNELS(channel, vector, d->channels) {
        const T *w = (const T *)d->w + vector * taps * taps * LANES;
        VECTOR sum[2][DEPTHWISE_PIXELS];
        FOR_SUMS sum[s][p] = (VECTOR){0};
        UNROLL for (int i = 0; i < taps + stride; i++) {
            if (!from[i])
                continue;
            /* Row i of the image meets row i - s*stride of the window in row s of the outputs. */
            const T *x = from[i] + channel;
            VECTOR filter[2][5];
            UNROLL for (int s = 0; s < 2; s++)
                UNROLL for (int k = 0; k < taps; k++)
                    if (i >= s * stride && i - s * stride < taps)
                        filter[s][k] = LOAD(w + ((i - s * stride) * taps + k) * LANES);
            UNROLL for (int j = before; j < columns - after; j++) {
                VECTOR pixel = LOAD(x + j * x_step);
                IN_REGISTER(pixel);
                FOR_SUMS
                    if (i >= s * stride && i - s * stride < taps && j >= p * stride
                        && j - p * stride < taps)
                        sum[s][p] += pixel * filter[s][j - p * stride];
            }
        }
        NAME(depthwise_finish)(d, sum, (const T *)d->bias + channel, out + channel, 0, d->out_row);
    }
}

/* One row after the other, two vectors of channels at once, of an even number of whole ones: twice as
 * much is used of a cache line when it is loaded, with vectors of 32 bytes all.  Of pixels that are
 * many bytes apart, and fall into few sets of the cache, few lines are there for the next vector. */
static inline __attribute__((always_inline)) void
NAME(depthwise_two_vectors)(const pycnn_depthwise *d, const T *const *from, ptrdiff_t x_step,
                            T *out, const int taps, const int stride, const int before,
                            const int after)
{
    const int columns = (DEPTHWISE_PIXELS - 1) * stride + taps;
    for (ptrdiff_t row = 0; row < 2; row++, from += stride, out += d->out_row)
        for (ptrdiff_t channel = 0; channel < d->channels; channel += 2 * LANES) {
            const T *w = (const T *)d->w + channel * taps * taps;
            VECTOR sum[2][DEPTHWISE_PIXELS];
            FOR_SUMS sum[s][p] = (VECTOR){0};
            UNROLL for (int i = 0; i < taps; i++) {
                if (!from[i])
                    continue;
                const T *x = from[i] + channel;
                VECTOR filter[2][5];
                OPAQUE(x);
                UNROLL for (int s = 0; s < 2; s++)
                    UNROLL for (int k = 0; k < taps; k++)
                        filter[s][k] = LOAD(w + (s * taps * taps + i * taps + k) * LANES);
                UNROLL for (int j = before; j < columns - after; j++)
                    UNROLL for (int s = 0; s < 2; s++) {
                        VECTOR pixel = LOAD(x + j * x_step + s * LANES);
                        IN_REGISTER(pixel);
                        UNROLL for (int p = 0; p < DEPTHWISE_PIXELS; p++)
                            if (j >= p * stride && j - p * stride < taps)
                                sum[s][p] += pixel * filter[s][j - p * stride];
                    }
            }
            NAME(depthwise_finish)(d, sum, (const T *)d->bias + channel, out + channel, LANES, LANES);
        }
}
#undef FOR_SUMS

typedef void NAME(depthwise_function)(const pycnn_depthwise *, const T *const *rows,
                                      ptrdiff_t x_step, ptrdiff_t column, T *out, ptrdiff_t n_rows);

/* Single outputs, and tiles of any shape. */
#define TILE(taps, stride, wide)                                                                   \
    static __attribute__((noinline)) void NAME(depthwise_tile_##taps##stride##wide)(               \
        const pycnn_depthwise *d, const T *const *rows, ptrdiff_t x_step, ptrdiff_t column,        \
        T *out, ptrdiff_t n_rows)                                                                  \
    {                                                                                              \
        FOR_CHANNELS(channel, vector, d->channels)                                                 \
            NAME(depthwise_tile)(d, rows, x_step, column, channel, vector, out, n_rows,            \
                                 wide ? DEPTHWISE_PIXELS : 1, taps, stride);                       \
    }
/* The usual tile inside, at the left edge and at the right; `two` are rows or vectors. */
#define SQUARE(taps, stride, two, before, after)                                                   \
    static __attribute__((noinline)) void                                                          \
    NAME(depthwise_##two##_##taps##stride##before##after)(                                         \
        const pycnn_depthwise *d, const T *const *rows, ptrdiff_t x_step, ptrdiff_t column,        \
        T *out, ptrdiff_t n_rows)                                                                  \
    {                                                                                              \
        const T *from[taps + stride];                                                              \
        UNROLL for (int i = 0; i < taps + stride; i++)                                             \
            from[i] = rows[i] ? rows[i] + column * x_step : NULL;                                  \
        (void)n_rows;                                                                              \
        NAME(depthwise_two_##two)(d, from, x_step, out, taps, stride, before ? taps / 2 : 0,       \
                                  after ? taps / 2 : 0);                                           \
    }
#define SQUARES(taps, stride, two)                                                                 \
    SQUARE(taps, stride, two, 0, 0) SQUARE(taps, stride, two, 1, 0) SQUARE(taps, stride, two, 0, 1)
#define KINDS(taps)                                                                                \
    TILE(taps, 1, 0) TILE(taps, 1, 1) TILE(taps, 2, 0) TILE(taps, 2, 1)                            \
    SQUARES(taps, 1, rows) SQUARES(taps, 2, rows)
KINDS(3) KINDS(5) SQUARES(3, 2, vectors)
#undef TILE
#undef SQUARE
#undef SQUARES
#undef KINDS

/* taps_x is 3 or 5, stride_x 1 or 2, taps_y and stride_y together at most DEPTHWISE_ROWS.
 *
 * Two rows of outputs at a time, or the only one.  What would pass the end is moved back and repeats
 * some bits: the last pair of rows, the last tile of a row, the last vector of channels. */
static void NAME(depthwise_rows)(const pycnn_depthwise *d)
{
    enum { SINGLE, WIDE, INSIDE, LEFT, RIGHT };
    enum { STRIDE_1, STRIDE_2, STRIDE_2_FAR };
#define KINDS(taps, stride, two)                                                                   \
    {[SINGLE] = NAME(depthwise_tile_##taps##stride##0),                                            \
     [WIDE] = NAME(depthwise_tile_##taps##stride##1),                                              \
     [INSIDE] = NAME(depthwise_##two##_##taps##stride##00),                                        \
     [LEFT] = NAME(depthwise_##two##_##taps##stride##10),                                          \
     [RIGHT] = NAME(depthwise_##two##_##taps##stride##01)}
    /* The weights of two vectors of 5 x 5 have no room in the registers. */
    static NAME(depthwise_function) *const functions[2][3][5] = {
        {[STRIDE_1] = KINDS(3, 1, rows), [STRIDE_2] = KINDS(3, 2, rows),
         [STRIDE_2_FAR] = KINDS(3, 2, vectors)},
        {[STRIDE_1] = KINDS(5, 1, rows), [STRIDE_2] = KINDS(5, 2, rows),
         [STRIDE_2_FAR] = KINDS(5, 2, rows)}};
#undef KINDS
    /* One vector of 64 bytes uses up its cache line. */
    const int far = VECTOR_BYTES < 64 && d->channels * sizeof(T) % 512 == 0;
    NAME(depthwise_function) *const *kinds =
        functions[d->taps_x == 5][d->stride_x == 1 ? STRIDE_1 : far ? STRIDE_2_FAR : STRIDE_2];
    const ptrdiff_t held = d->taps_y + d->stride_y;
    const ptrdiff_t x_step = d->ring ? d->channels + LANES : d->channels;
    const ptrdiff_t n_rows = d->end_row - d->first_row < 2 ? 1 : 2;
    const ptrdiff_t columns = d->end_column - d->first_column;
    const ptrdiff_t wide = columns >= DEPTHWISE_PIXELS ? DEPTHWISE_PIXELS : 1;
    const ptrdiff_t reach = (wide - 1) * d->stride_x + d->taps_x;
    const int square = wide > 1 && n_rows == 2 && d->taps_y == d->taps_x
                       && d->stride_y == d->stride_x;
    const T *rows[DEPTHWISE_ROWS];
    ptrdiff_t copied = 0;

    for (ptrdiff_t y = d->first_row; y < d->end_row; y += 2) {
        const ptrdiff_t first = y + n_rows <= d->end_row ? y : d->end_row - n_rows;
        const ptrdiff_t top = first * d->stride_y - d->top;
        copied = copied < top ? top : copied;
        for (ptrdiff_t i = 0; i < held; i++) {
            const ptrdiff_t row = top + i;
            const int inside = row >= 0 && row < d->height;
            const T *from = (const T *)d->x + (inside ? row * d->x_row : 0);
            if (inside && d->ring) {
                T *to = (T *)d->ring + row % held * d->width * x_step;
                for (ptrdiff_t x = 0; row >= copied && x < d->width; x++)
                    memcpy(to + x * x_step, from + x * d->channels, d->channels * sizeof(T));
                copied = copied > row ? copied : row + 1;
                from = to;
            }
            rows[i] = inside ? from : NULL;
        }
        T *out = (T *)d->out + (first - d->first_row) * d->out_row;
        for (ptrdiff_t x = 0; x < columns; x += wide) {
            const ptrdiff_t at = x + wide <= columns ? x : columns - wide;
            /* A window a whole window outside is as empty as any further out, whose address may be
             * none at all. */
            ptrdiff_t column = (d->first_column + at) * d->stride_x - d->left;
            column = column < -reach ? -reach : column;
            const ptrdiff_t before = column < 0 ? -column : 0;
            const ptrdiff_t after = column + reach > d->width ? column + reach - d->width : 0;
            int kind = wide > 1 ? WIDE : SINGLE;
            if (square && before + after == 0)
                kind = INSIDE;
            else if (square && before == d->taps_x / 2 && after == 0)
                kind = LEFT;
            else if (square && after == d->taps_x / 2 && before == 0)
                kind = RIGHT;
            kinds[kind](d, rows, x_step, column, out + at * d->channels, n_rows);
        }
    }
}
