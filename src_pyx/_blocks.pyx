"""One block of one image: rectangles of outputs, panels of filters and lines of pixels.

    out[n, oy, ox, f] = act(bias[f] + sum over ky, kx, c of
        x[n, oy*sh - top + ky*dh, ox*sw - left + kx*dw, c] * filters[f, ky, kx, c])

The padded image is never built.  Each axis is cut into spans of outputs whose windows cover the
same taps; a row span and a column span make a rectangle without any bounds test inside, however
large the padding, and pixels outside the image are never multiplied by anything.
"""

from libc.stdint cimport uintptr_t

from pycnn._amx cimport amx_block, amx_scratch_bytes
from pycnn._axis cimport Span, overlap
from pycnn._engine cimport (
    CACHE_LINE, DEPTHWISE_ROWS, DIRECT_PANELS, padded, pycnn_depthwise, pycnn_line, pycnn_tap,
)
from pycnn._geometry cimport (
    AMX, DEPTHWISE, DIRECT, DOTS, PLANES, WINOGRAD, Block, Call, Geometry, Rectangle, ceil_div,
    panel_width,
)
from pycnn._planes cimport planes_bytes, planes_rectangle, planes_taps_bytes
from pycnn._winograd cimport winograd_block, winograd_scratch_bytes

# Sums of at most so many products go to two panels at once: storing them counts.
cdef Py_ssize_t PAIR_PRODUCTS = 256
# Filters that stay in a second-level cache of 2 MiB from one rectangle of a block to the next.
cdef Py_ssize_t FILTERS_BYTES = 1024 * 1024
# Rows that are copied together stay in or near a second-level cache; longer ones are read in place.
cdef Py_ssize_t RING_BYTES = 512 * 1024
# Room to place them.
cdef Py_ssize_t PAGE = 4096


# ---- one rectangle ------------------------------------------------------------------------------

cdef Rectangle rectangle(const Geometry *g, const char *image, const Span *rows,
                         const Span *columns) noexcept nogil:
    cdef Rectangle r
    cdef Py_ssize_t iy, ix
    r.y = rows[0]
    r.x = columns[0]
    r.origin = image
    r.y_step = r.x_step = 0
    if rows.tap_first == rows.tap_last or columns.tap_first == columns.tap_last:
        r.y.tap_first = r.y.tap_last = 0        # padding only
        return r
    iy = rows.first * g.y.stride - g.y.before + rows.tap_first * g.y.dilation
    ix = columns.first * g.x.stride - g.x.before + columns.tap_first * g.x.dilation
    r.origin += (iy * g.x.size + ix) * g.ic * g.itemsize
    # Two windows with a common tap inside the image: the stride is below the image's size.
    if rows.last - rows.first > 1:
        r.y_step = g.y.stride * g.x.size * g.ic
    if columns.last - columns.first > 1:
        r.x_step = g.x.stride * g.ic
    return r


cdef Py_ssize_t list_taps(const Geometry *g, const Rectangle *r, pycnn_tap *taps,
                          Py_ssize_t *run) noexcept nogil:
    """Contiguous runs of products: whole filter rows where (kx, c) is contiguous in the image."""
    cdef Py_ssize_t ky, kx, n = 0
    cdef Py_ssize_t rows = r.y.tap_last - r.y.tap_first, columns = r.x.tap_last - r.x.tap_first
    cdef bint whole_rows = columns == 1 or (g.x.dilation == 1 and g.group_ic == g.ic)
    run[0] = columns * g.group_ic if whole_rows else g.group_ic
    for ky in range(rows):
        for kx in range(1 if whole_rows else columns):
            taps[n].x = (ky * g.y.dilation * g.x.size + kx * g.x.dilation) * g.ic
            taps[n].w = ((r.y.tap_first + ky) * g.x.kernel + r.x.tap_first + kx) * g.group_ic
            n += 1
    return n


cdef void direct_rectangle(const Geometry *g, const Call *call, const Block *block,
                           const Rectangle *r, char *out, Py_ssize_t out_row_step,
                           pycnn_tap *taps) noexcept nogil:
    """Tiles of pixels x filters, along the longer side; `out` is the first pixel."""
    cdef pycnn_line line
    cdef Py_ssize_t group_panels = g.panels // g.groups
    cdef Py_ssize_t panel = block.first_panel, panels, most_panels = 1
    cdef Py_ssize_t group, f, lane, i, n_lines, step, out_step
    cdef Py_ssize_t height = r.y.last - r.y.first, breadth = r.x.last - r.x.first
    cdef bint across
    cdef const char *origin
    cdef void (*kernel)(const pycnn_line *) noexcept nogil
    kernel = g.kernels.dots if g.algorithm == DOTS else g.kernels.direct
    line.w_ahead = 0
    line.taps = taps
    line.n_taps = list_taps(g, r, taps, &line.run)
    line.activation = call.activation
    line.slope = call.slope
    if r.y_step == breadth * r.x_step and out_row_step == breadth * g.oc:
        height, breadth = 1, height * breadth   # rows behind each other, as of a 1x1: one line
    across = breadth >= height or breadth >= g.kernels.direct_pixels
    if across:
        line.n_pixels, line.x_step, line.out_step = breadth, r.x_step, g.oc
        n_lines, step, out_step = height, r.y_step, out_row_step
    else:
        line.n_pixels, line.x_step, line.out_step = height, r.y_step, out_row_step
        n_lines, step, out_step = breadth, r.x_step, g.oc
    if g.algorithm != DOTS:
        most_panels = max(2 if g.products <= PAIR_PRODUCTS else 1, DIRECT_PANELS // line.n_pixels)
        line.panel_step = g.panel * g.products
    while panel < block.last_panel:
        group = panel // group_panels
        f = panel % group_panels * g.panel
        lane = group * g.group_lanes + f
        origin = r.origin + group * g.group_ic * g.itemsize
        # Several are of one group, and each of two vectors.
        panels = max(1, min(most_panels, block.last_panel - panel,
                            (g.group_oc - f + g.kernels.lanes - 1) // g.panel))
        line.n_filters = min(panels * g.panel, g.group_oc - f)
        line.w_step = g.products if g.algorithm == DOTS else panel_width(g, f)
        line.w = call.filters + lane * g.products * g.itemsize
        line.bias = call.bias + lane * g.itemsize
        for i in range(n_lines):
            line.x = origin + i * step * g.itemsize
            line.out = out + (i * out_step + group * g.group_oc + f) * g.itemsize
            kernel(&line)
        panel += panels


cdef void depthwise_rectangle(const Geometry *g, const Call *call, const Rectangle *r, char *out,
                              Py_ssize_t out_row_step, pycnn_tap *taps) noexcept nogil:
    cdef pycnn_line line
    cdef Py_ssize_t i, _run     # always 1
    line.taps = taps
    line.n_taps = list_taps(g, r, taps, &_run)
    line.run = g.products
    line.w = call.filters
    line.bias = call.bias
    line.activation = call.activation
    line.slope = call.slope
    line.n_filters = line.out_step = g.oc
    line.n_pixels = r.x.last - r.x.first
    line.x_step = r.x_step
    for i in range(r.y.last - r.y.first):
        line.x = r.origin + i * r.y_step * g.itemsize
        line.out = out + i * out_row_step * g.itemsize
        g.kernels.depthwise_line(&line)


cdef inline bint depthwise_by_rows(const Geometry *g) noexcept nogil:
    return (
        g.algorithm == DEPTHWISE and (g.x.kernel == 3 or g.x.kernel == 5) and g.x.stride <= 2
        and g.y.dilation == g.x.dilation == 1 and g.y.kernel + g.y.stride <= DEPTHWISE_ROWS)


cdef inline Py_ssize_t ring_bytes(const Geometry *g) noexcept nogil:
    """Rows copied together, where pixels compete for one or two sets of the L1 cache."""
    cdef Py_ssize_t n_bytes
    if not depthwise_by_rows(g) or g.x.stride == 2 or g.ic * g.itemsize % 2048 != 0:
        return 0
    n_bytes = (g.y.kernel + g.y.stride) * g.x.size * (g.ic + g.kernels.lanes) * g.itemsize
    return n_bytes + PAGE if n_bytes <= RING_BYTES else 0


cdef inline char *place_ring(char *scratch, const char *out) noexcept nogil:
    """Where few rows are read at the distance of some pages from what was stored just before.

    Processors compare the addresses of loads and stores within a page first, and wait: half the
    speed in the worst place, and full speed here, by measurement.
    """
    return scratch + ((<uintptr_t> out - <uintptr_t> scratch + PAGE // 8) & (PAGE - CACHE_LINE))


cdef void depthwise_block(const Geometry *g, const Call *call, const char *image,
                          const Block *block, char *out, Py_ssize_t out_row_step,
                          char *scratch) noexcept nogil:
    cdef pycnn_depthwise d
    d.x = image
    d.w = call.filters
    d.bias = call.bias
    d.out = out
    d.ring = place_ring(scratch, out) if ring_bytes(g) > 0 else NULL
    d.height, d.width, d.channels = g.y.size, g.x.size, g.ic
    d.first_row, d.end_row = block.top, block.bottom
    d.first_column, d.end_column = block.left, block.right
    d.top, d.left = g.y.before, g.x.before
    d.x_row, d.out_row = g.x.size * g.ic, out_row_step
    d.taps_y, d.taps_x = g.y.kernel, g.x.kernel
    d.stride_y, d.stride_x = g.y.stride, g.x.stride
    d.activation = call.activation
    d.slope = call.slope
    g.kernels.depthwise_rows(&d)


# ---- blocks of one image ------------------------------------------------------------------------

cdef inline Py_ssize_t taps_bytes(const Geometry *g) noexcept nogil:
    cdef Py_ssize_t n_bytes = g.y.kernel * g.x.kernel * <Py_ssize_t> sizeof(pycnn_tap)
    if g.algorithm == PLANES:
        n_bytes = max(n_bytes, planes_taps_bytes(g))
    return padded(n_bytes)


cdef Py_ssize_t conv_scratch_bytes(const Geometry *g, Py_ssize_t columns) noexcept nogil:
    """What one thread needs, besides input, output and packed filters, for blocks so wide."""
    if g.algorithm == AMX:
        return amx_scratch_bytes(g, columns)
    if g.algorithm == WINOGRAD:
        return winograd_scratch_bytes(g)
    if depthwise_by_rows(g):
        return padded(ring_bytes(g))
    return taps_bytes(g) + (padded(planes_bytes(g)) if g.algorithm == PLANES else 0)


cdef inline Py_ssize_t near_panels(const Geometry *g, Py_ssize_t panels) noexcept nogil:
    """Of so many panels of filters, those that all rectangles of a block meet before the others."""
    cdef Py_ssize_t near
    if g.algorithm != DIRECT or g.y.n_spans * g.x.n_spans == 1:
        return panels
    near = max(1, FILTERS_BYTES // max(1, g.panel * g.products * g.itemsize))
    return ceil_div(panels, ceil_div(panels, near))     # in equal shares


cdef void conv_rectangles(
    const Geometry *g, const Call *call, const char *image, const Block *block, char *out,
    Py_ssize_t out_row_step, bint pool, char *scratch,
) noexcept nogil:
    """A block, one rectangle of windows that have the same taps after the other."""
    cdef Span rows, columns
    cdef Rectangle r
    cdef Py_ssize_t i, j
    cdef char *target
    cdef pycnn_tap *taps = <pycnn_tap *> scratch
    for i in range(g.y.n_spans):
        if overlap(&g.y.spans[i], block.top, block.bottom, &rows) <= 0:
            continue
        for j in range(g.x.n_spans):
            if overlap(&g.x.spans[j], block.left, block.right, &columns) <= 0:
                continue
            r = rectangle(g, image, &rows, &columns)
            target = out + ((rows.first - block.top) * out_row_step
                            + (columns.first - block.left) * g.oc) * g.itemsize
            if g.algorithm == DEPTHWISE:
                depthwise_rectangle(g, call, &r, target, out_row_step, taps)
            elif (g.algorithm == PLANES and r.y.tap_first < r.y.tap_last
                  and columns.last - columns.first >= g.kernels.lanes):
                planes_rectangle(g, call, &r, target, out_row_step, pool, <Py_ssize_t *> scratch,
                                 scratch + taps_bytes(g))
            else:
                direct_rectangle(g, call, block, &r, target, out_row_step, taps)


cdef bint conv_block(
    const Geometry *g, const Call *call, const char *image, const Block *block, char *out,
    Py_ssize_t out_row_step, bint pool, char *scratch,
) noexcept nogil:
    """One block of one image; `out` is its first pixel. True when it must be computed directly.

    With `pool` squares of 2 x 2 outputs leave their maximum alone, where `planes_pool_squares`.
    """
    cdef Block part
    cdef Py_ssize_t panels
    if g.algorithm == AMX:
        return amx_block(g, call, image, block, out, out_row_step, scratch)
    if g.algorithm == WINOGRAD:
        return winograd_block(g, call, image, block, out, out_row_step, scratch)
    if depthwise_by_rows(g):
        depthwise_block(g, call, image, block, out, out_row_step, scratch)
        return False
    panels = near_panels(g, block.last_panel - block.first_panel)
    part = block[0]
    while part.first_panel < block.last_panel:
        part.last_panel = min(part.first_panel + panels, block.last_panel)
        conv_rectangles(g, call, image, &part, out, out_row_step, pool, scratch)
        part.first_panel = part.last_panel
    return False
