/* One instruction set's tables: every kernel for every element type.
 *
 * The including file has opened its target region and defines LEVEL (a name), VECTOR_BYTES and
 * the tile sizes TILE_PIXELS, PLANES_VECTORS and DEPTHWISE_PIXELS that fit its registers.
 */
#include <stdint.h>
#include <string.h>

#include "kernels.h"

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define NAME(x) PASTE(x, SUFFIX)

#include "compact.inc.h"

#define IS_FLOAT 1

#define T float
#define SUFFIX f32
#include "vectors.inc.h"
#include "convolution.inc.h"
#include "depthwise.inc.h"
#include "winograd.inc.h"
#include "planes.inc.h"
#include "pooling.inc.h"
#include "undefine.inc.h"

#define T double
#define SUFFIX f64
#include "vectors.inc.h"
#include "convolution.inc.h"
#include "depthwise.inc.h"
#include "planes.inc.h"
#include "pooling.inc.h"
#include "undefine.inc.h"

#undef IS_FLOAT
#define IS_FLOAT 0

#define T signed char
#define SUFFIX i8
#include "vectors.inc.h"
#include "pooling.inc.h"
#include "undefine.inc.h"

#define T unsigned char
#define SUFFIX u8
#include "vectors.inc.h"
#include "pooling.inc.h"
#include "undefine.inc.h"

#define T short
#define SUFFIX i16
#include "vectors.inc.h"
#include "pooling.inc.h"
#include "undefine.inc.h"

#define T unsigned short
#define SUFFIX u16
#include "vectors.inc.h"
#include "pooling.inc.h"
#include "undefine.inc.h"

#define T int
#define SUFFIX i32
#include "vectors.inc.h"
#include "pooling.inc.h"
#include "undefine.inc.h"

#define T unsigned int
#define SUFFIX u32
#include "vectors.inc.h"
#include "pooling.inc.h"
#include "undefine.inc.h"

#define T long long
#define SUFFIX i64
#include "vectors.inc.h"
#include "pooling.inc.h"
#include "undefine.inc.h"

#define T unsigned long long
#define SUFFIX u64
#include "vectors.inc.h"
#include "pooling.inc.h"
#include "undefine.inc.h"

#define WINOGRAD_f32 .winograd_pack = winograd_pack_f32, .winograd = winograd_f32,
#define WINOGRAD_f64

#define FLOAT_TABLE(T, S)                                                                          \
    [PYCNN_##S] = {                                                                                \
        .lanes = VECTOR_BYTES / sizeof(T),                                                         \
        .direct_pixels = TILE_PIXELS,                                                              \
        .direct = direct_##S,                                                                      \
        .multiply = multiply_##S,                                                                  \
        .planes = planes_##S,                                                                      \
        .depthwise_line = depthwise_line_##S,                                                      \
        .depthwise_rows = depthwise_rows_##S,                                                      \
        WINOGRAD_##S                                                                               \
        .transpose = transpose_##S,                                                                \
        .split = split_##S,                                                                        \
        .interleave = interleave_##S,                                                              \
        .max_windows = max_windows_##S,                                                            \
        .mean_windows = mean_windows_##S,                                                          \
        .compact = PASTE(compact, LEVEL),                                                          \
        .relu = relu_##S,                                                                          \
        .leaky_relu = leaky_relu_##S,                                                              \
    },
#define INTEGER_TABLE(T, S)                                                                        \
    [PYCNN_##S] = {                                                                                \
        .lanes = VECTOR_BYTES / sizeof(T),                                                         \
        .max_windows = max_windows_##S,                                                            \
        .compact = PASTE(compact, LEVEL),                                                          \
        .relu = relu_##S,                                                                          \
    },

const pycnn_kernels PASTE(pycnn_kernels, LEVEL)[PYCNN_TYPE_COUNT] = {
    PYCNN_FLOATS(FLOAT_TABLE) PYCNN_INTEGERS(INTEGER_TABLE)
};
