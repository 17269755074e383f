"""Convolution with few channels and few filters: vectors along the output row.

The channels of a band of input rows are split into planes, one for each channel and column phase
(kx * dilation modulo the stride), so that neighbours in an output row are neighbours in memory:

    plane[e][iy][j] = x[iy, (j * stride * ic + e) // ic, e % ic],    e < stride * ic

A grey image with stride 1 is its own plane and is read in place.
"""

from libc.string cimport memcpy

from pycnn._axis cimport Span
from pycnn._engine cimport (
    CACHE_LINE, PLANES_FILTERS, PLANES_POOL_FILTERS, PLANES_ROWS, pycnn_planes,
)
from pycnn._geometry cimport PLANES, Call, Geometry, Rectangle, ceil_div

# One block's planes stay in the L2 cache; its rows should pay for the rows shared with the next.
cdef Py_ssize_t BLOCK_BYTES = 256 * 1024
cdef Py_ssize_t BLOCK_ROWS = 32
# What results laid beside each other afterwards should take of the caches.
cdef Py_ssize_t RESULT_BYTES = 64 * 1024
# So many are split by shuffles.
cdef Py_ssize_t FEW_PLANES = 8


cdef inline Py_ssize_t n_planes(const Geometry *g) noexcept nogil:
    return g.x.stride * g.ic


cdef inline Py_ssize_t reach(const Geometry *g) noexcept nogil:
    """Plane columns a window covers beyond its first."""
    return (g.x.kernel - 1) * g.x.dilation // g.x.stride


cdef inline Py_ssize_t window_rows(const Geometry *g) noexcept nogil:
    return (g.y.kernel - 1) * g.y.dilation + 1


cdef inline Py_ssize_t row_numbers(const Geometry *g, Py_ssize_t columns) noexcept nogil:
    """Numbers of a row of a plane: whole cache lines, so that each vector is written to one."""
    cdef Py_ssize_t line = CACHE_LINE // g.itemsize
    return ceil_div(columns + reach(g), line) * line


cdef Py_ssize_t planes_columns(const Geometry *g) noexcept nogil:
    """Output columns of a block one output row high that fits the budget; 0 when none does.

    Blocks that the row is cut into are an even number of columns and of rows, so that a pool can
    take them two by two.
    """
    cdef Py_ssize_t budget = BLOCK_BYTES // g.itemsize, line = CACHE_LINE // g.itemsize
    if g.ic == 0 or g.x.stride > 64 or n_planes(g) > budget:
        return 0
    if reach(g) > budget or window_rows(g) > budget:
        return 0
    return min(g.x.out, (budget // n_planes(g) // window_rows(g) // line * line - reach(g)) & ~1)


cdef Py_ssize_t block_rows(const Geometry *g, Py_ssize_t columns) noexcept nogil:
    """Output rows of a block of so many columns, at least 1."""
    cdef Py_ssize_t row = row_numbers(g, columns) * n_planes(g) * g.itemsize
    cdef Py_ssize_t spare = BLOCK_BYTES // row - window_rows(g)
    return min(BLOCK_ROWS, max(1, (spare // g.y.stride + 1) & ~1))


cdef bint planes_fit(const Geometry *g) noexcept nogil:
    """Whether there are few enough filters, and room for a row of a block.

    direct leaves lanes empty where there are fewer than fill a vector; where registers are few, its
    tiles of one vector also wait for each other, so that splitting a few planes pays sooner, and
    for some more than fill one. Splitting many pays only where dots lacks channels for a vector.
    """
    cdef Py_ssize_t lanes = g.kernels.lanes
    cdef bint few = n_planes(g) <= FEW_PLANES
    if planes_columns(g) < lanes or not few and g.ic >= lanes:
        return False
    return g.oc <= lanes // 2 or few and 4 * g.oc <= 5 * lanes and g.kernels.direct_pixels < 8


cdef bint planes_pool_squares(const Geometry *g) noexcept nogil:
    """Whether the kernel can pool squares of 2 x 2: all windows have the same taps, and a row of
    outputs is as far from the next as a row of the window."""
    cdef Py_ssize_t columns = planes_columns(g)
    return (g.algorithm == PLANES and g.y.n_spans == g.x.n_spans == 1
            and g.y.spans[0].tap_first < g.y.spans[0].tap_last
            and g.x.spans[0].tap_first < g.x.spans[0].tap_last
            and g.y.stride == g.y.dilation and block_rows(g, columns) > 1)


cdef Py_ssize_t planes_taps_bytes(const Geometry *g) noexcept nogil:
    """The list of taps of a window, and of some rows beneath."""
    return (g.y.kernel + PLANES_ROWS - 1) * g.x.kernel * g.ic * <Py_ssize_t> sizeof(Py_ssize_t)


cdef inline Py_ssize_t weights_bytes(const Geometry *g) noexcept nogil:
    """The filters of windows that some columns of are cut off, without those columns; all windows
    may miss the same ones."""
    cdef const Span *first = &g.x.spans[0]
    if g.x.n_spans == 1 and first.tap_last - first.tap_first == g.x.kernel:
        return 0
    return g.products * g.group_lanes * g.itemsize


cdef inline Py_ssize_t result_rows(const Geometry *g, Py_ssize_t columns) noexcept nogil:
    """Output rows that are computed before they are laid beside each other, an even number."""
    return max(2, RESULT_BYTES // (columns * g.oc * g.itemsize) & ~1)


cdef Py_ssize_t planes_bytes(const Geometry *g) noexcept nogil:
    """Scratch: the input planes of one block, the result planes of some output rows, filters."""
    cdef Py_ssize_t columns = planes_columns(g)
    cdef Py_ssize_t rows = (block_rows(g, columns) - 1) * g.y.stride + window_rows(g)
    cdef Py_ssize_t results = result_rows(g, columns) * columns * g.oc
    return (row_numbers(g, columns) * rows * n_planes(g) + results) * g.itemsize + weights_bytes(g)


cdef void list_taps(const Geometry *g, const Rectangle *r, Py_ssize_t n_rows, Py_ssize_t row_step,
                    Py_ssize_t plane_step, Py_ssize_t *taps) noexcept nogil:
    """So many rows of taps of the rectangle's first window, in the order of the filters."""
    cdef Py_ssize_t kx, c, e, k, n = 0
    for kx in range(r.x.tap_last - r.x.tap_first):
        for c in range(g.ic):
            e = kx * g.x.dilation * g.ic + c
            taps[n] = e % n_planes(g) * plane_step + e // n_planes(g)
            n += 1
    for k in range(n, n_rows * n):
        taps[k] = taps[k - n] + g.y.dilation * row_step


cdef const char *cut_filters(const Geometry *g, const Call *call, const Rectangle *r,
                             char *cut) noexcept nogil:
    """The filters of the rectangle's taps, one after another; copied where they are not so."""
    cdef Py_ssize_t tap = g.ic * g.group_lanes * g.itemsize, ky
    cdef Py_ssize_t row = (r.x.tap_last - r.x.tap_first) * tap
    cdef const char *first = call.filters + (
        r.y.tap_first * g.x.kernel + r.x.tap_first) * tap
    if row == g.x.kernel * tap:
        return first
    for ky in range(r.y.tap_last - r.y.tap_first):
        memcpy(cut + ky * row, first + ky * g.x.kernel * tap, row)
    return cut


cdef void planes_rectangle(
    const Geometry *g, const Call *call, const Rectangle *r, char *out, Py_ssize_t out_row_step,
    bint pool, Py_ssize_t *taps, char *scratch,
) noexcept nogil:
    """At least `lanes` columns; `out` is the first pixel.

    With `pool`, which `planes_pool_squares` allows, each 2 x 2 outputs leave their maximum alone.
    """
    cdef pycnn_planes p
    cdef bint copy = n_planes(g) > 1
    # More filters than the kernel lays beside each other go by way of planes, some rows at a time.
    cdef bint detour = g.oc > (PLANES_POOL_FILTERS if pool else PLANES_FILTERS)
    cdef Py_ssize_t square = 2 if pool else 1
    cdef Py_ssize_t columns = planes_columns(g), rows = block_rows(g, columns)
    cdef Py_ssize_t height = r.y.last - r.y.first, breadth = r.x.last - r.x.first
    cdef Py_ssize_t in_row = g.x.size * g.ic, row_step, plane_step
    cdef Py_ssize_t some = min(rows, result_rows(g, columns)), line = columns // square
    cdef Py_ssize_t y, x, i, j, n, n_rows, in_rows
    cdef Py_ssize_t window_y = (r.y.tap_last - r.y.tap_first - 1) * g.y.dilation + 1
    cdef Py_ssize_t window_x = (r.x.tap_last - r.x.tap_first - 1) * g.x.dilation + 1
    cdef const char *origin
    cdef char *target
    cdef char *results
    row_step = row_numbers(g, columns) if copy else in_row
    plane_step = ((rows - 1) * g.y.stride + window_rows(g)) * row_step if copy else 0
    results = scratch + n_planes(g) * plane_step * g.itemsize
    p.n_taps = (r.x.tap_last - r.x.tap_first) * g.ic
    p.taps_y = r.y.tap_last - r.y.tap_first
    p.share_rows = height > 1 and g.y.stride == g.y.dilation
    list_taps(g, r, p.taps_y + (PLANES_ROWS - 1 if p.share_rows else 0), row_step, plane_step, taps)
    p.taps = taps
    p.w = cut_filters(g, call, r,
                      results + result_rows(g, columns) * columns * g.oc * g.itemsize)
    p.w_step = g.group_lanes
    p.bias = call.bias
    p.activation = call.activation
    p.slope = call.slope
    p.pool = pool
    p.n_filters = g.oc
    # What is never taken may be any number.
    p.x_row = g.y.stride * row_step if height > 1 else 0
    p.out_row = line if detour else out_row_step
    p.out_step = 1 if detour else g.oc
    p.out_plane = some // square * line if detour else 1
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
            target = out + (y // square * out_row_step + x // square * g.oc) * g.itemsize
            p.out = results if detour else target
            i = 0
            while i < n_rows:
                p.n_rows = min(some, n_rows - i) if detour else n_rows
                g.kernels.planes(&p)
                for j in range(p.n_rows // square if detour else 0):
                    g.kernels.interleave(results + j * line * g.itemsize, g.oc, n // square, target,
                                         p.out_plane)
                    target += out_row_step * g.itemsize
                p.x = <const char *> p.x + p.n_rows * p.x_row * g.itemsize
                i += p.n_rows
            x += n
        y += n_rows
