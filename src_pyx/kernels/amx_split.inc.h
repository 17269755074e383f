/* Numbers, filters and images in bfloat16 parts, in the layout of amx.c, which includes this. */

/* ---- splitting ------------------------------------------------------------------------------- */

/* Smallest and largest of twice the bits of values, which drops the sign.  The smallest is kept
 * less one, so that zero is the largest of all. */
typedef struct {
    __m512i least, most;
} range;

INLINE void range_clear(range *r)
{
    r->least = _mm512_set1_epi32(-1);
    r->most = _mm512_setzero_si512();
}

INLINE void range_add(range *r, __m512i v)
{
    v = _mm512_add_epi32(v, v);
    r->most = _mm512_max_epu32(r->most, v);
    r->least = _mm512_min_epu32(r->least, _mm512_sub_epi32(v, _mm512_set1_epi32(1)));
}

/* The bits of the smallest |value| but zero and of the largest; 0 and 0 when all are zero. */
INLINE void range_get(const range *r, uint32_t *low, uint32_t *high)
{
    *high = _mm512_reduce_max_epu32(r->most) / 2;
    *low = *high ? (_mm512_reduce_min_epu32(r->least) + 1) / 2 : 0;
}

INLINE __m512i remainder_of(__m512i v, __m512i part)
{
    part = _mm512_and_si512(part, _mm512_set1_epi32((int)0xffff0000u));
    return _mm512_castps_si512(
        _mm512_sub_ps(_mm512_castsi512_ps(v), _mm512_castsi512_ps(part)));
}

/* The bfloat16 parts of 32 floats: truncated when there are three, else rounded to nearest. */
INLINE void split(__m512i a, __m512i b, const int parts, __m512i *part)
{
    const __m512i upper_halves =
        _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29,
                         27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    const __m512i half = _mm512_set1_epi32(parts < 3 ? 0x8000 : 0);
    for (int p = 0; p < parts; p++) {
        const __m512i a_part = _mm512_add_epi32(a, half), b_part = _mm512_add_epi32(b, half);
        part[p] = _mm512_permutex2var_epi16(a_part, upper_halves, b_part);
        a = remainder_of(a, a_part);
        b = remainder_of(b, b_part);
    }
}

/* Bits first to end - 1 of 32. */
INLINE __mmask32 span(ptrdiff_t first, ptrdiff_t end)
{
    const uint64_t up_to_end = ((uint64_t)1 << most(0, least(DEPTH, end))) - 1;
    return (__mmask32)(up_to_end >> most(0, least(DEPTH, first)) << most(0, least(DEPTH, first)));
}

/* Splits the values x[k] of a cell whose bit k is set; the others are zero. */
INLINE void split_cell(const float *x, __mmask32 valid, const int parts, __m512i *part, range *r)
{
    const __m512i a = _mm512_maskz_loadu_epi32((__mmask16)valid, x);
    const __m512i b = _mm512_maskz_loadu_epi32((__mmask16)(valid >> 16), x + 16);
    _mm_prefetch((const char *)x + AHEAD, _MM_HINT_T0);
    _mm_prefetch((const char *)x + AHEAD + CELL, _MM_HINT_T0);
    range_add(r, a);
    range_add(r, b);
    split(a, b, parts, part);
}

/* ---- filters --------------------------------------------------------------------------------- */

/* Transposes 16 x 16 pairs of bfloat16 numbers: swaps blocks of 8, 4, 2 and 1. */
INLINE void transpose(__m512i *row)
{
    const __m512i index = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (int size = 8; size > 0; size /= 2) {
        const __m512i bit = _mm512_set1_epi32(size), other = _mm512_set1_epi32(TILE);
        const __mmask16 right = _mm512_test_epi32_mask(index, bit);
        const __m512i upper =
            _mm512_mask_add_epi32(index, right, _mm512_sub_epi32(index, bit), other);
        const __m512i lower =
            _mm512_mask_add_epi32(_mm512_add_epi32(index, bit), right, index, other);
        for (int i = 0; i < TILE; i++) {
            if (i & size)
                continue;
            const __m512i a = row[i], b = row[i + size];
            row[i] = _mm512_permutex2var_epi32(a, upper, b);
            row[i + size] = _mm512_permutex2var_epi32(a, lower, b);
        }
    }
}

/* The range of x that is safe with weights from `low` to `high`; exponents have a bias of 127. */
static int safe_range(pycnn_amx_filters *f, uint32_t low, uint32_t high)
{
    const int smallest = 127 - 103, largest = 253;
    int x_low = smallest, x_high = largest, bits = 0;
    if (high) {
        const int w_low = (int)(low >> 23), w_high = (int)(high >> 23);
        while (((ptrdiff_t)1 << bits) < f->kh * f->kw * f->channels)
            bits++;
        if (w_low < smallest || w_high > largest)
            return 0;
        x_low = (int)most(x_low, 2 * 127 - 96 - w_low);
        x_high = (int)least(x_high, 2 * 127 + 125 - w_high - bits);
    }
    f->x_min = (uint32_t)x_low << 23;
    f->x_max = (uint32_t)x_high << 23 | 0x7fffff;
    return x_low <= x_high;
}

/* Where the 32 products from k on of a whole window stand in a filter; behind it, anywhere. */
INLINE void list_products(const pycnn_amx_filters *f, ptrdiff_t k, ptrdiff_t *where)
{
    const ptrdiff_t column = f->kh * f->channels;
    for (int i = 0; i < DEPTH; i++, k++) {
        const ptrdiff_t kx = k / column, ky = k % column / f->channels, c = k % f->channels;
        where[i] = k < f->run ? (ky * f->kw + kx) * f->channels + c : 0;
    }
}

INLINE int pack(pycnn_amx_filters *f, const float *weights, char *packed, const int parts)
{
    const ptrdiff_t size = f->kh * f->kw * f->channels;
    range r;
    range_clear(&r);
    for (ptrdiff_t first = 0; first < f->n_filters; first += TILE)
        for (ptrdiff_t plane = 0; plane < f->planes; plane++)
            for (ptrdiff_t tap = 0; tap < f->taps_y * f->taps_x; tap++) {
                const float *w = weights + first * size + tap * f->run + plane * DEPTH;
                const __mmask32 valid = span(0, f->run - plane * DEPTH);
                __m512i tile[3][TILE], cell[3];
                ptrdiff_t where[DEPTH];
                float ordered[DEPTH];
                if (f->whole)
                    list_products(f, plane * DEPTH, where);
                for (int i = 0; i < TILE; i++) {
                    const int real = first + i < f->n_filters;
                    const float *values = real ? w + i * size : w;
                    if (f->whole) {
                        for (int k = 0; k < DEPTH; k++)
                            ordered[k] = weights[(real ? first + i : first) * size + where[k]];
                        values = ordered;
                    }
                    split_cell(values, real ? valid : 0, parts, cell, &r);
                    for (int p = 0; p < parts; p++)
                        tile[p][i] = cell[p];
                }
                for (int p = 0; p < parts; p++, packed += TILE_BYTES) {
                    transpose(tile[p]);
                    memcpy(packed, tile[p], TILE_BYTES);
                }
            }
    uint32_t low, high;
    range_get(&r, &low, &high);
    return safe_range(f, low, high);
}

static int pack_filters(pycnn_amx_filters *f, const float *weights, void *packed)
{
    return f->parts == 1   ? pack(f, weights, packed, 1)
           : f->parts == 2 ? pack(f, weights, packed, 2)
                           : pack(f, weights, packed, 3);
}

/* ---- image ----------------------------------------------------------------------------------- */

/* One image row: cell `column`, plane by plane; row_values floats, windows may leave it. */
INLINE void split_row(const pycnn_amx_filters *f, const pycnn_amx_image *g, const float *row,
                      char *to, const int parts, range *r)
{
    const ptrdiff_t row_values = g->width * f->channels;
    const ptrdiff_t step = f->channels * (f->taps_x > 1 ? 1 : g->stride_x);
    ptrdiff_t at = -g->pad_left * f->channels;
    for (ptrdiff_t column = 0; column < g->columns; column++, at += step, to += CELL) {
        const int inside = at >= 0 && at + f->run <= row_values;
        char *cell = to;
        for (ptrdiff_t k = 0; k < f->run; k += DEPTH) {
            const ptrdiff_t end = inside ? f->run - k : least(f->run, row_values - at) - k;
            __m512i part[3];
            split_cell(row + at + k, span(inside ? 0 : -at - k, end), parts, part, r);
            for (int p = 0; p < parts; p++, cell += g->part_bytes)
                _mm512_store_si512(cell, part[p]);
        }
    }
}

INLINE ptrdiff_t split_band(const pycnn_amx_filters *f, const pycnn_amx_image *g, const float *x,
                            ptrdiff_t first, ptrdiff_t end, char *band, unsigned char *unsafe,
                            const int parts)
{
    const ptrdiff_t rows = end - first, used = (rows - 1) * g->stride_y + f->kh;
    const ptrdiff_t row_bytes = g->columns * CELL;
    const ptrdiff_t stored = least(f->kh, g->stride_y) * g->phase_rows;
    ptrdiff_t n_unsafe = 0;
    memset(unsafe, 0, (size_t)rows);
    for (ptrdiff_t i = 0; i <= stored; i++) {
        char *to = band + i * row_bytes;
        const ptrdiff_t y = i / g->phase_rows + i % g->phase_rows * g->stride_y;
        const ptrdiff_t image_y = first * g->stride_y - g->pad_top + y;
        if (i < stored && y < used && 0 <= image_y && image_y < g->height) {
            uint32_t low, high;
            range r;
            range_clear(&r);
            split_row(f, g, x + image_y * g->width * f->channels, to, parts, &r);
            range_get(&r, &low, &high);
            if (high == 0 || (low >= f->x_min && high <= f->x_max))
                continue;
            for (ptrdiff_t row = 0; row < rows; row++)
                if (row * g->stride_y <= y && y < row * g->stride_y + f->kh && !unsafe[row]) {
                    unsafe[row] = 1;
                    n_unsafe++;
                }
        }
        /* Rows outside the image or unsafe (their NaN must not reach other rows' windows through
         * cells that meet a zero weight), and the lines after the last row. */
        const ptrdiff_t bytes = i < stored ? row_bytes : g->part_bytes - stored * row_bytes;
        for (ptrdiff_t p = 0; p < f->planes * parts; p++)
            memset(to + p * g->part_bytes, 0, (size_t)bytes);
    }
    return n_unsafe;
}

/* Whole windows: the image rows of one output row, column by column; zeros above and below the
 * image.  Beside it, `gathered` is left as it is. */
static void gather_rows(const pycnn_amx_filters *f, const pycnn_amx_image *g, const float *x,
                        ptrdiff_t image_y, float *gathered)
{
    const ptrdiff_t channels = f->channels, column = f->kh * channels;
    const ptrdiff_t left = most(0, g->pad_left), image_x = left - g->pad_left;
    const ptrdiff_t n = least(g->columns - left, g->width - image_x);
    for (ptrdiff_t ky = 0; ky < f->kh; ky++, image_y++) {
        const int inside = 0 <= image_y && image_y < g->height;
        for (ptrdiff_t c = 0; c < channels; c += 16) {
            const __mmask16 some = (__mmask16)span(0, least(16, channels - c));
            const float *from = x + (inside ? image_y * g->width + image_x : 0) * channels + c;
            float *to = gathered + left * column + ky * channels + c;
            for (ptrdiff_t i = 0; i < n; i++, from += channels, to += column)
                _mm512_mask_storeu_ps(
                    to, some,
                    _mm512_castsi512_ps(_mm512_maskz_loadu_epi32(inside ? some : 0, from)));
        }
    }
}

INLINE ptrdiff_t split_whole(const pycnn_amx_filters *f, const pycnn_amx_image *g, const float *x,
                             ptrdiff_t first, ptrdiff_t end, char *band, unsigned char *unsafe,
                             const int parts)
{
    const ptrdiff_t values = g->columns * f->kh * f->channels, row_bytes = values * 2;
    const ptrdiff_t rows = end - first;
    float *gathered = (float *)(band + parts * g->part_bytes);
    ptrdiff_t n_unsafe = 0;
    memset(gathered, 0, (size_t)gathered_bytes(f, g));
    for (ptrdiff_t i = 0; i < rows; i++) {
        char *row = band + i * row_bytes;
        uint32_t low, high;
        range r;
        range_clear(&r);
        gather_rows(f, g, x, (first + i) * g->stride_y - g->pad_top, gathered);
        /* The last cell may go on in the next row, which comes later. */
        for (ptrdiff_t k = 0; k < values; k += DEPTH) {
            const __m512i a = _mm512_maskz_loadu_epi32(0xffff, gathered + k);
            const __m512i b = _mm512_maskz_loadu_epi32(0xffff, gathered + k + 16);
            __m512i part[3];
            range_add(&r, a);
            range_add(&r, b);
            split(a, b, parts, part);
            for (int p = 0; p < parts; p++)
                _mm512_storeu_si512(row + k * 2 + p * g->part_bytes, part[p]);
        }
        range_get(&r, &low, &high);
        unsafe[i] = high != 0 && (low < f->x_min || high > f->x_max);
        n_unsafe += unsafe[i];
        for (int p = 0; p < parts && unsafe[i]; p++)
            memset(row + p * g->part_bytes, 0, (size_t)row_bytes);
    }
    for (int p = 0; p < parts; p++)
        memset(band + p * g->part_bytes + rows * row_bytes, 0,
               (size_t)(g->part_bytes - rows * row_bytes));
    return n_unsafe;
}

INLINE ptrdiff_t split_any(const pycnn_amx_filters *f, const pycnn_amx_image *g, const float *x,
                           ptrdiff_t first, ptrdiff_t end, char *band, unsigned char *unsafe,
                           const int parts)
{
    return f->whole ? split_whole(f, g, x, first, end, band, unsafe, parts)
                    : split_band(f, g, x, first, end, band, unsafe, parts);
}

static ptrdiff_t split_rows(const pycnn_amx_filters *f, const pycnn_amx_image *g, const float *x,
                            ptrdiff_t first, ptrdiff_t end, void *band, unsigned char *unsafe)
{
    return f->parts == 1   ? split_any(f, g, x, first, end, band, unsafe, 1)
           : f->parts == 2 ? split_any(f, g, x, first, end, band, unsafe, 2)
                           : split_any(f, g, x, first, end, band, unsafe, 3);
}
