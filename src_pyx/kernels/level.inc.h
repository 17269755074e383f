/* One instruction set's tables: every kernel for every element type.
 *
 * The including file has opened its target region and defines LEVEL (a name), VECTOR_BYTES and
 * REGISTERS, the number of vector registers.
 */
#include <stdint.h>
#include <string.h>

#include "kernels.h"

#define PASTE_(a, b) a##_##b
#define PASTE(a, b) PASTE_(a, b)
#define NAME(x) PASTE(x, SUFFIX)

/* Tiles whose sums, with what they are multiplied by, fill the registers.  direct: pixels beside two
 * vectors of filters (TILE_PIXELS), pixels beside two panels of two (PANELS_PIXELS), and pixels x
 * panels of small tiles; depthwise: pixels in each of two rows; planes: rows x filters x vectors, every
 * tile that PLANES_MOST_ROWS, PLANES_SUMS and the most vectors for each number of filters let planes()
 * choose: a missing one would be called through NULL. */
#define TILES_2(TILE, rows, filters) TILE(rows, filters, 1) TILE(rows, filters, 2)
#define TILES_3(TILE, rows, filters) TILES_2(TILE, rows, filters) TILE(rows, filters, 3)
#define TILES_4(TILE, rows, filters) TILES_3(TILE, rows, filters) TILE(rows, filters, 4)
#define TILES_6(TILE, rows, filters)                                                               \
    TILES_4(TILE, rows, filters) TILE(rows, filters, 5) TILE(rows, filters, 6)
#define DIRECT_PANELS_TILES_3(TILE)                                                                \
    TILE(1, 2) TILE(1, 3) TILE(1, 4) TILE(1, 5) TILE(1, 6) TILE(2, 2) TILE(2, 3) TILE(3, 2)
#if REGISTERS == 32
#define TILE_PIXELS 14
#define PANELS_PIXELS 6
#define DIRECT_PANELS_TILES(TILE)                                                                  \
    DIRECT_PANELS_TILES_3(TILE) TILE(4, 2) TILE(5, 2) TILE(6, 2)
#define DEPTHWISE_PIXELS 7
#define PLANES_VECTORS 6
#define PLANES_MOST_ROWS 4
#define PLANES_SUMS 24
#define PLANES_MOST_VECTORS {6, 3, 4, 3}
#define PLANES_POOL_MOST_VECTORS {6, 3, 4}
#define PLANES_TILES(TILE)                                                                         \
    TILES_6(TILE, 1, 1) TILES_6(TILE, 2, 1) TILES_6(TILE, 4, 1) TILES_3(TILE, 1, 2)                \
    TILES_3(TILE, 2, 2) TILES_3(TILE, 4, 2) TILES_4(TILE, 1, 3) TILES_4(TILE, 2, 3)                \
    TILES_2(TILE, 4, 3) TILES_3(TILE, 1, 4) TILES_3(TILE, 2, 4) TILE(4, 4, 1)
#define PLANES_POOL_TILES(TILE)                                                                    \
    TILES_6(TILE, 2, 1) TILES_6(TILE, 4, 1) TILES_3(TILE, 2, 2) TILES_3(TILE, 4, 2)                \
    TILES_4(TILE, 2, 3) TILES_2(TILE, 4, 3)
#else
#define TILE_PIXELS 6
#define PANELS_PIXELS 3
#define DIRECT_PANELS_TILES DIRECT_PANELS_TILES_3
#define DEPTHWISE_PIXELS 4
#define PLANES_VECTORS 6
#define PLANES_MOST_ROWS 2
#define PLANES_SUMS 12
#define PLANES_MOST_VECTORS {6, 6, 4, 3}
#define PLANES_POOL_MOST_VECTORS {6, 3, 2}
#define PLANES_TILES(TILE)                                                                         \
    TILES_6(TILE, 1, 1) TILES_6(TILE, 2, 1) TILES_6(TILE, 1, 2) TILES_3(TILE, 2, 2)                \
    TILES_4(TILE, 1, 3) TILES_2(TILE, 2, 3) TILES_3(TILE, 1, 4) TILE(2, 4, 1)
#define PLANES_POOL_TILES(TILE) TILES_6(TILE, 2, 1) TILES_3(TILE, 2, 2) TILES_2(TILE, 2, 3)
#endif

#include "compact.inc.h"

#define IS_FLOAT 1

#define T float
#define SUFFIX f32
#include "vectors.inc.h"
#include "convolution.inc.h"
#include "multiply.inc.h"
#include "dots.inc.h"
#include "depthwise.inc.h"
#include "winograd.inc.h"
#include "pooling.inc.h"
#include "transpose.inc.h"
#include "planes.inc.h"
#include "undefine.inc.h"

#define T double
#define SUFFIX f64
#include "vectors.inc.h"
#include "convolution.inc.h"
#include "multiply.inc.h"
#include "dots.inc.h"
#include "depthwise.inc.h"
#include "pooling.inc.h"
#include "transpose.inc.h"
#include "planes.inc.h"
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
        .copy_bias = copy_bias_##S,                                                                \
        .direct = direct_##S,                                                                      \
        .multiply = multiply_##S,                                                                  \
        .multiply_batch = multiply_batch_##S,                                                      \
        .dots = dots_##S,                                                                          \
        .dots_columns = dots_columns_##S,                                                          \
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
