"""Convolution: loops over images, row bands, filter panels and lines of pixels.

    out[n, oy, ox, f] = act(bias[f] + sum over ky, kx, c of
        x[n, oy*sh - top + ky*dh, ox*sw - left + kx*dw, c] * filters[f, ky, kx, c])

The padded image is never built.  Each axis is cut into spans of outputs whose windows cover the
same taps; a row span and a column span make a rectangle without any bounds test inside, however
large the padding, and pixels outside the image are never multiplied by anything.
"""

cimport cython
cimport numpy as cnp
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.stdlib cimport free
from libc.string cimport memchr, memcpy, memset

from pycnn._amx cimport amx_block, amx_plan, amx_scratch_bytes
from pycnn._axis cimport Span, cut, overlap
from pycnn._engine cimport (
    aligned_alloc, aligned_free, amx_kernels, kernels_of, num_threads, parallel, pycnn_line,
    pycnn_tap, scratch_for, type_index,
)
from pycnn._geometry cimport (
    AMX, DEPTHWISE, DIRECT, PLANES, WINOGRAD, Block, Call, Geometry, Rectangle,
)
from pycnn._planes cimport planes_bytes, planes_columns, planes_fit, planes_rectangle
from pycnn._winograd cimport (
    tile_columns, tile_rows, winograd_block, winograd_pack, winograd_packed_bytes, winograd_plan,
    winograd_rows, winograd_scratch_bytes,
)

cnp.import_array()

# Input rows that all filter panels should find in the L2 cache.
cdef Py_ssize_t BAND_BYTES = 512 * 1024
# Multiply-adds that take about ten times as long as waking a thread.
cdef double PRODUCTS_PER_THREAD = 2e6
# Below these a matrix tile is too empty, or an image value is used too seldom to pay for its split.
cdef Py_ssize_t AMX_FILTERS = 16
cdef Py_ssize_t AMX_PRODUCTS = 64
cdef Py_ssize_t AMX_USES = 64
# The bfloat16 numbers that a float32 is split into on the matrix unit, at each precision.
PARTS = {"highest": 3, "high": 2, "medium": 1}


# ---- plan ---------------------------------------------------------------------------------------

cdef class ConvPlan:
    """A checked geometry with its algorithm, made once per shape and used by many calls.

    `precision` None stands for the algorithms that take any numbers; the others may hand an image
    or filters back to them. `packing` names the layout of packed filters the plan takes.
    """

    def __cinit__(self, int type_num, x_shape, filters_shape, out_shape, stride, before, dilation,
                  groups, precision="highest"):
        cdef Geometry *g = &self.geometry
        g.kernels = kernels_of(type_index(type_num))
        g.itemsize = 4 if type_num == cnp.NPY_FLOAT else 8
        g.n, g.y.size, g.x.size, g.ic = x_shape
        g.oc, g.y.kernel, g.x.kernel, g.group_ic = filters_shape
        g.y.out, g.x.out = out_shape
        # A stride that is never taken may be any number.
        g.y.stride = stride[0] if g.y.out > 1 else 1
        g.x.stride = stride[1] if g.x.out > 1 else 1
        g.y.before, g.x.before = before
        g.y.dilation, g.x.dilation = dilation
        g.groups = groups
        g.group_oc = g.oc // g.groups
        g.products = g.y.kernel * g.x.kernel * g.group_ic
        cut(&g.y)
        cut(&g.x)
        parts = PARTS[precision] if precision is not None else 0
        choose(g, parts)
        if g.algorithm == AMX or g.algorithm == WINOGRAD:
            self.direct = ConvPlan(type_num, x_shape, filters_shape, out_shape, stride, before,
                                   dilation, groups, None)
        layout = (
            "panels", "panels", "taps", f"amx{parts}", f"winograd{g.tile}")[<int> g.algorithm]
        self.packing = (type_num, layout, g.groups)

    def __dealloc__(self):
        free(self.geometry.y.spans)
        free(self.geometry.x.spans)

    def pack(self, filters):
        """A `Packed` of the filters that any plan with the same `packing` takes."""
        return packed_for(self, filters)

    @property
    def algorithm(self):
        return ("direct", "planes", "depthwise", "amx", "winograd")[<int> self.geometry.algorithm]


cdef void choose(Geometry *g, int parts) noexcept nogil:
    """The algorithm, and the lanes and panels its packed filters take."""
    cdef Py_ssize_t lanes = g.kernels.lanes, full = g.group_oc // (2 * lanes) * (2 * lanes)
    cdef Py_ssize_t rest = g.group_oc - full
    g.group_lanes = full + (0 if rest == 0 else lanes if rest <= lanes else 2 * lanes)
    g.panels = g.groups * ((g.group_oc - 1) // (2 * lanes) + 1)
    g.algorithm = DIRECT
    g.tile = 1
    if g.groups == g.ic == g.oc and g.oc >= lanes:
        g.algorithm = DEPTHWISE
        g.group_lanes = 1
    elif g.groups == 1 and g.oc <= lanes // 2 and g.x.out >= lanes and planes_fit(g):
        g.algorithm = PLANES
    elif (parts and g.oc >= AMX_FILTERS and g.products >= AMX_PRODUCTS
          and g.y.kernel * g.x.kernel * g.oc >= AMX_USES and amx_plan(g, parts)):
        g.algorithm = AMX
        g.group_lanes = (g.oc + 15) & ~15
        g.panels = g.amx_filters.panels
    elif 0 < parts < 3 and winograd_plan(g):
        g.algorithm = WINOGRAD


# ---- packed filters -----------------------------------------------------------------------------

cdef class Packed:
    """Filters in the layout of a plan; read-only after it is made, so threads may share it.

    `data` is NULL where the plan's algorithm cannot take the filters.
    """

    def __dealloc__(self):
        aligned_free(self.data)

    cdef Packed direct(self, ConvPlan plan):
        """The same filters for the direct plan."""
        cdef Packed packed
        with cython.critical_section(self):
            packed = self.direct_packed
            if packed is None:
                packed = self.direct_packed = packed_for(plan, self.filters)
        return packed


cdef Packed packed_for(ConvPlan plan, filters):
    """Filters of any dtype and order, in the plan's layout."""
    cdef const Geometry *g = &plan.geometry
    cdef Packed packed = Packed.__new__(Packed)
    cdef const char *data
    cdef Py_ssize_t n_bytes = g.groups * g.group_lanes * g.products * g.itemsize
    cdef bint usable = True
    filters = carray(filters, cnp.NPY_FLOAT if g.itemsize == 4 else cnp.NPY_DOUBLE,
                     g.oc * g.products)
    data = cnp.PyArray_BYTES(filters)
    if g.algorithm == AMX:
        n_bytes = g.amx_filters.packed_bytes
        packed.amx = g.amx_filters
        packed.filters = filters
    elif g.algorithm == WINOGRAD:
        n_bytes = winograd_packed_bytes(g)
        packed.filters = filters
    packed.data = <char *> aligned_alloc(n_bytes)
    if packed.data is NULL:
        raise MemoryError("out of memory for the packed filters")
    with nogil:
        if g.algorithm == AMX:
            usable = amx_kernels().pack(&packed.amx, <const float *> data, packed.data)
        elif g.algorithm == WINOGRAD:
            usable = winograd_pack(g, <const float *> data, packed.data)
        elif g.itemsize == 4:
            pack(g, <const float *> data, <float *> packed.data)
        else:
            pack(g, <const double *> data, <double *> packed.data)
    if not usable:
        aligned_free(packed.data)
        packed.data = NULL
    return packed


ctypedef fused floating:
    float
    double


cdef void pack(const Geometry *g, const floating *filters, floating *packed) noexcept nogil:
    """(F, KH, KW, C) to panels of [product][lane], zeros in the lanes behind the last filter.

    Depthwise: (C, KH, KW) to [tap][channel].
    """
    cdef Py_ssize_t _group, f, width, used
    if g.algorithm == DEPTHWISE:
        transpose(filters, g.oc, g.products, packed, g.oc)
        return
    for _group in range(g.groups):
        f = 0
        while f < g.group_oc:
            width = panel_width(g, f)
            used = min(width, g.group_oc - f)
            if used < width:
                memset(packed, 0, width * g.products * sizeof(floating))
            transpose(filters, used, g.products, packed, width)
            packed += width * g.products
            filters += used * g.products
            f += used


cdef inline Py_ssize_t panel_width(const Geometry *g, Py_ssize_t f) noexcept nogil:
    """Lanes of the panel that begins at filter `f` of its group: two vectors, or one at the end."""
    cdef Py_ssize_t lanes = g.kernels.lanes
    return lanes if g.group_oc - f <= lanes else 2 * lanes


cdef void transpose(const floating *rows, Py_ssize_t n_rows, Py_ssize_t n_columns, floating *out,
                    Py_ssize_t out_step) noexcept nogil:
    """out[column][row] = rows[row][column], in blocks of columns whose lines stay in L1."""
    cdef Py_ssize_t row, column, first, last
    for first in range(0, n_columns, 16):
        last = min(first + 16, n_columns)
        for row in range(n_rows):
            for column in range(first, last):
                out[column * out_step + row] = rows[row * n_columns + column]


cdef Py_ssize_t bias_bytes(const Geometry *g) noexcept nogil:
    return (g.groups * g.group_lanes * g.itemsize + 63) & ~63


cdef void start_call(const Geometry *g, Packed packed, const char *bias, int activation,
                     double slope, char *padded_bias, Call *call) noexcept:
    """Fills in `call`; the bias gets the packed filters' empty lanes, zeros when there is none."""
    cdef Py_ssize_t group, row = g.group_oc * g.itemsize, padded_row = g.group_lanes * g.itemsize
    memset(padded_bias, 0, g.groups * padded_row)
    if bias is not NULL:
        for group in range(g.groups):
            memcpy(padded_bias + group * padded_row, bias + group * row, row)
    call.filters = packed.data
    call.amx = &packed.amx
    call.bias = padded_bias
    call.activation = activation
    call.slope = slope


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
    cdef Py_ssize_t panel, group, f, lane, i, n_lines, step, out_step
    cdef Py_ssize_t height = r.y.last - r.y.first, breadth = r.x.last - r.x.first
    cdef bint across = breadth >= height or breadth >= g.kernels.direct_pixels
    cdef const char *origin
    line.taps = taps
    line.n_taps = list_taps(g, r, taps, &line.run)
    line.activation = call.activation
    line.slope = call.slope
    if across:
        line.n_pixels, line.x_step, line.out_step = breadth, r.x_step, g.oc
        n_lines, step, out_step = height, r.y_step, out_row_step
    else:
        line.n_pixels, line.x_step, line.out_step = height, r.y_step, out_row_step
        n_lines, step, out_step = breadth, r.x_step, g.oc
    for panel in range(block.first_panel, block.last_panel):
        group = panel // group_panels
        f = panel % group_panels * 2 * g.kernels.lanes
        lane = group * g.group_lanes + f
        origin = r.origin + group * g.group_ic * g.itemsize
        line.n_filters = min(2 * g.kernels.lanes, g.group_oc - f)
        line.w_step = panel_width(g, f)
        line.w = call.filters + lane * g.products * g.itemsize
        line.bias = call.bias + lane * g.itemsize
        for i in range(n_lines):
            line.x = origin + i * step * g.itemsize
            line.out = out + (i * out_step + group * g.group_oc + f) * g.itemsize
            g.kernels.direct(&line)


cdef void direct_planes(const Geometry *g, const Call *call, const Block *block,
                        const Rectangle *r, char *out, Py_ssize_t out_row_step,
                        Py_ssize_t out_plane_step, pycnn_tap *taps, char *line) noexcept nogil:
    """direct_rectangle into planes, by way of a line of `planes_columns` pixels."""
    cdef Rectangle part = r[0]
    cdef Py_ssize_t y, x, n
    part.y.first, part.y.last = 0, 1
    part.x.first = 0
    for y in range(r.y.last - r.y.first):
        x = 0
        while x < r.x.last - r.x.first:
            n = part.x.last = min(planes_columns(g), r.x.last - r.x.first - x)
            part.origin = r.origin + (y * r.y_step + x * r.x_step) * g.itemsize
            direct_rectangle(g, call, block, &part, line, 0, taps)
            g.kernels.split(line, g.oc, n * g.oc, out + (y * out_row_step + x) * g.itemsize,
                            out_plane_step)
            x += n


cdef void depthwise_rectangle(const Geometry *g, const Call *call, const Rectangle *r, char *out,
                              Py_ssize_t out_row_step, pycnn_tap *taps) noexcept nogil:
    cdef pycnn_line line
    cdef Py_ssize_t i
    line.taps = taps
    line.n_taps = list_taps(g, r, taps, &line.run)
    for i in range(line.n_taps):
        taps[i].w *= g.oc
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
        g.kernels.depthwise(&line)


# ---- blocks of one image ------------------------------------------------------------------------

cdef inline Py_ssize_t taps_bytes(const Geometry *g) noexcept nogil:
    cdef Py_ssize_t n = g.y.kernel * g.x.kernel
    if g.algorithm == PLANES:
        n = max(n, g.products)
    return (n * <Py_ssize_t> sizeof(pycnn_tap) + 63) & ~63


cdef Py_ssize_t conv_scratch_bytes(const Geometry *g, Py_ssize_t columns) noexcept nogil:
    """What one thread needs, besides input, output and packed filters, for blocks so wide."""
    if g.algorithm == AMX:
        return amx_scratch_bytes(g, columns)
    if g.algorithm == WINOGRAD:
        return winograd_scratch_bytes(g)
    return taps_bytes(g) + ((planes_bytes(g) + 63) & ~63 if g.algorithm == PLANES else 0)


cdef bint conv_block(
    const Geometry *g, const Call *call, const char *image, const Block *block, char *out,
    Py_ssize_t out_row_step, Py_ssize_t out_plane_step, char *scratch,
) noexcept nogil:
    """One block of one image; `out` is its first pixel. True when it must be computed directly.

    The planes algorithm alone can also leave each filter's result in a plane of its own, where
    `out_plane_step` is not 0.
    """
    cdef Span rows, columns
    cdef Rectangle r
    cdef Py_ssize_t i, j
    cdef char *target
    cdef pycnn_tap *taps = <pycnn_tap *> scratch
    if g.algorithm == AMX:
        return amx_block(g, call, image, block, out, out_row_step, scratch)
    if g.algorithm == WINOGRAD:
        return winograd_block(g, call, image, block, out, out_row_step, scratch)
    for i in range(g.y.n_spans):
        if overlap(&g.y.spans[i], block.top, block.bottom, &rows) <= 0:
            continue
        for j in range(g.x.n_spans):
            if overlap(&g.x.spans[j], block.left, block.right, &columns) <= 0:
                continue
            r = rectangle(g, image, &rows, &columns)
            target = out + ((rows.first - block.top) * out_row_step
                            + (columns.first - block.left) * (1 if out_plane_step else g.oc)
                            ) * g.itemsize
            if g.algorithm == DEPTHWISE:
                depthwise_rectangle(g, call, &r, target, out_row_step, taps)
            elif (g.algorithm == PLANES and r.y.tap_first < r.y.tap_last
                  and columns.last - columns.first >= g.kernels.lanes):
                planes_rectangle(g, call, &r, target, out_row_step, out_plane_step, taps,
                                 scratch + taps_bytes(g))
            elif out_plane_step:
                direct_planes(g, call, block, &r, target, out_row_step, out_plane_step, taps,
                              scratch + taps_bytes(g))
            else:
                direct_rectangle(g, call, block, &r, target, out_row_step, taps)
    return False


# ---- tasks --------------------------------------------------------------------------------------

cdef struct Job:
    const Geometry *g
    const Call *call
    const char *x
    char *out
    char *scratch
    Py_ssize_t scratch_bytes                # of one worker
    Py_ssize_t images
    # Output rows of a band, bands of an image; winograd: rows of tiles, bands of the batch.
    Py_ssize_t rows, bands
    Py_ssize_t panels, panel_chunks         # panels of a task, tasks of a band
    Py_ssize_t tasks
    char *unsafe                            # not 0: compute the image directly
    Py_ssize_t marks, mark_sets             # bytes of an image in `unsafe`, how often it has all


cdef int workers_for(double products, Py_ssize_t tasks) noexcept nogil:
    """Threads for so many multiply-adds: each should have work for well over its wake-up."""
    return <int> max(1, min(<double> min(num_threads(), tasks), products / PRODUCTS_PER_THREAD))


cdef Py_ssize_t band_rows(const Geometry *g) noexcept nogil:
    """Output rows whose input fits BAND_BYTES, so that each filter panel finds it in the cache."""
    cdef Py_ssize_t row = g.x.size * g.ic * g.itemsize
    cdef Py_ssize_t fit = BAND_BYTES // max(row, 1)
    if g.algorithm == AMX:
        return min(g.y.out, g.amx_image.rows)
    if fit <= (g.y.kernel - 1) * g.y.dilation:
        return min(g.y.out, 4)
    return max(1, min(g.y.out, (fit - (g.y.kernel - 1) * g.y.dilation) // g.y.stride))


cdef int divide(const Geometry *g, Job *job) noexcept nogil:
    """Cuts the work into tasks; returns the number of threads.  No result depends on the cuts."""
    cdef double products = <double> job.images * g.y.out * g.x.out * g.oc * g.products
    cdef int workers = workers_for(products, PY_SSIZE_T_MAX)
    # Some tasks a thread even out the load: first from rows, then from panels of filters. The
    # matrix unit splits a band anew for every chunk of panels.
    cdef Py_ssize_t wanted = 4 * workers if workers > 1 else 1
    cdef Py_ssize_t wanted_chunks = workers if g.algorithm == AMX else wanted
    job.rows = band_rows(g)
    while job.rows > 4 and job.images * ((g.y.out - 1) // job.rows + 1) < wanted:
        job.rows = (job.rows + 1) // 2
    job.bands = (g.y.out - 1) // job.rows + 1
    job.panels = g.panels
    if g.algorithm == DIRECT or g.algorithm == AMX:
        while (job.panels > 1 and job.images * job.bands * ((g.panels - 1) // job.panels + 1)
                < wanted_chunks):
            job.panels = (job.panels + 1) // 2
    job.panel_chunks = (g.panels - 1) // job.panels + 1
    job.tasks = job.images * job.bands * job.panel_chunks
    job.marks, job.mark_sets = job.bands * job.panel_chunks, 1
    return workers


cdef int divide_tiles(const Geometry *g, Job *job) noexcept nogil:
    """`divide` for winograd: images that are small share the packed filters."""
    cdef double products = <double> job.images * g.y.out * g.x.out * g.oc * g.products / 4
    cdef int workers = workers_for(products, PY_SSIZE_T_MAX)
    cdef Py_ssize_t rows = job.images * tile_rows(g)
    cdef Py_ssize_t full = 2 * g.kernels.direct_pixels // tile_columns(g) + 1
    # Few large bands: each meets all filters anew, and each chunk of panels all pixels.
    job.rows = rows
    while job.rows > full and (rows - 1) // job.rows + 1 < 4 * workers and workers > 1:
        job.rows = (job.rows + 1) // 2
    job.bands = (rows - 1) // job.rows + 1
    job.panels = g.panels
    while job.panels > 1 and job.bands * ((g.panels - 1) // job.panels + 1) < workers:
        job.panels = (job.panels + 1) // 2
    job.panel_chunks = (g.panels - 1) // job.panels + 1
    job.tasks = job.bands * job.panel_chunks
    job.marks, job.mark_sets = tile_rows(g), job.panel_chunks
    return workers


cdef void conv_task(void *context, Py_ssize_t task, int worker) noexcept nogil:
    """Tasks count chunks of panels fastest, then bands, then images."""
    cdef Job *job = <Job *> context
    cdef const Geometry *g = job.g
    cdef Py_ssize_t chunk = task % job.panel_chunks, band = task // job.panel_chunks % job.bands
    cdef Py_ssize_t image = task // job.panel_chunks // job.bands, rows
    cdef Block block
    block.top = band * job.rows
    block.bottom = min(block.top + job.rows, g.y.out)
    block.left, block.right = 0, g.x.out
    block.first_panel = chunk * job.panels
    block.last_panel = min(block.first_panel + job.panels, g.panels)
    if g.algorithm == WINOGRAD:
        # `image` is 0 here: the bands are those of the batch.
        rows = job.images * tile_rows(g)
        winograd_rows(
            g, job.call, job.x, band * job.rows, min((band + 1) * job.rows, rows),
            block.first_panel, block.last_panel, job.out, job.scratch + worker * job.scratch_bytes,
            <unsigned char *> job.unsafe + chunk * rows)
        return
    job.unsafe[task] = conv_block(
        g, job.call, job.x + image * g.y.size * g.x.size * g.ic * g.itemsize, &block,
        job.out + (image * g.y.out + block.top) * g.x.out * g.oc * g.itemsize, g.x.out * g.oc, 0,
        job.scratch + worker * job.scratch_bytes)


cdef bint is_unsafe(const Job *job, Py_ssize_t image) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(job.mark_sets):
        if memchr(job.unsafe + (i * job.images + image) * job.marks, 1, job.marks) is not NULL:
            return True
    return False


cdef int run(ConvPlan plan, Packed packed, const char *x, const char *bias, int activation,
             double slope, char *out, Py_ssize_t images) except -1:
    """So many images; those that the plan's algorithm cannot take, directly."""
    cdef const Geometry *g = &plan.geometry
    cdef int workers
    cdef Py_ssize_t image, n_marks
    cdef Py_ssize_t x_bytes = g.y.size * g.x.size * g.ic * g.itemsize
    cdef Py_ssize_t out_bytes = g.y.out * g.x.out * g.oc * g.itemsize
    cdef char *scratch
    cdef Call call
    cdef Job job
    if packed.data is NULL:
        return run(plan.direct, packed.direct(plan.direct), x, bias, activation, slope, out, images)
    job.images = images
    workers = divide_tiles(g, &job) if g.algorithm == WINOGRAD else divide(g, &job)
    n_marks = images * job.marks * job.mark_sets
    job.scratch_bytes = conv_scratch_bytes(g, g.x.out)
    scratch = scratch_for(bias_bytes(g) + n_marks, job.scratch_bytes, workers)
    if scratch is NULL:
        raise MemoryError("out of memory for the scratch of its threads")
    start_call(g, packed, bias, activation, slope, scratch, &call)
    job.g = g
    job.call = &call
    job.x = x
    job.out = out
    job.scratch = scratch + bias_bytes(g)
    job.unsafe = job.scratch + workers * job.scratch_bytes
    try:
        with nogil:
            memset(job.unsafe, 0, n_marks)
            parallel(job.tasks, conv_task, &job, workers)
        for image in range(images):
            if is_unsafe(&job, image):
                run(plan.direct, packed.direct(plan.direct), x + image * x_bytes, bias, activation,
                    slope, out + image * out_bytes, 1)
    finally:
        aligned_free(scratch)
    return 0


# ---- the call from Python -----------------------------------------------------------------------

cdef object carray(array, int type_num, Py_ssize_t size):
    """`array` in C order, aligned, in native bytes and of this type; itself when it already is.

    Its size is compared with the plan's: another thread may have changed the array since.
    """
    if cnp.PyArray_TYPE(array) != type_num or not cnp.PyArray_ISCARRAY_RO(array):
        array = copied(array, type_num)
    if cnp.PyArray_SIZE(array) != size:
        raise ValueError(
            f"an array of {cnp.PyArray_SIZE(array)} elements where {size} were checked")
    return array


cdef object copied(array, int type_num):
    return cnp.PyArray_FROMANY(array, type_num, 0, 0,
                               cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_ENSUREARRAY
                               | cnp.NPY_ARRAY_FORCECAST)


def conv2d(ConvPlan plan not None, x, filters, bias, int activation, double slope, out):
    """Runs a plan: arrays of its shapes and any dtype, `filters` packed or not, into `out`.

    `out` has the plan's dtype, C order, and no memory in common with the inputs.
    """
    cdef int type_num = cnp.PyArray_TYPE(out)
    cdef const char *bias_data = NULL
    cdef const Geometry *g = &plan.geometry
    cdef Packed packed = filters if type(filters) is Packed else packed_for(plan, filters)
    x = carray(x, type_num, g.n * g.y.size * g.x.size * g.ic)
    if bias is not None:
        bias = carray(bias, type_num, g.oc)
        bias_data = cnp.PyArray_BYTES(bias)
    run(plan, packed, cnp.PyArray_BYTES(x), bias_data, activation, slope, cnp.PyArray_BYTES(out),
        g.n)
