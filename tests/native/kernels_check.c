/* Every convolution kernel of every level this machine has, over odd shapes, against plain loops.
 *
 * Whole numbers, so results must be equal; outputs are followed by a guard value. For a machine that
 * has no Python, such as an emulated one:
 *
 *     K=src_pyx/kernels; cc -O2 -I$K tests/native/kernels_check.c $K/level*.c $K/amx.c -o check
 *     aarch64-linux-gnu-gcc -static ... -o check && qemu-aarch64 check
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { SIZE = 1 << 16 };

static double x[SIZE], w[SIZE], bias[SIZE], expected[SIZE];
static char x_data[SIZE * 8], w_data[SIZE * 8], bias_data[SIZE * 8], out[SIZE * 8];
static char ring[SIZE * 8];
static int is_double, failures;
static long checked;

static void store(char *data, const double *values)
{
    for (int i = 0; i < SIZE; i++)
        if (is_double)
            ((double *)data)[i] = values[i];
        else
            ((float *)data)[i] = (float)values[i];
}

static double load(const char *data, ptrdiff_t i)
{
    return is_double ? ((const double *)data)[i] : ((const float *)data)[i];
}

/* Puts everywhere what no call may overwrite but where it should. */
static void clear(void)
{
    for (int i = 0; i < SIZE; i++)
        expected[i] = 12345;
    store(out, expected);
}

static double activate(double v, int activation, double slope)
{
    return v > 0 || activation == PYCNN_LINEAR ? v : activation == PYCNN_RELU ? 0 : v * slope;
}

/* The whole of `out` with `expected`; a, b and c tell the case. */
static void compare(const char *level, char kind, ptrdiff_t a, ptrdiff_t b, ptrdiff_t c)
{
    checked++;
    for (int i = 0; i < SIZE; i++)
        if (load(out, i) != expected[i]) {
            printf("%s %s %c %td %td %td: out[%d] = %g, not %g\n", level, is_double ? "f64" : "f32",
                   kind, a, b, c, i, load(out, i), expected[i]);
            failures++;
            return;
        }
}

/* Where the weight of a channel is in [vector][tap][lane]; the last vector ends with the channels. */
static ptrdiff_t depthwise_weight(ptrdiff_t channel, ptrdiff_t channels, ptrdiff_t tap,
                                  ptrdiff_t n_taps, ptrdiff_t lanes)
{
    const ptrdiff_t last = channels - lanes;
    const ptrdiff_t vector = channel < last ? channel / lanes : (channels - 1) / lanes;
    const ptrdiff_t lane = channel < last ? channel % lanes : channel - last;
    return (vector * n_taps + tap) * lanes + lane;
}

/* Where line has the weight of product k of a tap for filter f, or channel f. */
static ptrdiff_t weight(char kind, const pycnn_line *line, pycnn_tap tap, ptrdiff_t k, ptrdiff_t f,
                        ptrdiff_t lanes)
{
    switch (kind) {
    case 'o': return f * line->w_step + tap.w + k;
    case 'w': return depthwise_weight(f, line->n_filters, tap.w, line->run, lanes);
    case 'd': return f / (2 * lanes) * line->panel_step + (tap.w + k) * line->w_step + f % (2 * lanes);
    default: return (tap.w + k) * line->w_step + f;
    }
}

/* kind: 'd'irect, d'o'ts, dots_'c'olumns, 'm'ultiply, multiply_'b'atch, depth'w'ise; the equations are
 * in convolution.inc.h, dots.inc.h, multiply.inc.h and depthwise.inc.h. */
static void check(const pycnn_kernels *kernels, char kind, pycnn_line line, const char *level)
{
    clear();
    for (ptrdiff_t p = 0; p < line.n_pixels; p++)
        for (ptrdiff_t f = 0; f < line.n_filters; f++) {
            double sum = bias[f];
            for (ptrdiff_t t = 0; t < line.n_taps; t++)
                for (ptrdiff_t k = 0; k < (kind == 'w' ? 1 : line.run); k++) {
                    const pycnn_tap tap = line.taps[t];
                    const ptrdiff_t from = p * line.x_step + tap.x + (kind == 'w' ? f : k);
                    sum += x[from] * w[weight(kind, &line, tap, k, f, kernels->lanes)];
                }
            expected[p * line.out_step + f] = activate(sum, line.activation, line.slope);
        }
    line.x = x_data;
    line.w = w_data;
    line.bias = bias_data;
    line.out = out;
    switch (kind) {
    case 'd': kernels->direct(&line); break;
    case 'o': kernels->dots(&line); break;
    case 'c': kernels->dots_columns(&line); break;
    case 'm': kernels->multiply(&line); break;
    case 'b': kernels->multiply_batch(&line); break;
    case 'w': kernels->depthwise_line(&line); break;
    }
    compare(level, kind, line.n_pixels, line.n_filters, line.run);
}

static void check_planes(const pycnn_level *level, int type)
{
    const pycnn_kernels *kernels = &level->kernels[type];
    static double conv[SIZE];
    for (int n = 0; n < 1500; n++) {
        ptrdiff_t taps[(7 + PLANES_ROWS - 1) * 12];
        pycnn_planes p = {.taps = taps, .slope = n % 9 < 6 ? 0.5 : -2, .activation = n % 3};
        p.pool = n % 4 == 3;
        if (p.pool)
            p.activation = n % 3 ? PYCNN_RELU : PYCNN_LINEAR;
        p.n_taps = rand() % 13;
        p.taps_y = p.pool + rand() % 7;
        p.n_rows = 1 + rand() % 9;
        p.n_pixels = kernels->lanes + rand() % ((n % 3 ? 10 : 24) * kernels->lanes);
        if (p.pool) {
            p.n_rows += p.n_rows % 2;
            p.n_pixels += p.n_pixels % 2;
        }
        const int in_planes = n % 2 == 0 || n % 8 == 3;
        const int most = p.pool ? PLANES_POOL_FILTERS : PLANES_FILTERS;
        p.n_filters = 1 + rand() % (in_planes ? 9 : most);
        p.w_step = p.n_filters + rand() % 3;
        const ptrdiff_t tap_row = 200 + rand() % 20;
        p.share_rows = p.pool || rand() % 3;
        p.x_row = p.share_rows ? tap_row : 2 * tap_row;
        for (ptrdiff_t ky = 0; ky < p.taps_y + (p.share_rows ? PLANES_ROWS - 1 : 0); ky++)
            for (ptrdiff_t t = 0; t < p.n_taps; t++)
                taps[ky * p.n_taps + t] = ky * tap_row + t * 13;
        const ptrdiff_t square = 1 + p.pool;
        p.out_step = in_planes ? 1 : p.n_filters;
        p.out_row = p.n_pixels / square * p.out_step + rand() % 3;
        p.out_plane = in_planes ? p.n_rows / square * p.out_row : 1;
        clear();
        for (ptrdiff_t f = 0; f < p.n_filters; f++) {
            for (ptrdiff_t y = 0; y < p.n_rows; y++)
                for (ptrdiff_t j = 0; j < p.n_pixels; j++) {
                    double sum = bias[f];
                    for (ptrdiff_t k = 0; k < p.taps_y * p.n_taps; k++)
                        sum += x[y * p.x_row + j + taps[k]] * w[k * p.w_step + f];
                    conv[y * p.n_pixels + j] = activate(sum, p.activation, p.slope);
                }
            for (ptrdiff_t y = 0; y < p.n_rows; y += square)
                for (ptrdiff_t j = 0; j < p.n_pixels; j += square) {
                    const double *at = conv + y * p.n_pixels + j;
                    double largest = at[0];
                    for (int i = 1; i < square * square; i++) {
                        const double other = at[i / 2 * p.n_pixels + i % 2];
                        largest = other > largest ? other : largest;
                    }
                    expected[y / square * p.out_row + f * p.out_plane + j / square * p.out_step] =
                        largest;
                }
        }
        p.x = x_data;
        p.w = w_data;
        p.bias = bias_data;
        p.out = out;
        kernels->planes(&p);
        compare(level->name, p.pool ? 'P' : 'p', p.n_rows, p.n_pixels, p.n_filters);
    }
}

/* One vector through a matrix: small, by columns, or large, by rows, which may overlap here; every
 * fifth time by the lanes of dots. */
static void check_multiply(const pycnn_level *level, int type)
{
    const pycnn_kernels *kernels = &level->kernels[type];
    const pycnn_tap tap = {0, 0};
    for (int n = 0; n < 300; n++) {
        pycnn_line line = {.taps = &tap, .n_taps = 1, .slope = 0.5, .activation = n % 3};
        line.n_pixels = 1;
        line.n_filters = 1 + rand() % (20 * kernels->lanes);
        line.run = n % 4 ? 1 + rand() % 100 : 70000 / (line.n_filters + 1) + rand() % 100;
        line.w_step = n % 4 ? line.n_filters + rand() % 3 : rand() % 2;
        const int dots = n % 5 == 0 && line.n_filters >= kernels->lanes && line.run >= kernels->lanes;
        check(kernels, dots ? 'c' : 'm', line, level->name);
    }
}

/* Some vectors through a matrix, which may overlap itself. */
static void check_batch(const pycnn_level *level, int type)
{
    const pycnn_kernels *kernels = &level->kernels[type];
    const pycnn_tap tap = {0, 0};
    for (int n = 0; n < 200; n++) {
        pycnn_line line = {.taps = &tap, .n_taps = 1, .slope = 0.5, .activation = n % 3};
        line.n_pixels = 1 + rand() % BATCH_PIXELS;
        line.n_filters = 2 * kernels->lanes + rand() % (n % 9 ? 9 * kernels->lanes : 1200);
        line.run = 1 + rand() % (n % 4 ? 150 : 50);
        line.w_step = n % 4 ? rand() % 40 : line.n_filters;
        line.x_step = line.run + rand() % 3;
        line.out_step = line.n_filters + rand() % 3;
        check(kernels, 'b', line, level->name);
    }
}

/* split and interleave are each other's inverse. */
static void check_transpositions(const pycnn_level *level, int type)
{
    const pycnn_kernels *kernels = &level->kernels[type];
    static char planes[SIZE * 8];
    for (ptrdiff_t n_planes = 1; n_planes <= 40; n_planes += n_planes < 9 ? 1 : 4)
        for (ptrdiff_t n = 0; n < 5 * kernels->lanes; n++) {
            const ptrdiff_t step = n + 1;
            clear();
            for (ptrdiff_t e = 0; e < n_planes; e++)
                for (ptrdiff_t j = 0; j < n; j++)
                    expected[e * step + j] = x[j * n_planes + e];
            kernels->split(x_data, n_planes, n * n_planes, out, step);
            compare(level->name, 's', n_planes, n, step);
            memcpy(planes, out, sizeof planes);
            clear();
            memcpy(expected, x, (size_t)(n * n_planes) * sizeof *x);
            kernels->interleave(planes, n_planes, n, out, step);
            compare(level->name, 'i', n_planes, n, step);
        }
}

/* A block of rows of a depthwise convolution, read in place or by way of the ring. */
static void check_rows(const pycnn_kernels *kernels, pycnn_depthwise d, const char *level)
{
    clear();
    for (ptrdiff_t y = d.first_row; y < d.end_row; y++)
        for (ptrdiff_t column = d.first_column; column < d.end_column; column++)
            for (ptrdiff_t c = 0; c < d.channels; c++) {
                double sum = bias[c];
                for (ptrdiff_t tap = 0; tap < d.taps_y * d.taps_x; tap++) {
                    const ptrdiff_t iy = y * d.stride_y - d.top + tap / d.taps_x;
                    const ptrdiff_t ix = column * d.stride_x - d.left + tap % d.taps_x;
                    if (iy >= 0 && iy < d.height && ix >= 0 && ix < d.width)
                        sum += x[iy * d.x_row + ix * d.channels + c] *
                               w[depthwise_weight(c, d.channels, tap, d.taps_y * d.taps_x,
                                                  kernels->lanes)];
                }
                expected[(y - d.first_row) * d.out_row +
                         (column - d.first_column) * d.channels + c] =
                    activate(sum, d.activation, d.slope);
            }
    d.x = x_data;
    d.w = w_data;
    d.bias = bias_data;
    d.out = out;
    kernels->depthwise_rows(&d);
    compare(level, d.ring ? 'r' : 'y', d.end_row, d.end_column, d.channels);
}

static void check_depthwise(const pycnn_level *level, int type)
{
    const pycnn_kernels *kernels = &level->kernels[type];
    for (int n = 0; n < 1200; n++) {
        pycnn_depthwise d = {.slope = 0.5, .activation = n % 3};
        d.taps_x = n % 2 ? 3 : 5;
        d.stride_x = 1 + n / 2 % 2;
        d.taps_y = 1 + rand() % 5;
        d.stride_y = 1 + rand() % (DEPTHWISE_ROWS - d.taps_y);
        if (rand() % 2) {
            d.taps_y = d.taps_x;
            d.stride_y = d.stride_x;
        }
        d.ring = n % 5 == 0 ? ring : NULL;
        d.channels = kernels->lanes + rand() % 40;
        if (n % 7 == 0)     /* pixels that fall into few sets of the cache */
            d.channels = type == PYCNN_f32 ? 128 : 64;
        d.height = 1 + rand() % 12;
        d.width = 1 + rand() % 20;
        d.top = n % 23 ? rand() % 4 : PTRDIFF_MAX / 2;
        d.left = n % 19 ? rand() % 4 : PTRDIFF_MAX / 2;
        d.x_row = d.width * d.channels;
        d.first_row = rand() % 3;
        d.end_row = d.first_row + 1 + rand() % 5;
        d.first_column = rand() % 3;
        d.end_column = d.first_column + 1 + rand() % 16;
        d.out_row = (d.end_column - d.first_column) * d.channels + 3;
        check_rows(kernels, d, level->name);
    }
}

static void check_lines(const pycnn_level *level, int type)
{
    const pycnn_kernels *kernels = &level->kernels[type];
    const ptrdiff_t lanes = kernels->lanes;
    pycnn_tap taps[10];
    for (ptrdiff_t pixels = 1; pixels <= 31; pixels++)
        for (ptrdiff_t filters = 1; filters <= 2 * lanes; filters += filters < 4 ? 1 : 3) {
            pycnn_line line = {.taps = taps, .slope = 0.5};
            line.n_pixels = pixels;
            line.n_filters = filters;
            line.activation = (int)(pixels + filters) % 3;
            line.n_taps = pixels % 4;
            line.run = 1 + filters % 5;
            line.x_step = 3 + filters % 4;
            line.w_step = filters <= lanes ? lanes : 2 * lanes;
            line.out_step = filters + pixels % 2;
            for (int t = 0; t < 10; t++)
                taps[t] = (pycnn_tap){t * 41, t * line.run};
            check(kernels, 'd', line, level->name);
            if (filters > lanes)
                for (ptrdiff_t panels = 2; panels == 2 || panels <= DIRECT_PANELS / pixels; panels++) {
                    pycnn_line several = line;
                    several.n_filters += (panels - 1) * 2 * lanes;
                    several.out_step = several.n_filters + panels % 2;
                    several.panel_step = 50 * several.w_step + panels;
                    several.n_taps = (pixels + filters) % 4;
                    check(kernels, 'd', several, level->name);
                }
            if (filters <= DOTS_FILTERS) {
                line.run = lanes + pixels * filters % (3 * lanes);
                line.w_step = 4 * line.run + 1;
                for (int t = 0; t < 10; t++)
                    taps[t] = (pycnn_tap){t * 41, t * line.run};
                check(kernels, 'o', line, level->name);
            }
            if (filters >= lanes) {
                line.run = 10;
                line.n_filters += pixels % 3 * lanes;
                line.out_step = line.n_filters + 1;
                line.x_step = line.n_filters * (1 + (pixels + filters) % 3);
                for (int t = 0; t < 10; t++)
                    taps[t] = (pycnn_tap){t * 41, t};
                check(kernels, 'w', line, level->name);
            }
        }
}

int main(void)
{
    srand(1);
    for (int i = 0; i < SIZE; i++) {
        x[i] = rand() % 17 - 8;
        w[i] = rand() % 17 - 8;
        bias[i] = rand() % 17 - 8;
    }
    for (int i = 0; i < pycnn_level_count; i++) {
        if (!pycnn_levels[i].available())
            continue;
        for (int type = PYCNN_f32; type <= PYCNN_f64; type++) {
            is_double = type == PYCNN_f64;
            store(x_data, x);
            store(w_data, w);
            store(bias_data, bias);
            check_lines(&pycnn_levels[i], type);
            check_planes(&pycnn_levels[i], type);
            check_multiply(&pycnn_levels[i], type);
            check_batch(&pycnn_levels[i], type);
            check_transpositions(&pycnn_levels[i], type);
            check_depthwise(&pycnn_levels[i], type);
        }
        printf("%s: %ld calls, %d wrong\n", pycnn_levels[i].name, checked, failures);
    }
    return failures != 0;
}
