/* Depthwise convolution, one filter a channel, the lanes are channels.
 *
 *   depthwise_line   out[p][c] = act(bias[c] + sum_t x[p*x_step + taps[t].x + c] * w[taps[t].w + c])
 *   depthwise_rows   out[y][x][c] = act(bias[c] + sum over ky, kx of
 *                        image[y*sy - top + ky][x*sx - left + kx][c] * w[ky][kx][c])
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

/* The last vector of channels overlaps the one before and repeats its bits. */
#define FOR_CHANNELS(at, channels)                                                                 \
    for (ptrdiff_t c_ = 0, at = 0; c_ < (channels);                                                \
         c_ += LANES, at = c_ < (channels) - LANES ? c_ : (channels) - LANES)

/* ---- any taps -------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void
NAME(depthwise_taps)(const pycnn_line *line, ptrdiff_t pixel, ptrdiff_t channel, const int pixels)
{
    const T *x = (const T *)line->x + pixel * line->x_step + channel;
    const T *w = (const T *)line->w + channel;
    VECTOR sum[DEPTHWISE_PIXELS];

    UNROLL for (int p = 0; p < pixels; p++)
        sum[p] = (VECTOR){0};
    for (ptrdiff_t t = 0; t < line->n_taps; t++) {
        const T *xt = x + line->taps[t].x;
        const VECTOR filter = LOAD(w + line->taps[t].w);
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
        FOR_CHANNELS(channel, line->n_filters)
            NAME(depthwise_taps)(line, pixel, channel, DEPTHWISE_PIXELS);
    for (; pixel < line->n_pixels; pixel++)
        FOR_CHANNELS(channel, line->n_filters)
            NAME(depthwise_taps)(line, pixel, channel, 1);
}

/* ---- rows of an image ------------------------------------------------------------------------ */

/* Adds one row of the image to the sums of the rows of outputs [begin, end), where w0 and w1 are the
 * rows of the filter.  `column` is that of the first tap, and may lie outside, as may others. */
static inline __attribute__((always_inline)) void
NAME(depthwise_row)(const pycnn_depthwise *d, const T *x, ptrdiff_t x_step, ptrdiff_t column,
                    const T *w0, const T *w1, VECTOR (*sum)[DEPTHWISE_PIXELS], const int begin,
                    const int end, const int pixels, const int taps, const int stride)
{
    VECTOR filter[2][5];
    OPAQUE(column);     /* tests of `column` outside the loop over rows would want a register each */
    UNROLL for (int r = begin; r < end; r++)
        UNROLL for (int k = 0; k < taps; k++)
            filter[r][k] = LOAD((r == 0 ? w0 : w1) + k * d->channels);
    UNROLL for (int j = 0; j < (pixels - 1) * stride + taps; j++)
        if ((size_t)(column + j) < (size_t)d->width) {
            VECTOR pixel = LOAD(x + (column + j) * x_step);
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
NAME(depthwise_tile)(const pycnn_depthwise *d, const T *const *rows, ptrdiff_t x_step,
                     ptrdiff_t column, ptrdiff_t channel, T *out, ptrdiff_t n_rows,
                     const int pixels, const int taps, const int stride)
{
    const ptrdiff_t w_row = taps * d->channels, second = d->stride_y;
    const ptrdiff_t shared = n_rows == 2 ? second : d->taps_y;
    const T *w = (const T *)d->w + channel;
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

/* One or two rows of outputs; tiles are moved back where they would pass the end of a row, and
 * repeat some bits. */
static inline __attribute__((always_inline)) void
NAME(depthwise_pair)(const pycnn_depthwise *d, const T *const *rows, ptrdiff_t x_step, T *out,
                     ptrdiff_t n_rows, const int taps, const int stride)
{
    const ptrdiff_t columns = d->end_column - d->first_column;
    const ptrdiff_t wide = columns >= DEPTHWISE_PIXELS ? DEPTHWISE_PIXELS : 1;
    for (ptrdiff_t x = 0; x < columns; x += wide) {
        const ptrdiff_t first = x + wide <= columns ? x : columns - wide;
        const ptrdiff_t column = (d->first_column + first) * stride - d->left;
        T *pixel = out + first * d->channels;
        FOR_CHANNELS(channel, d->channels)
            if (wide > 1)
                NAME(depthwise_tile)(d, rows, x_step, column, channel, pixel, n_rows,
                                     DEPTHWISE_PIXELS, taps, stride);
            else
                NAME(depthwise_tile)(d, rows, x_step, column, channel, pixel, n_rows, 1, taps,
                                     stride);
    }
}

static inline __attribute__((always_inline)) void
NAME(depthwise_block)(const pycnn_depthwise *d, const int taps, const int stride)
{
    const ptrdiff_t held = d->taps_y + d->stride_y;
    const ptrdiff_t x_step = d->ring ? d->channels + LANES : d->channels;
    const ptrdiff_t n_rows = d->end_row - d->first_row < 2 ? 1 : 2;
    const T *rows[DEPTHWISE_ROWS];
    ptrdiff_t copied = 0;

    for (ptrdiff_t y = d->first_row; y < d->end_row; y += 2) {
        /* the last pair overlaps the one before, too */
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
                    FOR_CHANNELS(channel, d->channels)
                        STORE(to + x * x_step + channel, LOAD(from + x * d->channels + channel));
                copied = copied > row ? copied : row + 1;
                from = to;
            }
            rows[i] = inside ? from : NULL;
        }
        NAME(depthwise_pair)(d, rows, x_step, (T *)d->out + (first - d->first_row) * d->out_row,
                             n_rows, taps, stride);
    }
}

/* taps_x is 3 or 5, stride_x 1 or 2, taps_y and stride_y together at most DEPTHWISE_ROWS. */
static void NAME(depthwise_rows)(const pycnn_depthwise *d)
{
    if (d->taps_x == 3 && d->stride_x == 1)
        NAME(depthwise_block)(d, 3, 1);
    else if (d->taps_x == 3)
        NAME(depthwise_block)(d, 3, 2);
    else if (d->stride_x == 1)
        NAME(depthwise_block)(d, 5, 1);
    else
        NAME(depthwise_block)(d, 5, 2);
}
