/* Products of tiles, and writing their sums; amx.c, which includes this, says what bounds it. */

typedef struct {
    const pycnn_amx_filters *f;
    const pycnn_amx_image *g;
    const pycnn_amx_result *r;
    ptrdiff_t places;          /* of the band */
} job;

/* A place of the band: its column, the output row that it belongs to. */
typedef struct {
    ptrdiff_t place, x;
    float *row;
} position;

INLINE void advance(const job *j, position *at, ptrdiff_t places)
{
    at->place += places;
    at->x += places;
    for (; at->x >= j->g->row_places; at->x -= j->g->row_places)
        at->row += j->r->row_step;
}

/* A block of tiles: one panel's sums at several tiles of places or, across, several panels' at one;
 * sums[tile][pixel][filter]. */
typedef struct {
    float *sums;
    position at;               /* its first place; then the next to be written */
    ptrdiff_t panel;
    int tiles;
    int written;               /* of as many shares as it has tiles */
} block;

INLINE void write_pixels(const pycnn_amx_result *r, const float *sums, float *out, ptrdiff_t n,
                         const __mmask16 *filters, const __m512 *bias, const int panels,
                         const int full, const int activation)
{
    const __m512 slope = _mm512_set1_ps(r->slope);
    for (; n > 0; n--, sums += TILE, out += r->pixel_step)
        for (int i = 0; i < panels; i++) {
            __m512 v = _mm512_add_ps(_mm512_load_ps(sums + i * TILE * TILE), bias[i]);
            const __mmask16 keep = _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_NLE_UQ);
            if (activation == PYCNN_AMX_RELU)
                v = _mm512_maskz_mov_ps(keep, v);
            if (activation == PYCNN_AMX_LEAKY_RELU)
                v = _mm512_mask_mov_ps(_mm512_mul_ps(v, slope), keep, v);
            if (full)
                _mm512_storeu_ps(out + i * TILE, v);
            else
                _mm512_mask_storeu_ps(out + i * TILE, filters[i], v);   /* slower */
        }
}

INLINE void activate_pixels(const pycnn_amx_result *r, const float *sums, float *out, ptrdiff_t n,
                            const __mmask16 *filters, const __m512 *bias, const int panels,
                            const int full)
{
    if (r->activation == PYCNN_AMX_LINEAR)
        write_pixels(r, sums, out, n, filters, bias, panels, full, PYCNN_AMX_LINEAR);
    else if (r->activation == PYCNN_AMX_RELU)
        write_pixels(r, sums, out, n, filters, bias, panels, full, PYCNN_AMX_RELU);
    else
        write_pixels(r, sums, out, n, filters, bias, panels, full, PYCNN_AMX_LEAKY_RELU);
}

/* Adds the bias to the next `pixels` of a tile, activates and writes them, row by row.  What is
 * stored of a pixel is as long as can be: caches take neighbouring lines faster. */
INLINE void write_tile(const job *j, block *b, const float *sums, ptrdiff_t pixels,
                       const int panels)
{
    const pycnn_amx_image *g = j->g;
    const pycnn_amx_result *r = j->r;
    const ptrdiff_t filter = b->panel * TILE;
    const int full = filter + panels * TILE <= j->f->n_filters;
    position *at = &b->at;
    __mmask16 filters[MOST_TILES];
    __m512 bias[MOST_TILES];
    for (int i = 0; i < panels; i++) {
        filters[i] = (__mmask16)span(0, least(TILE, j->f->n_filters - filter - i * TILE));
        bias[i] = r->bias ? _mm512_maskz_loadu_ps(filters[i], r->bias + filter + i * TILE)
                          : _mm512_setzero_ps();
        /* A zero sum may be -0 or 0, as the products of zero weights have it. */
        bias[i] = _mm512_add_ps(bias[i], _mm512_setzero_ps());
    }
    pixels = least(pixels, j->places - at->place);
    while (pixels > 0) {
        const ptrdiff_t in_row = least(pixels, g->row_places - at->x);
        const ptrdiff_t n = least(in_row, g->out_width - at->x);
        float *out = at->row + at->x * r->pixel_step + filter;
        if (full)
            activate_pixels(r, sums, out, n, filters, bias, panels, 1);
        else
            activate_pixels(r, sums, out, n, filters, bias, panels, 0);
        sums += in_row * TILE;
        pixels -= in_row;
        advance(j, at, in_row);
    }
}

/* Writes the next of a block's shares, as many as it has tiles. */
static void write_share(const job *j, block *b)
{
    const pycnn_amx_image *g = j->g;
    const int share = b->written++;
    if (!j->f->whole) {
        write_tile(j, b, b->sums + share * TILE * TILE, g->tile_rows, 1);
        advance(j, &b->at, g->tile_places - g->tile_rows);
        return;
    }
    const ptrdiff_t first = g->tile_rows * share / b->tiles;
    const ptrdiff_t pixels = g->tile_rows * (share + 1) / b->tiles - first;
    const float *sums = b->sums + first * TILE;
    if (b->tiles == 1)
        write_tile(j, b, sums, pixels, 1);
    else if (b->tiles == 2)
        write_tile(j, b, sums, pixels, 2);
    else if (b->tiles == 3)
        write_tile(j, b, sums, pixels, 3);
    else
        write_tile(j, b, sums, pixels, MOST_TILES);
}

/* Computes a block.  The block before it, *done, is written between its first products, and its own
 * tiles are stored between the last, so that the matrix unit does not wait.
 *
 * A store of a tile that comes 130 products or more after the one before it stops the unit for the
 * time of 50, as measured, whatever it stores; one in between, of any tile and to anywhere, costs
 * nothing.  So a tile of filters is stored now and then, where the sums will be. */
INLINE void compute_block(const job *j, const char *packed, const char *band, const block *b,
                          block *done, const int parts, const int tiles, const int across)
{
    const pycnn_amx_filters *f = j->f;
    const pycnn_amx_image *g = j->g;
    const ptrdiff_t place_bytes = g->step_x * g->column_bytes, part_bytes = g->part_bytes;
    const ptrdiff_t next_x = g->tile_places * place_bytes, next_w = f->panel_bytes;
    const char *w = packed + b->panel * f->panel_bytes;
    const int products = tiles * parts * (parts + 1) / 2;   /* of a step */
    ptrdiff_t steps = f->tiles;
    int since_store = 0;

/* The parts of what all tiles share stay in tiles 5 to 7; the others' come to tile 4 in turn. */
#define LOAD_X(tile, i, p) _tile_loadd(tile, x + (i) * next_x + (p) * part_bytes, place_bytes)
#define LOAD_W(tile, i, p) _tile_loadd(tile, w + (i) * next_w + (p) * TILE_BYTES, CELL)
#define SHARED(tile, p)                                                                            \
    if (p < parts) {                                                                               \
        if (across)                                                                                \
            LOAD_X(tile, 0, p);                                                                    \
        else                                                                                       \
            LOAD_W(tile, 0, p);                                                                    \
    }
#define LOAD(i, p)                                                                                 \
    if (across)                                                                                    \
        LOAD_W(4, i, p);                                                                           \
    else                                                                                           \
        LOAD_X(4, i, p);
#define PRODUCT(i, part)                                                                           \
    if (across)                                                                                    \
        _tile_dpbf16ps(i, part, 4);                                                                \
    else                                                                                           \
        _tile_dpbf16ps(i, 4, part);
#define TILE_PRODUCTS(i)                                                                           \
    if (i < tiles) {                                                                               \
        if (parts == 3) {                                                                          \
            LOAD(i, 2) PRODUCT(i, 5)                                                               \
            LOAD(i, 1) PRODUCT(i, 5) PRODUCT(i, 6)                                                 \
            LOAD(i, 0) PRODUCT(i, 7) PRODUCT(i, 6) PRODUCT(i, 5)                                   \
        } else if (parts == 2) {                                                                   \
            LOAD(i, 1) PRODUCT(i, 5)                                                               \
            LOAD(i, 0) PRODUCT(i, 6) PRODUCT(i, 5)                                                 \
        } else {                                                                                   \
            LOAD(i, 0) PRODUCT(i, 5)                                                               \
        }                                                                                          \
        if (steps == 0)                                                                            \
            _tile_stored(i, b->sums + i * TILE * TILE, CELL);                                      \
        if (done->written < done->tiles)                                                           \
            write_share(j, done);                                                                  \
    }

    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (ptrdiff_t plane = 0; plane < f->planes; plane++) {
        const char *plane_x = band + b->at.place * place_bytes + plane * g->plane_bytes;
        ptrdiff_t phase = 0, row = 0;
        for (ptrdiff_t ky = 0; ky < f->taps_y; ky++) {
            const char *x = plane_x + (phase * g->phase_rows + row) * g->columns * g->column_bytes;
            if (++phase == g->stride_y) {
                phase = 0;
                row++;
            }
            for (ptrdiff_t kx = 0; kx < f->taps_x; kx++, x += CELL, w += parts * TILE_BYTES) {
                steps--;
                SHARED(5, 0)
                SHARED(6, 1)
                SHARED(7, 2)
                TILE_PRODUCTS(0)
                TILE_PRODUCTS(1)
                TILE_PRODUCTS(2)
                TILE_PRODUCTS(3)
                if ((since_store += products) > MANY_PRODUCTS && steps > 0) {
                    _tile_stored(5, b->sums, CELL);
                    since_store = 0;
                }
            }
        }
    }
    while (done->written < done->tiles)
        write_share(j, done);
#undef LOAD_X
#undef LOAD_W
#undef SHARED
#undef LOAD
#undef PRODUCT
#undef TILE_PRODUCTS
}

INLINE void compute_tiles(const job *j, const char *packed, const char *band, const block *b,
                          block *done, const int parts, const int across)
{
    if (b->tiles == 1)
        compute_block(j, packed, band, b, done, parts, 1, across);
    else if (b->tiles == 2)
        compute_block(j, packed, band, b, done, parts, 2, across);
    else if (b->tiles == 3)
        compute_block(j, packed, band, b, done, parts, 3, across);
    else
        compute_block(j, packed, band, b, done, parts, MOST_TILES, across);
}

/* Of n, taken in equal pieces of at most `most`, how many are in the first. */
static ptrdiff_t piece(ptrdiff_t n, ptrdiff_t most)
{
    return ceil_div(n, ceil_div(n, most));
}

/* For each group of panels that stays in L2: for each block of places, which stays in L1. */
INLINE void multiply(const job *j, const char *packed, const char *band, ptrdiff_t first_panel,
                     ptrdiff_t end_panel, const int parts)
{
    /* Four tiles share the filters best, and read them once when the band has no more.  Else
     * three leave tile registers to rename, which six products need when the core's other
     * hardware thread uses the matrix unit too.  Four panels across: their tiles of the image are
     * slow to load. */
    const int across = j->f->whole;
    const ptrdiff_t tile_places = j->g->tile_places;
    const ptrdiff_t all = ceil_div(j->places, tile_places);
    const ptrdiff_t most_high = across ? 1 : parts == 3 && all > MOST_TILES ? 3 : MOST_TILES;
    const ptrdiff_t most_wide = across ? MOST_TILES : 1;
    const ptrdiff_t group = most(most_wide, FILTER_BYTES / j->f->panel_bytes);
    float sums[2][MOST_TILES * TILE * TILE] __attribute__((aligned(64)));
    block done = {sums[1], {0, 0, j->r->out}, 0, 0, 0};
    for (ptrdiff_t first = first_panel; first < end_panel; first += group) {
        const ptrdiff_t end = least(first + group, end_panel);
        position at = {0, 0, j->r->out};
        ptrdiff_t high, wide;
        for (; at.place < j->places; advance(j, &at, high * tile_places)) {
            high = piece(ceil_div(j->places - at.place, tile_places), most_high);
            for (ptrdiff_t panel = first; panel < end; panel += wide) {
                wide = piece(end - panel, most_wide);
                const block next = {done.sums == sums[0] ? sums[1] : sums[0], at, panel,
                                    (int)(high * wide), 0};
                if (across)
                    compute_tiles(j, packed, band, &next, &done, parts, 1);
                else
                    compute_tiles(j, packed, band, &next, &done, parts, 0);
                done = next;
            }
        }
    }
    while (done.written < done.tiles)
        write_share(j, &done);
}

static void multiply_panels(const pycnn_amx_filters *f, const pycnn_amx_image *g,
                            const void *packed, const void *band, ptrdiff_t first, ptrdiff_t end,
                            ptrdiff_t first_panel, ptrdiff_t end_panel, const pycnn_amx_result *r)
{
    const job j = {f, g, r, (end - first - 1) * g->row_places + g->out_width};
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } config;
    memset(&config, 0, sizeof config);
    config.palette = 1;
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = CELL;
        config.rows[i] = i < 4 || (i == 4) != f->whole ? (uint8_t)g->tile_rows : TILE;
    }
    /* GCC's tile intrinsics do not say that they read memory. */
    __asm__ volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
    if (f->parts == 1)
        multiply(&j, packed, band, first_panel, end_panel, 1);
    else if (f->parts == 2)
        multiply(&j, packed, band, first_panel, end_panel, 2);
    else
        multiply(&j, packed, band, first_panel, end_panel, 3);
    _tile_release();
}
