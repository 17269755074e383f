"""3x3 convolution in tiles of transformed pixels, with 2.25 or 4 times fewer products.

The equation, the layout and the bound are in kernels/winograd.inc.h. An error follows the largest
pixel of a tile, not of a window, so this is never the highest precision. Tiles with an output that
is not finite are reported: the caller computes their image with the direct algorithm.
"""

from libc.stdint cimport uint32_t
from libc.string cimport memchr, memset

from pycnn._engine cimport padded, pycnn_winograd
from pycnn._geometry cimport Block, Call, Geometry, ceil_div

# Packed filters of this size stay in the second-level cache from one block of tiles to the next.
cdef Py_ssize_t CACHED_BYTES = 1536 * 1024
# The transforms of a block of tiles, which leave room in an L2 cache of 1 MiB for pixels and
# filters on their way; more where that is too few for whole register tiles, ...
cdef Py_ssize_t BLOCK_BYTES = 768 * 1024
# ... but never more than this.
cdef Py_ssize_t MOST_BLOCK_BYTES = 4 * 1024 * 1024


cdef inline Py_ssize_t positions(int tile) noexcept nogil:
    """Products per tile, channel and filter; those of a direct sum for a tile of 1."""
    return 9 if tile == 1 else (tile + 2) * (tile + 2)


cdef Py_ssize_t tile_rows(const Geometry *g) noexcept nogil:
    return ceil_div(g.y.out, g.tile)


cdef Py_ssize_t tile_columns(const Geometry *g) noexcept nogil:
    return ceil_div(g.x.out, g.tile)


cdef double cost(const Geometry *g, int tile) noexcept nogil:
    """Time for one image, in products per channel and filter.

    Filters from behind the second-level cache take as long to come as the products of 16 tiles with
    vectors of 16. One image, not the batch: its bits must not depend on its company.
    """
    cdef double n = <double> ceil_div(g.y.out, tile) * ceil_div(g.x.out, tile)
    if <double> positions(tile) * g.ic * g.group_lanes * g.itemsize > CACHED_BYTES:
        n = max(n, 16 * g.kernels.lanes / 16.0)
    return positions(tile) * n


cdef inline Py_ssize_t tile_size(const Geometry *g) noexcept nogil:
    """Elements of scratch per tile."""
    cdef Py_ssize_t lanes = g.kernels.lanes
    return positions(g.tile) * (ceil_div(g.ic, lanes) * lanes + 2 * lanes)


cdef inline Py_ssize_t block_size(const Geometry *g, Py_ssize_t tiles) noexcept nogil:
    """Elements of scratch for a block of so many tiles."""
    return tiles * tile_size(g) + positions(g.tile) * 2 * g.kernels.lanes


cdef Py_ssize_t scratch_size(const Geometry *g) noexcept nogil:
    """Elements of scratch of a thread."""
    cdef Py_ssize_t fit = (BLOCK_BYTES // g.itemsize - block_size(g, 0)) // tile_size(g)
    cdef double tiles = <double> g.n * tile_rows(g) * tile_columns(g)
    fit = max(fit, g.kernels.direct_pixels)
    return block_size(g, <Py_ssize_t> min(<double> fit, tiles))


cdef bint winograd_plan(Geometry *g) noexcept nogil:
    """Plans a float32 convolution; False when it must be direct, or is faster so."""
    cdef Py_ssize_t lanes = g.kernels.lanes
    cdef int tile, best = 1
    if g.itemsize != 4 or g.groups != 1 or g.ic < lanes or g.oc < lanes:
        return False
    if not g.y.kernel == g.x.kernel == 3 or not (
            g.y.stride == g.x.stride == g.y.dilation == g.x.dilation == 1):
        return False
    for tile in range(2, 5, 2):
        if cost(g, tile) < cost(g, best):
            best = tile
    if best == 1:
        return False
    g.tile = best
    if scratch_size(g) > MOST_BLOCK_BYTES // g.itemsize:
        g.tile = 1
        return False
    return True


cdef Py_ssize_t winograd_packed_bytes(const Geometry *g) noexcept nogil:
    return positions(g.tile) * g.ic * g.group_lanes * g.itemsize


cdef bint winograd_pack(const Geometry *g, const float *filters, char *packed) noexcept nogil:
    """False when a weight is not finite, so that no tile would be."""
    cdef const uint32_t *bits = <const uint32_t *> filters
    cdef uint32_t exponent = 0x7f800000
    cdef bint odd = False
    cdef Py_ssize_t i
    for i in range(g.oc * g.products):
        odd |= (bits[i] & exponent) == exponent
    if not odd:
        g.kernels.winograd_pack(filters, g.ic, g.oc, g.tile, packed)
    return not odd


cdef Py_ssize_t winograd_scratch_bytes(const Geometry *g) noexcept nogil:
    """The transforms, and a byte for each row of tiles of an image."""
    return padded(scratch_size(g) * g.itemsize) + padded(tile_rows(g))


cdef void start_share(const Geometry *g, const Call *call, const char *x, char *out,
                      Py_ssize_t out_row_step, char *scratch, pycnn_winograd *share) noexcept nogil:
    """All of a batch; the rows and panels are left to the caller."""
    share.x = x
    share.w = call.filters
    share.bias = call.bias
    share.out = out
    share.scratch = scratch
    share.scratch_size = scratch_size(g)
    share.height, share.width = g.y.size, g.x.size
    share.channels, share.filters = g.ic, g.oc
    share.out_height, share.out_width = g.y.out, g.x.out
    share.top, share.left = g.y.before, g.x.before
    share.x_row = g.x.size * g.ic
    share.x_image = g.y.size * share.x_row
    share.out_row = out_row_step
    share.out_image = g.y.out * out_row_step
    share.tile = g.tile
    share.activation = call.activation
    share.slope = call.slope


cdef bint winograd_block(
    const Geometry *g, const Call *call, const char *image, const Block *block, char *out,
    Py_ssize_t out_row_step, char *scratch,
) noexcept nogil:
    """One block of one image; True when it has outputs to be computed directly."""
    cdef pycnn_winograd share
    start_share(g, call, image, out, out_row_step, scratch, &share)
    share.top -= block.top
    share.left -= block.left
    share.out_height = block.bottom - block.top
    share.out_width = block.right - block.left
    share.first_row, share.end_row = 0, ceil_div(share.out_height, g.tile)
    share.first_panel, share.end_panel = block.first_panel, block.last_panel
    share.retry = <unsigned char *> scratch + padded(scratch_size(g) * g.itemsize)
    memset(share.retry, 0, share.end_row)
    g.kernels.winograd(&share)
    return memchr(share.retry, 1, share.end_row) is not NULL


cdef void winograd_rows(
    const Geometry *g, const Call *call, const char *images, Py_ssize_t first_row,
    Py_ssize_t last_row, Py_ssize_t first_panel, Py_ssize_t last_panel, char *out, char *scratch,
    unsigned char *retry,
) noexcept nogil:
    """Some rows of tiles, counted over all images, so that small images share the packed filters.

    Sets the `retry` of rows that have outputs to be computed directly.
    """
    cdef pycnn_winograd share
    start_share(g, call, images, out, g.x.out * g.oc, scratch, &share)
    share.first_row, share.end_row = first_row, last_row
    share.first_panel, share.end_panel = first_panel, last_panel
    share.retry = retry
    g.kernels.winograd(&share)
