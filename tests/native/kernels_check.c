/* Every convolution kernel of every level this machine has, over odd shapes, against plain loops.
 *
 * Whole numbers, so results must be equal; outputs are followed by a guard value. For a machine that
 * has no Python, such as an emulated one:
 *
 *     K=src_pyx/kernels; cc -O2 -I$K tests/native/kernels_check.c $K/level*.c $K/amx.c -o check
 *     aarch64-linux-gnu-gcc -static ... -o check && qemu-aarch64 check
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

enum { SIZE = 1 << 16 };

static double x[SIZE], w[SIZE], bias[SIZE], expected[SIZE];
static char x_data[SIZE * 8], w_data[SIZE * 8], bias_data[SIZE * 8], out[SIZE * 8];
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

static double activate(double v, int activation)
{
    return v > 0 || activation == PYCNN_LINEAR ? v : activation == PYCNN_RELU ? 0 : v * 0.5;
}

/* kind: 'd'irect, 'p'lanes, depth'w'ise; the equations are in convolution.inc.h. */
static void check(const pycnn_kernels *kernels, char kind, pycnn_line line, const char *level)
{
    for (int i = 0; i < SIZE; i++)
        expected[i] = 12345;  /* what no call may overwrite */
    store(out, expected);
    for (ptrdiff_t p = 0; p < line.n_pixels; p++)
        for (ptrdiff_t f = 0; f < line.n_filters; f++) {
            double sum = bias[f];
            for (ptrdiff_t t = 0; t < line.n_taps; t++)
                for (ptrdiff_t k = 0; k < (kind == 'd' ? line.run : 1); k++) {
                    const pycnn_tap tap = line.taps[t];
                    const ptrdiff_t from = kind == 'd'   ? p * line.x_step + tap.x + k
                                           : kind == 'p' ? p + tap.x
                                                         : p * line.x_step + tap.x + f;
                    const ptrdiff_t weight = kind == 'd'   ? (tap.w + k) * line.w_step + f
                                             : kind == 'p' ? tap.w * line.w_step + f
                                                           : tap.w + f;
                    sum += x[from] * w[weight];
                }
            expected[kind == 'p' ? f * line.out_step + p : p * line.out_step + f] =
                activate(sum, line.activation);
        }
    line.x = x_data;
    line.w = w_data;
    line.bias = bias_data;
    line.out = out;
    (kind == 'd' ? kernels->direct : kind == 'p' ? kernels->planes : kernels->depthwise)(&line);
    checked++;
    for (int i = 0; i < SIZE; i++)
        if (load(out, i) != expected[i]) {
            printf("%s %s %c: pixels %td filters %td run %td: out[%d] = %g, not %g\n", level,
                   is_double ? "f64" : "f32", kind, line.n_pixels, line.n_filters, line.run, i,
                   load(out, i), expected[i]);
            failures++;
            return;
        }
}

static void check_level(const pycnn_level *level, int type)
{
    const pycnn_kernels *kernels = &level->kernels[type];
    const ptrdiff_t lanes = kernels->lanes;
    pycnn_tap taps[10];
    is_double = type == PYCNN_f64;
    store(x_data, x);
    store(w_data, w);
    store(bias_data, bias);
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
            if (pixels >= lanes && filters <= 8) {
                line.out_step = pixels + 1;
                check(kernels, 'p', line, level->name);
            }
            if (filters >= lanes) {
                /* rows of one to five taps, `filters` apart, and pixels one to three taps apart */
                line.run = 1 + pixels % 5;
                line.n_taps = line.run * (filters % 3);
                line.out_step = filters + 1;
                line.x_step = filters * (1 + (pixels + filters) % 3);
                for (int t = 0; t < 10; t++)
                    taps[t] = (pycnn_tap){t / line.run * 41 + t % line.run * filters, t * filters};
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
        check_level(&pycnn_levels[i], PYCNN_f32);
        check_level(&pycnn_levels[i], PYCNN_f64);
        printf("%s: %ld calls, %d wrong\n", pycnn_levels[i].name, checked, failures);
    }
    return failures != 0;
}
