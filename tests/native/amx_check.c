/* Every kernel of amx.c over odd shapes: against a model of its arithmetic, bit by bit, and against
 * the bounds that amx.c proves.
 *
 * Runs on the matrix unit, or on the software form of it anywhere:
 *
 *     K=src_pyx/kernels; cc -O2 -I$K tests/native/amx_check.c $K/level*.c $K/amx.c -lm -o check
 *     gcc -DPYCNN_SOFTWARE_AMX=pycnn_kernels_avx2 ...
 *
 * Each array has a block of its own, which ends where it ends, for AddressSanitizer to see.
 */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

#ifdef PYCNN_SOFTWARE_AMX
int software_amx_in_use(void);
#else
#define software_amx_in_use() 0  /* a program cannot ask the unit itself */
#endif

enum { WHOLE, NORMAL, WIDE, KINDS };  /* numbers */
enum { DEPTH = 32, CASES = 1000 };

static const char *const kind_names[] = {"whole numbers", "normal", "wide"};
static const float GUARD = 12345;
static int failures;
static long outputs[KINDS], unsafe_rows, refused, whole_windows;

typedef struct {
    pycnn_amx_filters f;
    pycnn_amx_image g;
    int kind, activation;
    float *x, *w, *bias;
    char *packed;
} layer;

static ptrdiff_t up_to(ptrdiff_t n)  /* 0 to n */
{
    return rand() % (n + 1);
}

static ptrdiff_t least(ptrdiff_t a, ptrdiff_t b)
{
    return a < b ? a : b;
}

static void *allocate(ptrdiff_t n_bytes)
{
    /* What a kernel does not write is NaN as a float and as a bfloat16 number. */
    void *p = NULL;
    if (posix_memalign(&p, 64, (size_t)n_bytes) != 0)
        exit(2);
    memset(p, 0xff, (size_t)n_bytes);
    return p;
}

static void fail(const layer *l, const char *what)
{
    if (failures++ < 10)
        printf("%s: %tdx%tdx%td -> %td, %tdx%td, stride %td %td, padding %td %td, out %tdx%td, "
               "rows %td, parts %d, %s\n",
               what, l->g.height, l->g.width, l->f.channels, l->f.n_filters, l->f.kh, l->f.kw,
               l->g.stride_y, l->g.stride_x, l->g.pad_top, l->g.pad_left, l->g.out_height,
               l->g.out_width, l->g.rows, l->f.parts, kind_names[l->kind]);
}

static int same(const float *a, const float *b, ptrdiff_t n)
{
    return memcmp(a, b, (size_t)n * sizeof *a) == 0;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static double uniform(void)
{
    return 2.0 * rand() / RAND_MAX - 1;
}

/* Whole numbers of so many bits.  Wide: all bits set, but one, or at random, and an exponent of the
 * range given. */
static float number(int kind, int bits, int lowest, int highest)
{
    if (kind == WHOLE)
        return (float)((rand() % 2 ? 1 : -1) * up_to((1 << bits) - 1));
    if (kind == NORMAL)
        return (float)(uniform() + uniform() + uniform());
    const int mantissa = rand() % 4, more = rand() & 0x7fffff;
    const int full = mantissa == 0 ? 0 : mantissa == 1 ? 0x7fffff : more;
    if (rand() % 8 == 0)
        return rand() % 2 ? 0.0f : -0.0f;
    return (float)ldexp(rand() % 2 ? 0x800000 + full : -0x800000 - full,
                        lowest - 23 + (int)up_to(highest - lowest));
}

static void fill(layer *l)
{
    const ptrdiff_t k = l->f.kh * l->f.kw * l->f.channels;
    /* One part has 8 bits, two have 16; sums stay below 2^24. */
    const int bits = l->f.parts == 1 ? 7 : l->f.parts == 2 ? 11 : 12, other = k > 512 ? 1 : 2;
    /* Over all exponents that amx.c takes: the least of x and w add up to -96 or more, the largest,
     * with that of the number of products, to 125 or less.  Sometimes beyond: rows for which it
     * says so are left out, the others must keep their bounds. */
    const int beyond = rand() % 2 ? (int)up_to(rand() % 2 ? 8 : 40) : 0;
    const int w_spread = (int)up_to(rand() % 2 ? 4 : 60), w_lowest = -103 - beyond / 8 + (int)up_to(220 - w_spread);
    const int w_highest = w_lowest + w_spread;
    const int x_lowest = (w_lowest > 7 ? -103 : -96 - w_lowest) - beyond;
    int x_highest = (int)least(125 - 11 - w_highest + beyond, 127);
    if (x_highest < x_lowest || rand() % 2)
        x_highest = x_lowest + (int)up_to(4);
    const int sum_exponent = w_highest + x_lowest;
    for (ptrdiff_t i = 0; i < l->g.height * l->g.width * l->f.channels; i++)
        l->x[i] = number(l->kind, bits, x_lowest, x_highest);
    for (ptrdiff_t i = 0; i < l->f.n_filters * k; i++)
        l->w[i] = number(l->kind, other, w_lowest, w_highest);
    for (ptrdiff_t i = 0; i < l->f.n_filters; i++)
        l->bias[i] = number(l->kind, 7, -126, sum_exponent < -126 ? -126 : (int)least(sum_exponent, 120));
}

static float truncated(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    bits &= 0xffff0000u;
    memcpy(&v, &bits, 4);
    return v;
}

static float rounded(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, 4);
    bits += 0x8000u;
    memcpy(&v, &bits, 4);
    return truncated(v);
}

static void parts_of(float v, int parts, float *part)
{
    for (int p = 0; p < parts; p++) {
        part[p] = parts == 3 ? truncated(v) : rounded(v);
        v -= part[p];
    }
}

/* ---- one output ------------------------------------------------------------------------------ */

static double activated(double v, int activation)
{
    return v > 0 || activation == PYCNN_AMX_LINEAR ? v : activation == PYCNN_AMX_RELU ? 0 : v * 0.5;
}

/* Product k of a run that begins at tap kx of row ky: where it stands in a filter. */
static ptrdiff_t place_of(const layer *l, ptrdiff_t ky, ptrdiff_t kx, ptrdiff_t k)
{
    const ptrdiff_t channels = l->f.channels;
    if (!l->f.whole)
        return (ky * l->f.kw + kx) * channels + k;
    kx = k / (l->f.kh * channels);
    ky = k / channels % l->f.kh;
    return (ky * l->f.kw + kx) * channels + k % channels;
}

/* The pixel that meets a filter's k-th weight, 0 outside the image. */
static float pixel(const layer *l, ptrdiff_t y, ptrdiff_t x, ptrdiff_t k)
{
    const pycnn_amx_image *g = &l->g;
    const ptrdiff_t channels = l->f.channels, row = l->f.kw * channels;
    const ptrdiff_t iy = y * g->stride_y - g->pad_top + k / row;
    const ptrdiff_t ix = x * g->stride_x - g->pad_left + k % row / channels;
    const int inside = iy >= 0 && iy < g->height && ix >= 0 && ix < g->width;
    return inside ? l->x[(iy * g->width + ix) * channels + k % channels] : 0;
}

static float weight(const layer *l, ptrdiff_t f, ptrdiff_t k)
{
    return l->w[f * l->f.kh * l->f.kw * l->f.channels + k];
}

static float flushed(float v)
{
    return fabsf(v) < FLT_MIN ? 0 : v;
}

/* The sum as the tiles make it: for each 32 products and each pair of parts, two chains of FMAs.
 * Parts of x and of w change places where windows are whole. */
static float model(const layer *l, ptrdiff_t y, ptrdiff_t x, ptrdiff_t f)
{
    static const int pairs[3][6][2] = {
        {{0, 0}},
        {{1, 0}, {0, 1}, {0, 0}},
        {{2, 0}, {1, 0}, {1, 1}, {0, 2}, {0, 1}, {0, 0}},
    };
    const int parts = l->f.parts, n_pairs = parts * (parts + 1) / 2;
    float sum = 0;
    for (ptrdiff_t plane = 0; plane < l->f.planes; plane++)
        for (ptrdiff_t ky = 0; ky < l->f.taps_y; ky++)
            for (ptrdiff_t kx = 0; kx < l->f.taps_x; kx++) {
                float a[DEPTH][3] = {{0}}, b[DEPTH][3] = {{0}};
                for (ptrdiff_t i = 0; i < least(DEPTH, l->f.run - plane * DEPTH); i++) {
                    const ptrdiff_t k = place_of(l, ky, kx, plane * DEPTH + i);
                    parts_of(pixel(l, y, x, k), parts, l->f.whole ? b[i] : a[i]);
                    parts_of(weight(l, f, k), parts, l->f.whole ? a[i] : b[i]);
                }
                for (int p = 0; p < n_pairs; p++) {
                    float chain[2] = {0, 0};
                    for (int i = 0; i < DEPTH; i++)
                        chain[i % 2] = flushed(fmaf(a[i][pairs[parts - 1][p][0]],
                                                    b[i][pairs[parts - 1][p][1]], chain[i % 2]));
                    sum = flushed(sum + flushed(chain[0] + chain[1]));
                }
            }
    return sum;
}

static double gamma_of(double n)
{
    const double u = ldexp(1, -24);
    return n * u / (1 - n * u);
}

static void check_output(const layer *l, ptrdiff_t y, ptrdiff_t x, ptrdiff_t f, float actual)
{
    const double k = (double)(l->f.kh * l->f.kw * l->f.channels);
    const double tiles = (double)l->f.tiles;
    const double chain = (double)(least(DEPTH, l->f.run + 1) / 2);
    long double sum = l->bias[f], size = fabsf(l->bias[f]);
    for (ptrdiff_t i = 0; i < l->f.kh * l->f.kw * l->f.channels; i++) {
        const long double product = (long double)pixel(l, y, x, i) * weight(l, f, i);
        sum += product;
        size += fabsl(product);
    }
    const double bound = l->f.parts == 3   ? gamma_of(k + 2)
                         : l->f.parts == 2 ? ldexp(1, -15) + gamma_of(chain + 3 * tiles)
                                           : ldexp(1, -7) + ldexp(1, -16) + gamma_of(chain + tiles);
    const long double exact = activated((double)sum, l->activation);
    const long double allowed =
        l->kind == WHOLE ? 0 : bound * size + (k + 2) * ldexp(1, -149);
    outputs[l->kind]++;
    if (!(fabsl(actual - exact) <= allowed))
        fail(l, "an output misses its bound");
    /* Leaky relu rounds once more. */
    if (l->kind != WHOLE && l->activation != PYCNN_AMX_LEAKY_RELU) {
        const float expected = (float)activated(model(l, y, x, f) + l->bias[f], l->activation);
        if (actual != expected)
            fail(l, "an output is not that of the model");
    }
}

/* ---- one layer ------------------------------------------------------------------------------- */

/* Fills in the shape; as the callers promise, every window holds a pixel of the image. */
static layer random_layer(void)
{
    layer l;
    memset(&l, 0, sizeof l);
    l.kind = (int)least(rand() % 4, WIDE);
    l.activation = rand() % 3;
    l.f.parts = 1 + rand() % 3;
    l.f.kh = 1 + up_to(3);
    l.f.kw = 1 + up_to(4);
    l.f.channels = rand() % 3 == 0   ? DEPTH * (1 + up_to(2))
                   : rand() % 2 == 0 ? 1 + up_to(11)
                                     : 1 + up_to(80);
    l.f.n_filters = 1 + up_to(rand() % 4 == 0 ? 70 : 17);
    l.g.stride_y = 1 + up_to(3);
    l.g.stride_x = 1 + up_to(3);
    for (;;) {
        l.g.out_height = 1 + up_to(6);
        l.g.out_width = 1 + up_to(rand() % 4 == 0 ? 40 : 9);
        l.g.pad_top = up_to(l.f.kh - 1);
        l.g.pad_left = up_to(l.f.kw - 1);
        l.g.height = (l.g.out_height - 1) * l.g.stride_y - l.g.pad_top + l.f.kh - up_to(l.f.kh - 1);
        l.g.width = (l.g.out_width - 1) * l.g.stride_x - l.g.pad_left + l.f.kw - up_to(l.f.kw - 1);
        if (l.g.height > 0 && l.g.width > 0)
            break;
    }
    /* Pixels behind the last window. */
    l.g.height += rand() % 3 == 0 ? up_to(3) : 0;
    l.g.width += rand() % 3 == 0 ? up_to(3) : 0;
    return l;
}

typedef struct {
    float *out;
    ptrdiff_t size, row_step, pixel_step;
    unsigned char *unsafe;
} results;

static results new_results(const layer *l)
{
    results r;
    r.pixel_step = l->f.n_filters + up_to(2);
    r.row_step = l->g.out_width * r.pixel_step + up_to(3);
    /* The last row ends with its last filter. */
    r.size = (l->g.out_height - 1) * r.row_step + (l->g.out_width - 1) * r.pixel_step +
             l->f.n_filters;
    r.out = allocate(r.size * (ptrdiff_t)sizeof *r.out);
    for (ptrdiff_t i = 0; i < r.size; i++)
        r.out[i] = GUARD;
    r.unsafe = allocate(l->g.out_height);
    return r;
}

/* The columns [left, left + width) of all rows, in bands of at most `rows`, panels in chunks. */
static void compute(const layer *l, results *r, ptrdiff_t rows, ptrdiff_t left, ptrdiff_t width)
{
    pycnn_amx_image g = l->g;
    g.rows = rows;
    g.out_width = width;
    g.pad_left = l->g.pad_left - left * l->g.stride_x;
    pycnn_amx.plan_image(&l->f, &g);
    if (rows > 0 ? g.rows != rows : g.rows < 1 || g.rows > g.out_height)
        fail(l, "plan_image wants other rows");
    char *band = allocate(g.band_bytes);
    for (ptrdiff_t first = 0; first < g.out_height; first += g.rows) {
        const ptrdiff_t end = least(first + g.rows, g.out_height), n = end - first;
        unsigned char *unsafe = allocate(n);
        const ptrdiff_t n_unsafe = pycnn_amx.split(&l->f, &g, l->x, first, end, band, unsafe);
        ptrdiff_t counted = 0;
        for (ptrdiff_t i = 0; i < n; i++)
            counted += unsafe[i] == 1;
        if (counted != n_unsafe)
            fail(l, "split counts the unsafe rows wrongly");
        for (ptrdiff_t i = 0; i < n; i++)
            r->unsafe[first + i] |= unsafe[i];
        free(unsafe);
        ptrdiff_t chunk;
        for (ptrdiff_t panel = 0; panel < l->f.panels; panel += chunk) {
            chunk = least(l->f.panels - panel, 1 + up_to(3));
            const pycnn_amx_result to = {
                r->out + first * r->row_step + left * r->pixel_step, r->row_step, r->pixel_step,
                l->bias, l->activation, 0.5f};
            pycnn_amx.multiply(&l->f, &g, l->packed, band, first, end, panel, panel + chunk, &to);
            if (software_amx_in_use())
                fail(l, "multiply does not release the tiles");
        }
    }
    free(band);
}

static void free_results(results *r)
{
    free(r->out);
    free(r->unsafe);
}

/* Nothing but outputs is written. */
static void check_guards(const layer *l, const results *r)
{
    for (ptrdiff_t i = 0; i < r->size; i++) {
        const ptrdiff_t in_row = i % r->row_step;
        if ((in_row / r->pixel_step >= l->g.out_width || in_row % r->pixel_step >= l->f.n_filters) &&
            r->out[i] != GUARD) {
            fail(l, "something is written between the outputs");
            return;
        }
    }
}

/* Safe rows have the same bits. */
static void check_same(const layer *l, const results *a, const results *b, const char *what)
{
    for (ptrdiff_t y = 0; y < l->g.out_height; y++)
        for (ptrdiff_t x = 0; x < l->g.out_width && !a->unsafe[y] && !b->unsafe[y]; x++)
            if (!same(a->out + y * a->row_step + x * a->pixel_step,
                      b->out + y * b->row_step + x * b->pixel_step, l->f.n_filters)) {
                fail(l, what);
                return;
            }
}

/* A number that has no parts, in one pixel: the rows of its windows are unsafe, the others as if it
 * were not there. */
static void check_unsafe(layer *l, const results *clean)
{
    static const float odd[] = {NAN, INFINITY, -INFINITY, 3e38f, 1e-44f, -1e-35f, 1.5e38f};
    const ptrdiff_t n = l->g.height * l->g.width * l->f.channels, at = up_to(n - 1);
    const ptrdiff_t iy = at / (l->g.width * l->f.channels), ix = at / l->f.channels % l->g.width;
    const float before = l->x[at];
    l->x[at] = odd[rand() % (sizeof odd / sizeof *odd)];
    results r = new_results(l);
    memset(r.unsafe, 0, (size_t)l->g.out_height);
    compute(l, &r, up_to(l->g.out_height), 0, l->g.out_width);
    for (ptrdiff_t y = 0; y < l->g.out_height; y++) {
        const ptrdiff_t ky = iy - y * l->g.stride_y + l->g.pad_top;
        int seen = 0;
        for (ptrdiff_t x = 0; x < l->g.out_width && 0 <= ky && ky < l->f.kh; x++) {
            const ptrdiff_t kx = ix - x * l->g.stride_x + l->g.pad_left;
            seen |= 0 <= kx && kx < l->f.kw;
        }
        if (seen && !r.unsafe[y])
            fail(l, "a row with an unsafe number passes for safe");
        if ((ky < 0 || ky >= l->f.kh) && r.unsafe[y] && !clean->unsafe[y])
            fail(l, "a row that does not see an unsafe number is unsafe");
        unsafe_rows += seen;
    }
    check_same(l, clean, &r, "an unsafe number changes other rows");
    check_guards(l, &r);
    free_results(&r);
    l->x[at] = before;
}

static void check_layer(void)
{
    layer l = random_layer();
    const ptrdiff_t k = l.f.kh * l.f.kw * l.f.channels;
    l.x = allocate(l.g.height * l.g.width * l.f.channels * (ptrdiff_t)sizeof(float));
    l.w = allocate(l.f.n_filters * k * (ptrdiff_t)sizeof(float));
    l.bias = allocate(l.f.n_filters * (ptrdiff_t)sizeof(float));
    fill(&l);
    const int planned = pycnn_amx.plan_filters(&l.f);
    if (!planned && l.f.run % DEPTH == 0)
        fail(&l, "whole tiles are refused");
    l.packed = allocate(l.f.packed_bytes);
    if (planned && pycnn_amx.pack(&l.f, l.w, l.packed)) {
        results whole = new_results(&l), cut = new_results(&l);
        memset(whole.unsafe, 0, (size_t)l.g.out_height);
        memset(cut.unsafe, 0, (size_t)l.g.out_height);
        whole_windows += l.f.whole;
        compute(&l, &whole, 0, 0, l.g.out_width);
        check_guards(&l, &whole);
        for (ptrdiff_t y = 0; y < l.g.out_height; y++)
            for (ptrdiff_t x = 0; x < l.g.out_width && !whole.unsafe[y]; x++)
                for (ptrdiff_t f = rand() % 5; f < l.f.n_filters; f += 1 + up_to(9))
                    check_output(&l, y, x, f, whole.out[y * whole.row_step + x * whole.pixel_step + f]);
        /* Other bands, other panels, two ranges of columns: the same bits. */
        const ptrdiff_t left = up_to(l.g.out_width - 1), rows = 1 + up_to(l.g.out_height - 1);
        if (left > 0)
            compute(&l, &cut, rows, 0, left);
        compute(&l, &cut, rows, left, l.g.out_width - left);
        check_same(&l, &whole, &cut, "bands, panels or columns change the bits");
        check_guards(&l, &cut);
        if (l.kind != WIDE)
            check_unsafe(&l, &whole);
        free_results(&whole);
        free_results(&cut);
        /* One weight that has no parts refuses them all. */
        l.w[up_to(l.f.n_filters * k - 1)] = rand() % 2 ? NAN : 1e-40f;
        if (pycnn_amx.pack(&l.f, l.w, l.packed))
            fail(&l, "an unsafe weight is packed");
    } else {
        refused++;
        if (planned && l.kind != WIDE)
            fail(&l, "good weights are refused");
    }
    free(l.x);
    free(l.w);
    free(l.bias);
    free(l.packed);
}

int main(void)
{
    const pycnn_level *best = &pycnn_levels[pycnn_level_count - 1];
    if (best->amx == NULL || !best->available() || !best->enable()) {
        printf("amx: this machine has no matrix unit\n");
        return 0;
    }
    srand(1);
    for (int i = 0; i < CASES; i++)
        check_layer();
    printf("amx: %d layers, %ld refused, %ld of whole windows; %ld + %ld + %ld outputs, "
           "%ld unsafe rows, %d wrong\n",
           CASES, refused, whole_windows, outputs[WHOLE], outputs[NORMAL], outputs[WIDE],
           unsafe_rows, failures);
    /* Each layout is met. */
    return failures != 0 || whole_windows < CASES / 8 || whole_windows > CASES / 2;
}
