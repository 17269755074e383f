"""Convolution with few channels and few filters: vectors along the output row.

The channels of a band of input rows are split into planes, one for each channel and column phase
(kx * dilation modulo the stride), so that neighbours in an output row are neighbours in memory:

    plane[e][iy][j] = x[iy, (j * stride * ic + e) // ic, e % ic],    e < stride * ic

A grey image with stride 1 is its own plane and is read in place.
"""

from pycnn._engine cimport PLANES_FILTERS, pycnn_planes, pycnn_tap
from pycnn._geometry cimport Call, Geometry, Rectangle

# One block's planes stay in the L2 cache; its rows should pay for the rows shared with the next.
cdef Py_ssize_t BLOCK_BYTES = 256 * 1024
cdef Py_ssize_t BLOCK_ROWS = 16
# So many are split by shuffles.
cdef Py_ssize_t FEW_PLANES = 8


cdef inline Py_ssize_t n_planes(const Geometry *g) noexcept nogil:
    return g.x.stride * g.ic


cdef inline Py_ssize_t reach(const Geometry *g) noexcept nogil:
    """Plane columns a window covers beyond its first."""
    return (g.x.kernel - 1) * g.x.dilation // g.x.stride


cdef inline Py_ssize_t window_rows(const Geometry *g) noexcept nogil:
    return (g.y.kernel - 1) * g.y.dilation + 1


cdef Py_ssize_t planes_columns(const Geometry *g) noexcept nogil:
    """Output columns of a block one output row high that fits the budget; 0 when none does."""
    cdef Py_ssize_t budget = BLOCK_BYTES // g.itemsize
    if g.ic == 0 or g.x.stride > 64 or n_planes(g) > budget:
        return 0
    if reach(g) > budget or window_rows(g) > budget:
        return 0
    return min(g.x.out, budget // n_planes(g) // window_rows(g) - reach(g))


cdef Py_ssize_t block_rows(const Geometry *g, Py_ssize_t columns) noexcept nogil:
    """Output rows of a block of so many columns, at least 1."""
    cdef Py_ssize_t row = (columns + reach(g)) * n_planes(g) * g.itemsize
    cdef Py_ssize_t spare = BLOCK_BYTES // row - window_rows(g)
    return min(BLOCK_ROWS, spare // g.y.stride + 1)


cdef bint planes_fit(const Geometry *g) noexcept nogil:
    """Whether there are few enough filters, and room for a row of a block.

    direct leaves lanes empty where there are fewer than fill a vector; where registers are few, its
    tiles of one vector also wait for each other, so that splitting a few planes pays sooner.
    """
    cdef Py_ssize_t lanes = g.kernels.lanes
    if planes_columns(g) < lanes:
        return False
    return g.oc <= lanes // 2 or (
        g.oc <= lanes and g.kernels.direct_pixels < 8 and n_planes(g) <= FEW_PLANES)


cdef Py_ssize_t planes_bytes(const Geometry *g) noexcept nogil:
    """Scratch: the input planes of one block and the result planes of one output row."""
    cdef Py_ssize_t columns = planes_columns(g)
    cdef Py_ssize_t rows = (block_rows(g, columns) - 1) * g.y.stride + window_rows(g)
    return ((columns + reach(g)) * rows * n_planes(g) + columns * g.oc) * g.itemsize


cdef Py_ssize_t list_columns(const Geometry *g, const Rectangle *r, Py_ssize_t plane_step,
                             Py_ssize_t *taps) noexcept nogil:
    """One tap per product of a row of the window, in the order of the packed filters."""
    cdef Py_ssize_t kx, c, e, n = 0
    for kx in range(r.x.tap_last - r.x.tap_first):
        for c in range(g.ic):
            e = kx * g.x.dilation * g.ic + c
            taps[n] = e % n_planes(g) * plane_step + e // n_planes(g)
            n += 1
    return n


cdef void planes_rectangle(
    const Geometry *g, const Call *call, const Rectangle *r, char *out, Py_ssize_t out_row_step,
    Py_ssize_t out_plane_step, pycnn_tap *taps, char *scratch,
) noexcept nogil:
    """At least `lanes` columns; `out` is the first pixel, of planes where they have a step."""
    cdef pycnn_planes p
    cdef bint copy = n_planes(g) > 1, planar = out_plane_step > 0
    # More filters than the kernel can lay beside each other go by way of planes, row by row.
    cdef bint detour = not planar and g.oc > PLANES_FILTERS
    cdef Py_ssize_t columns = planes_columns(g), rows = block_rows(g, columns)
    cdef Py_ssize_t height = r.y.last - r.y.first, breadth = r.x.last - r.x.first
    cdef Py_ssize_t in_row = g.x.size * g.ic, row_step, plane_step
    cdef Py_ssize_t y, x, i, n, n_rows, in_rows, _row
    cdef Py_ssize_t window_y = (r.y.tap_last - r.y.tap_first - 1) * g.y.dilation + 1
    cdef Py_ssize_t window_x = (r.x.tap_last - r.x.tap_first - 1) * g.x.dilation + 1
    cdef const char *origin
    cdef char *target
    row_step = columns + reach(g) if copy else in_row
    plane_step = ((rows - 1) * g.y.stride + window_rows(g)) * row_step if copy else 0
    p.taps = <const Py_ssize_t *> taps
    p.n_taps = list_columns(g, r, plane_step, <Py_ssize_t *> taps)
    p.taps_y = r.y.tap_last - r.y.tap_first
    # What is never taken may be any number.
    p.tap_row = g.y.dilation * row_step if p.taps_y > 1 else 0
    p.x_row = g.y.stride * row_step if height > 1 else 0
    p.w_step = g.group_lanes
    p.w_row = g.x.kernel * g.ic * p.w_step
    p.w = call.filters + ((r.y.tap_first * g.x.kernel + r.x.tap_first) * g.ic * p.w_step
                          * g.itemsize)
    p.bias = call.bias
    p.activation = call.activation
    p.slope = call.slope
    p.n_filters = g.oc
    p.out_row = out_row_step
    p.out_step = 1 if planar or detour else g.oc
    p.out_plane = out_plane_step if planar else columns if detour else 1
    y = 0
    while y < height:
        n_rows = min(rows, height - y)
        in_rows = (n_rows - 1) * g.y.stride + window_y
        x = 0
        while x < breadth:
            n = min(columns, breadth - x)
            if n < g.kernels.lanes:     # a short last block steps back over the one before
                n = g.kernels.lanes
                x = breadth - n
            origin = r.origin + (y * r.y_step + x * r.x_step) * g.itemsize
            p.x = origin
            if copy:
                p.x = scratch
                for i in range(in_rows):
                    g.kernels.split(origin + i * in_row * g.itemsize, n_planes(g),
                                    ((n - 1) * g.x.stride + window_x) * g.ic,
                                    scratch + i * row_step * g.itemsize, plane_step)
            p.n_pixels = n
            p.n_rows = 1 if detour else n_rows
            target = out + (y * out_row_step + x * (1 if planar else g.oc)) * g.itemsize
            p.out = scratch + n_planes(g) * plane_step * g.itemsize if detour else target
            for _row in range(n_rows if detour else 1):
                g.kernels.planes(&p)
                if detour:
                    g.kernels.interleave(p.out, g.oc, n, target, columns)
                    target += out_row_step * g.itemsize
                    p.x = <const char *> p.x + p.x_row * g.itemsize
            x += n
        y += n_rows
