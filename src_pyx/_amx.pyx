"""Convolution on the matrix unit: bands of output rows, split once and met by all filters.

The equation, the layout and the bound are in kernels/amx.c. Values that its bfloat16 parts cannot
hold (NaN, infinity, the very large and the very small) are found while the image is split, and
reported: the caller computes such an image with the direct algorithm.
"""

from libc.math cimport ceil

from pycnn._engine cimport (
    amx_kernels, padded, pycnn_amx_filters, pycnn_amx_image, pycnn_amx_result,
)
from pycnn._geometry cimport Axis, Block, Call, Geometry, ceil_div

# One row of a wide image may take more; then its columns are cut.
cdef Py_ssize_t BAND_BYTES = 2 * 1024 * 1024
cdef Py_ssize_t COLUMNS = 16
# In a row of windows, and in all filters: far more would overflow where sizes are computed.
cdef double MOST_NUMBERS = 1e12

cdef Py_ssize_t TILE = 16
# As measured: to begin and end a band; to write a tile; a product of tiles, and one of whole
# windows, whose lines are not aligned; to copy a pixel's channels, or 16 of them. Then, in a cycle:
# the bytes of a band that are split, or of filters that come from behind the L2 cache, which keeps
# some; the products of a direct sum.
cdef double BAND_CYCLES = 1000
cdef double WRITING_CYCLES = 60
cdef double PRODUCT_CYCLES = 16.5
cdef double WHOLE_PRODUCT_CYCLES = 18.5
cdef double PIECE_CYCLES = 3.2
cdef double BYTES_PER_CYCLE = 10
cdef double KEPT_BYTES = 1024 * 1024
cdef double DIRECT_PRODUCTS = 36


cdef inline bint pads_within_window(const Axis *axis) noexcept nogil:
    """Every window holds a pixel of the image: the band has no cells for padding alone."""
    cdef Py_ssize_t end = (axis.out - 1) * axis.stride - axis.before + axis.kernel
    return axis.before < axis.kernel and end - axis.size < axis.kernel


cdef bint amx_plan(Geometry *g, int parts) noexcept nogil:
    """Plans a float32 convolution in so many bfloat16 parts; False when it must be direct."""
    cdef double row = (<double> g.x.out * g.x.stride + g.x.kernel) * g.y.kernel * g.x.kernel * g.ic
    if amx_kernels() is NULL or g.itemsize != 4 or g.groups != 1 or g.ic == 0:
        return False
    if g.y.dilation != 1 or g.x.dilation != 1 or not (
            pads_within_window(&g.y) and pads_within_window(&g.x)):
        return False
    if row > MOST_NUMBERS or <double> g.products * g.oc > MOST_NUMBERS:
        return False
    g.amx_filters.n_filters = g.oc
    g.amx_filters.kh, g.amx_filters.kw = g.y.kernel, g.x.kernel
    g.amx_filters.channels = g.ic
    g.amx_filters.parts = parts
    if not amx_kernels().plan_filters(&g.amx_filters):
        return False
    g.amx_image.height, g.amx_image.width = g.y.size, g.x.size
    g.amx_image.out_height, g.amx_image.out_width = g.y.out, g.x.out
    g.amx_image.stride_y, g.amx_image.stride_x = g.y.stride, g.x.stride
    g.amx_image.pad_top, g.amx_image.pad_left = g.y.before, g.x.before
    g.amx_image = band_of(g, g.x.out)
    return True


cdef pycnn_amx_image band_of(const Geometry *g, Py_ssize_t columns) noexcept nogil:
    """The plan of a band for blocks so many columns wide; narrower, where one row is too large."""
    cdef pycnn_amx_image band = g.amx_image
    band.out_width = columns
    while True:
        band.rows = 0
        amx_kernels().plan_image(&g.amx_filters, &band)
        if band.band_bytes <= BAND_BYTES or band.out_width <= COLUMNS:
            return band
        band.out_width = (band.out_width + 1) // 2


cdef inline int tile_products(int parts) noexcept nogil:
    """Of bfloat16 parts, that stand for one product of float32."""
    return parts * (parts + 1) // 2


cdef double reading_cycles(double filter_bytes) noexcept nogil:
    return max(0, filter_bytes - KEPT_BYTES) / BYTES_PER_CYCLE


cdef double amx_cycles(const Geometry *g, Py_ssize_t rows, Py_ssize_t panels) noexcept nogil:
    """What a thread takes for so many output rows and panels of filters, about."""
    cdef const pycnn_amx_filters *f = &g.amx_filters
    cdef const pycnn_amx_image *band = &g.amx_image
    # A row that is too wide is cut.
    cdef Py_ssize_t cuts = ceil_div(g.x.out, band.out_width)
    cdef Py_ssize_t bands = ceil_div(rows, band.rows), step = min(f.taps_y, band.stride_y)
    # Of the image, that are split; a band of output rows has so many.
    cdef double image_rows = <double> (rows - bands) * step + <double> bands * f.taps_y
    cdef double row_bytes = <double> band.band_bytes / ((band.rows - 1) * step + f.taps_y)
    cdef double pieces = image_rows * band.columns * f.kh * ceil_div(f.channels, TILE)
    cdef double tiles = ceil(<double> rows * band.row_places / TILE) * panels
    cdef double products = tiles * f.tiles * tile_products(f.parts)
    return cuts * (bands * (BAND_CYCLES + reading_cycles(<double> panels * f.panel_bytes))
                   + image_rows * row_bytes / BYTES_PER_CYCLE + tiles * WRITING_CYCLES
                   # Whole windows are gathered before they are split.
                   + (pieces * PIECE_CYCLES + products * WHOLE_PRODUCT_CYCLES if f.whole
                      else products * PRODUCT_CYCLES))


cdef bint amx_pays(const Geometry *g) noexcept nogil:
    """Whether a planned convolution takes less time than its direct sum."""
    cdef double weights = <double> g.products * g.amx_filters.panels * TILE
    return (amx_cycles(g, g.y.out, g.amx_filters.panels)
            < weights * g.y.out * g.x.out / DIRECT_PRODUCTS + reading_cycles(4 * weights))


cdef Py_ssize_t amx_scratch_bytes(const Geometry *g, Py_ssize_t columns) noexcept nogil:
    """One band for blocks of so many columns, and a byte for each of its rows."""
    cdef pycnn_amx_image band = band_of(g, columns)
    return padded(band.band_bytes) + padded(band.rows)


cdef bint amx_block(
    const Geometry *g, const Call *call, const char *image, const Block *block, char *out,
    Py_ssize_t out_row_step, char *scratch,
) noexcept nogil:
    """One block of one image; True when it holds unsafe values, and `out` is not to be used."""
    cdef pycnn_amx_image band = g.amx_image
    cdef pycnn_amx_result result
    cdef unsigned char *unsafe_rows
    cdef Py_ssize_t first, last, left = block.left, width = block.right - block.left
    if width < g.x.out:
        band = band_of(g, width)
    unsafe_rows = <unsigned char *> scratch + padded(band.band_bytes)
    result.row_step = out_row_step
    result.pixel_step = g.oc
    result.bias = <const float *> call.bias
    result.activation = call.activation
    result.slope = <float> call.slope
    while left < block.right:
        left = min(left, block.right - band.out_width)  # the last band steps back
        band.pad_left = g.x.before - left * g.x.stride
        first = block.top
        while first < block.bottom:
            last = min(first + band.rows, block.bottom)
            if amx_kernels().split(call.amx, &band, <const float *> image, first, last, scratch,
                                   unsafe_rows):
                return True
            result.out = (<float *> out + (first - block.top) * out_row_step
                          + (left - block.left) * g.oc)
            amx_kernels().multiply(call.amx, &band, call.filters, scratch, first, last,
                                   block.first_panel, block.last_panel, &result)
            first = last
        left += band.out_width
    return False
