/* The pooling and activation kernels, one body for every element type and instruction set.
 *
 * The including file defines T, VECTOR_BYTES, NAME(x), IS_FLOAT (1 or 0), and vectors.inc.h.
 *
 *   *_windows   out[p*channels + c] = op over r < rows, k < taps of
 *                   x[p*pixel_step + r*row_step + k*tap_step + c],   a mean's sum / count
 *
 * The sums run over r, then k.  With pixels = 1 the same loop pools rows of any length element by
 * element: down the rows of an image (taps = 1), or along them (rows = 1).
 *
 * All are bound by loads and, on images larger than the caches, by memory.
 */

#ifndef STREAM
#if defined(__clang__)
#define STREAM(p, v) __builtin_nontemporal_store(v, (VECTOR *)(p))
#elif X86_VECTORS && VECTOR_BYTES == 64
#define STREAM(p, v) __builtin_ia32_movntdq512((void *)(p), (stream_vector)(v))
#elif X86_VECTORS && VECTOR_BYTES == 32
#define STREAM(p, v) __builtin_ia32_movntdq256((void *)(p), (stream_vector)(v))
#elif X86_VECTORS
#define STREAM(p, v) __builtin_ia32_movntdq((void *)(p), (stream_vector)(v))
#else
#define STREAM(p, v) STORE(p, v)
#endif
#if defined(__x86_64__)
#define STREAM_END() __builtin_ia32_sfence()
typedef long long stream_vector __attribute__((vector_size(VECTOR_BYTES)));
#else
#define STREAM_END() ((void)0)
#endif
#endif

#define INLINE static inline __attribute__((always_inline))

/* What a window combines its elements with; `mean` is a constant wherever these are inlined. */
INLINE T NAME(combine_one)(T a, T b, const int mean)
{
    if (mean)
        return (T)(a + b);
#if IS_FLOAT
    const VECTOR zero = {0};
    if (a != a)  /* NaN wins, with the bits that `combine` gives it */
        return ((VECTOR)(zero == zero))[0];
    return a > b ? a : b;
#else
    return a > b ? a : b;
#endif
}

INLINE VECTOR NAME(combine)(VECTOR a, VECTOR b, const int mean)
{
    if (mean)
        return a + b;
#if IS_FLOAT
    /* A NaN in b is kept by the maximum, one in a by setting all its bits. */
    return (VECTOR)((NAME(mask))MAXIMUM(a, b) | (a != a));
#else
    const NAME(mask) take = a > b;
    return (VECTOR)(((NAME(mask))a & take) | ((NAME(mask))b & ~take));
#endif
}

/* `vectors` vectors of one window. */
INLINE void NAME(window)(const pycnn_windows *w, const T *x, T *out, const int vectors,
                         const int mean)
{
    const ptrdiff_t rows = w->rows, row_step = w->row_step, taps = w->taps, tap_step = w->tap_step;
    VECTOR best[8];
    UNROLL for (int v = 0; v < vectors; v++)
        best[v] = LOAD(x + v * LANES);
    for (ptrdiff_t r = 0, k = 1; r < rows; r++, k = 0, x += row_step)
        for (; k < taps; k++)
            UNROLL for (int v = 0; v < vectors; v++)
                best[v] = NAME(combine)(LOAD(x + k * tap_step + v * LANES), best[v], mean);
    if (mean && w->count != 1) {
        if (w->reciprocal != 0)
            UNROLL for (int v = 0; v < vectors; v++)
                best[v] *= (T)w->reciprocal;
        else
            UNROLL for (int v = 0; v < vectors; v++)
                best[v] /= (T)w->count;
    }
    UNROLL for (int v = 0; v < vectors; v++)
        STORE(out + v * LANES, best[v]);
}

INLINE void NAME(narrow_window)(const pycnn_windows *w, const T *x, T *out, const int mean)
{
    for (ptrdiff_t c = 0; c < w->channels; c++) {
        const T *row = x + c;
        T best = *row;
        for (ptrdiff_t r = 0, k = 1; r < w->rows; r++, k = 0, row += w->row_step)
            for (; k < w->taps; k++)
                best = NAME(combine_one)(row[k * w->tap_step], best, mean);
        out[c] = mean ? (T)(best / (T)w->count) : best;
    }
}

/* Shuffles that bring pairs of pixels together cost less within parts of 16 bytes: of these each one
 * ends up with maxima of a, then maxima of b.  Of a pair of zeros the first stays. */
#define PAIR_PART(channels)                                                                        \
    (2 * (channels) * (int)sizeof(T) > 16 ? 2 * (channels) : 16 / (int)sizeof(T))

INLINE VECTOR NAME(pair_maxima)(VECTOR a, VECTOR b, const int channels)
{
    const int part = PAIR_PART(channels), half = part / 2;
    NAME(mask) first, second;
    UNROLL for (int i = 0; i < LANES; i++) {
        const int of_b = i % part / half, within = i % half;
        first[i] = of_b * LANES + i / part * part + within / channels * 2 * channels
                   + within % channels;
        second[i] = first[i] + channels;
    }
    return NAME(combine)(SHUFFLE(a, b, second), SHUFFLE(a, b, first), 0);
}

/* Lays what `pair_maxima` gives in order: the pixels of b after those of a, or beside them. */
INLINE VECTOR NAME(order_pairs)(VECTOR maxima, const int channels, const int beside)
{
    const int half = PAIR_PART(channels) / 2, pixels = (int)LANES / 2 / channels;
    NAME(mask) place;
    UNROLL for (int i = 0; i < LANES; i++) {
        const int pixel = i / channels, of_b = beside ? pixel % 2 : pixel / pixels;
        const int at = (beside ? pixel / 2 : pixel % pixels) * channels + i % channels;
        place[i] = (at / half * 2 + of_b) * half + at % half;
    }
    return SHUFFLE(maxima, maxima, place);
}
#undef PAIR_PART

/* Few channels, two taps side by side, stride 2: the columns of a vector of windows are two vectors.
 * A mean shuffles them apart row by row, to keep the order of its sums.  The last windows may overlap
 * those before and repeat their bits.  Returns how many windows are done. */
INLINE ptrdiff_t NAME(pairs)(const pycnn_windows *w, const int channels, const int mean)
{
    const int step = (int)LANES / channels;
    const ptrdiff_t pixels = w->pixels, rows = w->rows, row_step = w->row_step;
    const T *from = w->x, count = (T)w->count;
    T *out = w->out;
    if (pixels < step)
        return 0;
    for (ptrdiff_t at = 0; at < pixels; at += step) {
        const ptrdiff_t p = at < pixels - step ? at : pixels - step;
        const T *x = from + 2 * p * channels;
        VECTOR low = LOAD(x), high = LOAD(x + LANES), best = {0};
        if (!mean) {
            for (ptrdiff_t r = 1; r < rows; r++) {
                x += row_step;
                low = NAME(combine)(LOAD(x), low, 0);
                high = NAME(combine)(LOAD(x + LANES), high, 0);
            }
            best = NAME(order_pairs)(NAME(pair_maxima)(low, high, channels), channels, 0);
        }
        for (ptrdiff_t r = 0; mean && r < rows; r++, x += row_step) {
            NAME(mask) first, second;
            UNROLL for (int i = 0; i < LANES; i++) {
                first[i] = 2 * (i / channels) * channels + i % channels;
                second[i] = first[i] + channels;
            }
            low = LOAD(x), high = LOAD(x + LANES);
            const VECTOR left = SHUFFLE(low, high, first), right = SHUFFLE(low, high, second);
            best = r == 0 ? left : left + best;
            best += right;
        }
        if (mean)
            best /= count;
        STORE(out + p * channels, best);
    }
    return pixels;
}

INLINE void NAME(windows)(const pycnn_windows *w, const int mean)
{
    const ptrdiff_t channels = w->channels;
    ptrdiff_t p = 0;
    if (sizeof(T) >= 4 && w->taps == 2 && w->tap_step == channels && w->pixel_step == 2 * channels)
        switch (channels) {
#define CASE(n)                                                                                    \
    case n:                                                                                        \
        p = n < LANES ? NAME(pairs)(w, n < LANES ? n : 1, mean) : 0;                               \
        break;
            CASE(1) CASE(2) CASE(4) CASE(8)
#undef CASE
        }
    const ptrdiff_t pixels = w->pixels, pixel_step = w->pixel_step;
    const T *x = (const T *)w->x + p * pixel_step;
    T *out = (T *)w->out + p * channels;
#define FOR_WINDOWS for (; p < pixels; p++, x += pixel_step, out += channels)
    if (channels < LANES)
        FOR_WINDOWS NAME(narrow_window)(w, x, out, mean);
    if (channels == LANES)      /* few vectors, whose loops would take longer than they */
        FOR_WINDOWS NAME(window)(w, x, out, 1, mean);
    if (channels == 2 * LANES)
        FOR_WINDOWS NAME(window)(w, x, out, 2, mean);
    FOR_WINDOWS {
        ptrdiff_t c = 0;
        /* Many vectors hide the latency of long windows, and read whole cache lines. */
        for (; c + 8 * LANES <= channels; c += 8 * LANES)
            NAME(window)(w, x + c, out + c, 8, mean);
        for (; c + 4 * LANES <= channels; c += 4 * LANES)
            NAME(window)(w, x + c, out + c, 4, mean);
        for (; c + LANES <= channels; c += LANES)
            NAME(window)(w, x + c, out + c, 1, mean);
        if (c < channels)  /* the last vector overlaps the one before */
            NAME(window)(w, x + channels - LANES, out + channels - LANES, 1, mean);
    }
#undef FOR_WINDOWS
}

static void NAME(max_windows)(const pycnn_windows *w)
{
    NAME(windows)(w, 0);
}

#if IS_FLOAT
static void NAME(mean_windows)(const pycnn_windows *w)
{
    NAME(windows)(w, 1);
}
#endif

/* ---- activations ----------------------------------------------------------------------------- */

/* x and out may be the same memory: each element is read before it is written, by the one load and
 * store that it is part of, and is met once.  So the last vector must not overlap the one before. */
INLINE void NAME(rectify_line)(const T *x, T *out, ptrdiff_t n, int stream, const int leaky, T slope)
{
    ptrdiff_t i = 0;
    /* Vectors of a long output lie on their own alignment, so none crosses a cache line. */
    if (n >= 32 * LANES)
        for (; (uintptr_t)(out + i) % VECTOR_BYTES != 0; i++)
            out[i] = NAME(rectify_one)(x[i], leaky, slope);
    if (stream) {
        for (; i + 4 * LANES <= n; i += 4 * LANES)
            UNROLL for (int v = 0; v < 4; v++)
                STREAM(out + i + v * LANES,
                       NAME(rectify)(LOAD(x + i + v * LANES), leaky, slope));
        STREAM_END();
    }
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        UNROLL for (int v = 0; v < 4; v++)
            STORE(out + i + v * LANES, NAME(rectify)(LOAD(x + i + v * LANES), leaky, slope));
    for (; i + LANES <= n; i += LANES)
        STORE(out + i, NAME(rectify)(LOAD(x + i), leaky, slope));
    for (; i < n; i++)
        out[i] = NAME(rectify_one)(x[i], leaky, slope);
}

static void NAME(relu)(const void *x, void *out, ptrdiff_t n, int stream)
{
    NAME(rectify_line)(x, out, n, stream, 0, 0);
}

#if IS_FLOAT
static void NAME(leaky_relu)(const void *x, double slope, void *out, ptrdiff_t n, int stream)
{
    NAME(rectify_line)(x, out, n, stream, 1, (T)slope);
}
#endif

#undef INLINE
