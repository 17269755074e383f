/* Vectors through a matrix, one or a few.
 *
 *   multiply         out[f] = act(bias[f] + sum_{k < run} x[k] * w[k*w_step + f])
 *   multiply_batch   out[p][f] = act(bias[f] + sum_{k < run} x[p][k] * w[k*w_step + f])
 *
 * Every sum runs over k in order, starting from zero, the bias last, as those of direct.
 *
 * multiply is bound by reading the matrix once, from whatever cache holds it.  multiply_batch reads it
 * once, too, in blocks of columns: BATCH_ROWS rows of two vectors stay in registers for all p, whose
 * sums come from the nearest cache and go back to it: six loads and two stores for eight multiply-adds.
 */

/* ---- one vector ------------------------------------------------------------------------------ */

#define MULTIPLY_VECTORS 12
#define MULTIPLY_BYTES (256 * 1024)

/* `vectors` vectors of the sums in `out`, after `rows` rows of the matrix more. */
static inline __attribute__((always_inline)) void
NAME(multiply_vectors)(const T *x, const T *w, ptrdiff_t w_step, const T *out, VECTOR *sum,
                       const int rows, const int vectors)
{
    UNROLL for (int v = 0; v < vectors; v++)
        sum[v] = LOAD(out + v * LANES);
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] += x[i] * LOAD(w + i * w_step + v * LANES);
}

/* Adds `rows` rows of the matrix, from row k on, to the sums in `out`: of each row whole cache lines,
 * two vectors, before the next.  NumPy's memory begins 16 bytes behind a line: vectors begin so that no
 * load crosses one, if rows are whole vectors, but for the first and the last, which overlap. */
static inline __attribute__((always_inline)) void
NAME(multiply_rows)(const pycnn_line *line, ptrdiff_t k, const int rows)
{
    const ptrdiff_t w_step = line->w_step, n = line->n_filters, end = n - LANES;
    const T *x = (const T *)line->x + k, *w = (const T *)line->w + k * w_step;
    T *out = line->out;
    if (end < 0) {
        for (ptrdiff_t f = 0; f < n; f++) {
            T sum = out[f];
            UNROLL for (int i = 0; i < rows; i++)
                sum += x[i] * w[i * w_step + f];
            out[f] = sum;
        }
        return;
    }
    const ptrdiff_t before = (ptrdiff_t)(-(uintptr_t)w % VECTOR_BYTES / sizeof(T));
    const int behind = (n - before) % LANES > 0;
    VECTOR first = {0}, last = {0}, sum[2];
    ptrdiff_t f = before;
    if (before > 0)
        NAME(multiply_vectors)(x, w, w_step, out, &first, rows, 1);
    if (behind)
        NAME(multiply_vectors)(x, w + end, w_step, out + end, &last, rows, 1);
    for (; f + LANES <= end; f += 2 * LANES) {
        NAME(multiply_vectors)(x, w + f, w_step, out + f, sum, rows, 2);
        STORE(out + f, sum[0]);
        STORE(out + f + LANES, sum[1]);
    }
    if (f <= end) {
        NAME(multiply_vectors)(x, w + f, w_step, out + f, sum, rows, 1);
        STORE(out + f, sum[0]);
    }
    if (before > 0)
        STORE(out, first);
    if (behind)
        STORE(out + end, last);
}

/* `vectors` vectors of outputs, all rows, with the sums in registers; the last one is `last` outputs
 * behind the first and may overlap the one before. */
static inline __attribute__((always_inline)) void
NAME(multiply_columns)(const pycnn_line *line, ptrdiff_t f, ptrdiff_t last, const int vectors)
{
    const T *x = line->x, *w = (const T *)line->w + f, *bias = (const T *)line->bias + f;
    const ptrdiff_t w_step = line->w_step, run = line->run;
    T *out = (T *)line->out + f;
    VECTOR sum[MULTIPLY_VECTORS];
    UNROLL for (int v = 0; v < vectors; v++)
        sum[v] = (VECTOR){0};
    for (ptrdiff_t k = 0; k < run; k++, w += w_step)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[v] += x[k] * LOAD(w + (v < vectors - 1 ? v * LANES : last));
    UNROLL for (int v = 0; v < vectors; v++) {
        const ptrdiff_t at = v < vectors - 1 ? v * LANES : last;
        STORE(out + at, NAME(activate)(sum[v] + LOAD(bias + at), line->activation,
                                       (T)line->slope));
    }
}

#define MULTIPLY_KINDS(KIND)                                                                       \
    KIND(1) KIND(2) KIND(3) KIND(4) KIND(5) KIND(6) KIND(7) KIND(8) KIND(9) KIND(10) KIND(11) KIND(12)
#define KIND(vectors)                                                                              \
    static __attribute__((noinline)) void NAME(multiply_##vectors)(const pycnn_line *line,         \
                                                                   ptrdiff_t f, ptrdiff_t last)    \
    {                                                                                              \
        NAME(multiply_columns)(line, f, last, vectors);                                            \
    }
MULTIPLY_KINDS(KIND)
#undef KIND

/* run > 0.  A matrix that the second-level cache holds is read column by column, as wide as there are
 * registers for sums; any other by whole rows, from front to back. */
static void NAME(multiply)(const pycnn_line *line)
{
#define KIND(vectors) NAME(multiply_##vectors),
    static void (*const kinds[MULTIPLY_VECTORS])(const pycnn_line *, ptrdiff_t, ptrdiff_t) = {
        MULTIPLY_KINDS(KIND)};
#undef KIND
    const ptrdiff_t n = line->n_filters;
    const T *bias = line->bias;
    T *out = line->out;
    ptrdiff_t k = 0, f = 0;
    if (n >= LANES && line->run <= MULTIPLY_BYTES / (ptrdiff_t)sizeof(T) / n) {
        for (ptrdiff_t left = (n - 1) / LANES + 1; left > 0;) {
            const ptrdiff_t panels = (left - 1) / MULTIPLY_VECTORS + 1;
            const ptrdiff_t vectors = (left - 1) / panels + 1, end = n - f - LANES;
            kinds[vectors - 1](line, f, end < (vectors - 1) * LANES ? end : (vectors - 1) * LANES);
            f += vectors * LANES;
            left -= vectors;
        }
        return;
    }
    memset(out, 0, (size_t)n * sizeof(T));
    for (; k + 8 <= line->run; k += 8)
        NAME(multiply_rows)(line, k, 8);
    for (; k < line->run; k++)
        NAME(multiply_rows)(line, k, 1);
    for (; f + LANES <= n; f += LANES)
        STORE(out + f, NAME(activate)(LOAD(out + f) + LOAD(bias + f), line->activation,
                                      (T)line->slope));
    for (; f < n; f++) {
        const T y = out[f] + bias[f];
        out[f] = line->activation == PYCNN_LINEAR
                     ? y
                     : NAME(rectify_one)(y, line->activation == PYCNN_LEAKY_RELU, (T)line->slope);
    }
}
#undef MULTIPLY_KINDS
#undef MULTIPLY_VECTORS
#undef MULTIPLY_BYTES

/* ---- a few vectors --------------------------------------------------------------------------- */

#define BATCH_ROWS 4
/* Elements of a vector that are copied together, sums that leave half of the nearest cache for the
 * rest, and those of a row that leave room for the rows in turn and the next ones. */
#define BATCH_BLOCK ((ptrdiff_t)(256 / sizeof(T)))
#define BATCH_SUMS ((ptrdiff_t)(16 * 1024 / sizeof(T)))
#define BATCH_WIDTH ((ptrdiff_t)(2 * 1024 / sizeof(T)))

/* Adds `rows` rows of the matrix, two vectors of each, to the sums of all pixels. */
static inline __attribute__((always_inline)) void
NAME(batch_rows)(const T *x, ptrdiff_t n_pixels, const T *w, ptrdiff_t w_step, T *sums,
                 const int rows)
{
    VECTOR filter[BATCH_ROWS][2];
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int v = 0; v < 2; v++) {
            filter[i][v] = LOAD(w + i * w_step + v * LANES);
            if (v * VECTOR_BYTES % 64 == 0)     /* a cache line */
                __builtin_prefetch(w + (i + rows) * w_step + v * LANES);
        }
    }
    for (ptrdiff_t p = 0; p < n_pixels; p++, x += BATCH_BLOCK, sums += 2 * LANES) {
        VECTOR sum[2] = {LOAD(sums), LOAD(sums + LANES)};
        UNROLL for (int i = 0; i < rows; i++) {
            sum[0] += x[i] * filter[i][0];
            sum[1] += x[i] * filter[i][1];
        }
        STORE(sums, sum[0]);
        STORE(sums + LANES, sum[1]);
    }
}

/* n_pixels <= BATCH_PIXELS, run > 0.  At least two vectors of filters, of which the last two may step
 * back over those before. */
static void NAME(multiply_batch)(const pycnn_line *line)
{
    enum { PANEL = 2 * LANES };
    T sums[BATCH_SUMS] __attribute__((aligned(64)));
    T some[BATCH_PIXELS * BATCH_BLOCK] __attribute__((aligned(64)));
    const ptrdiff_t n = line->n_filters, n_pixels = line->n_pixels, run = line->run;
    const ptrdiff_t x_step = line->x_step, w_step = line->w_step, out_step = line->out_step;
    const ptrdiff_t fit = BATCH_SUMS / n_pixels / PANEL * PANEL;
    const ptrdiff_t width = fit < BATCH_WIDTH ? fit : BATCH_WIDTH;
    const T *x = line->x, *w = line->w, *bias = line->bias;
#define AT(f) ((f) < n - PANEL ? (f) : n - PANEL)
    for (ptrdiff_t first = 0; first < n; first += width) {
        const ptrdiff_t end = first + width < n ? first + width : n;
        T *sum = sums;
        memset(sums, 0, sizeof sums);
        for (ptrdiff_t k = 0; k < run;) {
            const ptrdiff_t at = k % BATCH_BLOCK, left = run - k;
            const int many = left >= BATCH_ROWS;
            if (at == 0)
                for (ptrdiff_t p = 0; p < n_pixels; p++)
                    memcpy(some + p * BATCH_BLOCK, x + p * x_step + k,
                           (size_t)(left < BATCH_BLOCK ? left : BATCH_BLOCK) * sizeof(T));
            sum = sums;
            for (ptrdiff_t f = first; f < end; f += PANEL, sum += n_pixels * PANEL)
                if (many)
                    NAME(batch_rows)(some + at, n_pixels, w + k * w_step + AT(f), w_step, sum,
                                     BATCH_ROWS);
                else
                    NAME(batch_rows)(some + at, n_pixels, w + k * w_step + AT(f), w_step, sum, 1);
            k += many ? BATCH_ROWS : 1;
        }
        sum = sums;
        for (ptrdiff_t f = first; f < end; f += PANEL)
            for (ptrdiff_t p = 0; p < n_pixels; p++, sum += PANEL)
                UNROLL for (int v = 0; v < PANEL; v += (int)LANES)
                    STORE((T *)line->out + p * out_step + AT(f) + v,
                          NAME(activate)(LOAD(sum + v) + LOAD(bias + AT(f) + v), line->activation,
                                         (T)line->slope));
    }
#undef AT
}
#undef BATCH_ROWS
#undef BATCH_BLOCK
#undef BATCH_SUMS
#undef BATCH_WIDTH
