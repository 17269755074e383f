"""The fused stage: convolution, bias, activation and pooling in one pass over the image.

A block of pooled pixels is made from a band of convolution rows that never leaves the L2 cache:

    out[n, py, px, f] = pool over the window's conv[n, py*sh + i, px*sw + j, f]

All blocks are of one size: the last one in a row or column steps back over its neighbour. What two
blocks share is computed twice, with the same bits. Where there are fewer blocks than threads want,
a task is some panels of filters of a block. Maxima of 2 x 2 whole windows the kernel of the
planes algorithm takes itself, but not of leaky_relu: then nothing but they is stored. A block
begins with a whole tile (winograd). An algorithm that hands images back (amx, winograd) must see
all of an image, or its bits would depend on the pool: the last block then takes in the pixels that
no window covers.
"""

from cpython.pyport cimport PY_SSIZE_T_MAX

from pycnn._axis cimport Axis
from pycnn._blocks cimport conv_block, conv_scratch_bytes
from pycnn._conv cimport execute
from pycnn._driver cimport Job, Plan, count_chunks, workers_for
from pycnn._engine cimport PYCNN_LEAKY_RELU, PYCNN_f32, PYCNN_f64, check, padded
from pycnn._geometry cimport (
    DIRECT, Block, Geometry, ceil_div, first_filter, hands_back, total_products,
)
from pycnn._planes cimport planes_pool_squares
from pycnn._pool cimport (
    free_pooling, plan_pooling, pool_channels, pool_rows, pool_scratch_bytes,
)

cdef Py_ssize_t BAND_BYTES = 128 * 1024
# Where pooling windows overlap, so do the bands; amx splits what the windows of two bands share for
# both; winograd needs rows of many tiles, which are several pixels high.
cdef Py_ssize_t HIGH_BAND_BYTES = 512 * 1024
# Filters are read anew for each band, which should be as large, up to half of an L2 cache.
cdef Py_ssize_t LARGEST_BAND_BYTES = 1024 * 1024
# Of the threads' time, before blocks are cut into panels.
cdef double MOST_IDLE = 1 / 8.0


cdef void cut_windows(Windows *w, Py_ssize_t fit, const Geometry *g,
                      Py_ssize_t size) noexcept nogil:
    """Equal blocks over at most `fit` convolution pixels of `size`, at least one output."""
    cdef Py_ssize_t most = 1 if fit < w.kernel else (fit - w.kernel) // w.stride + 1
    w.n_blocks = (w.out - 1) // most + 1
    w.block = (w.out - 1) // w.n_blocks + 1
    while w.block < w.out and w.block * w.stride % g.tile != 0:
        w.block += 1
    w.n_blocks = (w.out - 1) // w.block + 1
    w.band = (w.block - 1) * w.stride + w.kernel
    w.rest = size - (w.out - 1) * w.stride - w.kernel if hands_back(g) else 0
    w.room = min(size, w.band + w.rest + g.tile - 1)


cdef Py_ssize_t take(const Windows *w, Py_ssize_t i, int tile, Py_ssize_t *first,
                     Py_ssize_t *last) noexcept nogil:
    """The pixels of block `i`; returns how many of them lie before its first window."""
    cdef Py_ssize_t top = min(i * w.block, w.out - w.block) * w.stride
    first[0] = top - top % tile
    last[0] = top + w.band + (w.rest if i == w.n_blocks - 1 else 0)
    return top % tile


# ---- plan ---------------------------------------------------------------------------------------

cdef int plan_stage(Stage *s, const Plan *conv, const Plan *direct, bint mean) noexcept nogil:
    """Completes a stage whose windows' `kernel`, `stride` and `out` are set; an `Outcome`.

    `direct` is the stage for what the algorithm of `conv` hands back.
    """
    cdef const Geometry *g = conv.geometry
    cdef bint high = hands_back(g) or s.y.stride < s.y.kernel
    cdef Py_ssize_t budget = max(HIGH_BAND_BYTES if high else BAND_BYTES,
                                 min(LARGEST_BAND_BYTES, g.oc * g.products * g.itemsize))
    cdef Py_ssize_t pixels = budget // (g.oc * g.itemsize)
    cdef int outcome
    s.plan.geometry = g
    s.plan.result_bytes = s.y.out * s.x.out * g.oc * g.itemsize
    s.plan.divide = divide
    s.plan.task = stage_task
    s.plan.threads = conv.threads
    s.plan.direct = direct
    cut_windows(&s.x, pixels // s.y.kernel, g, g.x.out)
    cut_windows(&s.y, pixels // s.x.band, g, g.y.out)
    s.pooled = (not mean and s.y.kernel == s.y.stride == s.x.kernel == s.x.stride == 2
                and planes_pool_squares(g) and 2 * s.x.block >= g.kernels.lanes)
    s.pool.n, s.pool.itemsize = 1, g.itemsize
    s.pool.channels = g.oc
    s.pool.mean = mean
    s.pool.count_padding = False
    pool_axis(&s.pool.y, &s.y)
    pool_axis(&s.pool.x, &s.x)
    s.pool.y_end, s.pool.x_end = s.pool.y.size, s.pool.x.size
    outcome = plan_pooling(&s.pool, PYCNN_f32 if g.itemsize == 4 else PYCNN_f64, s.x.out)
    # Pixels of less than a vector, and passes, take maxima and sums in another order.
    s.by_panels = ((g.algorithm == DIRECT or hands_back(g)) and g.oc >= g.kernels.lanes
                   and not (s.pool.two_passes or s.pool.fold))
    return outcome


cdef void pool_axis(Axis *axis, const Windows *w) noexcept nogil:
    """The pool of one block along one axis."""
    axis.size, axis.out = w.room, w.block
    axis.kernel, axis.stride = w.kernel, w.stride
    axis.before, axis.dilation = 0, 1


cdef bint stage_fits(const Stage *s) noexcept nogil:
    """Whether a band, which holds a pooling window at least, is not too large to pay.

    What lies between windows must be computed, too, where images may be handed back.
    """
    cdef const Geometry *g = s.plan.geometry
    if hands_back(g) and (s.y.stride > s.y.kernel or s.x.stride > s.x.kernel):
        return False
    return s.y.kernel * s.x.kernel * g.oc * g.itemsize <= LARGEST_BAND_BYTES


# ---- tasks --------------------------------------------------------------------------------------

cdef inline Py_ssize_t band_bytes(const Stage *s) noexcept nogil:
    """A block's convolution; the pool may look at whole rows from `before` pixels on."""
    cdef const Geometry *g = s.plan.geometry
    return padded((s.y.room * s.x.room + g.tile - 1) * g.oc * g.itemsize)


cdef inline double idle_share(Py_ssize_t tasks, int workers) noexcept nogil:
    """Of the threads' time, when each task takes as long."""
    return 1 - tasks / (<double> workers * ceil_div(tasks, workers))


cdef void divide(const Plan *plan, Job *job) noexcept nogil:
    """A task a block, or some panels of one where the blocks would leave threads idle."""
    cdef const Stage *s = <const Stage *> plan
    cdef const Geometry *g = plan.geometry
    cdef int workers = workers_for(plan.threads, total_products(g, job.images), PY_SSIZE_T_MAX)
    job.bands = s.y.n_blocks * s.x.n_blocks
    job.panels = g.panels
    count_chunks(g, job)
    while s.by_panels and job.panels > 1 and idle_share(job.tasks, workers) > MOST_IDLE:
        job.panels = (job.panels + 1) // 2
        count_chunks(g, job)
    job.marks, job.mark_sets = job.bands * job.panel_chunks, 1
    job.workers = <int> min(<Py_ssize_t> workers, job.tasks)
    # Blocks are `band` columns wide, or the last one `room`.
    job.scratch_bytes = band_bytes(s) + padded(max(
        conv_scratch_bytes(g, s.x.band), conv_scratch_bytes(g, s.x.room),
        pool_scratch_bytes(&s.pool)))


cdef void stage_task(void *context, Py_ssize_t task, int worker) noexcept nogil:
    """Tasks count chunks of panels fastest, then blocks in a row, rows of blocks, images."""
    cdef Job *job = <Job *> context
    cdef const Stage *s = <const Stage *> job.plan
    cdef const Geometry *g = job.plan.geometry
    cdef Py_ssize_t chunk = task % job.panel_chunks, blocks = task // job.panel_chunks
    cdef Py_ssize_t image = blocks // s.x.n_blocks // s.y.n_blocks
    cdef Py_ssize_t row = blocks // s.x.n_blocks % s.y.n_blocks, column = blocks % s.x.n_blocks
    cdef Py_ssize_t y = min(row * s.y.block, s.y.out - s.y.block)
    cdef Py_ssize_t x = min(column * s.x.block, s.x.out - s.x.block)
    cdef Py_ssize_t above, before, i
    cdef Py_ssize_t pixel = g.oc * g.itemsize
    cdef char *band = job.scratch + worker * job.scratch_bytes
    cdef char *rest = band + band_bytes(s)
    cdef char *out = job.out + ((image * s.y.out + y) * s.x.out + x) * pixel
    cdef const char *origin = job.x + image * g.y.size * g.x.size * g.ic * g.itemsize
    cdef Block block
    above = take(&s.y, row, g.tile, &block.top, &block.bottom)
    before = take(&s.x, column, g.tile, &block.left, &block.right)
    block.first_panel = chunk * job.panels
    block.last_panel = min(block.first_panel + job.panels, g.panels)
    # leaky_relu alone leaves -0, of numbers too small for it: which zero is the maximum depends on
    # the order, and shall be that of the layers alone.
    if s.pooled and job.call.activation != PYCNN_LEAKY_RELU:
        conv_block(g, &job.call, origin, &block, out, s.x.out * g.oc, True, rest)
        return
    job.unsafe[task] = conv_block(g, &job.call, origin, &block, band, s.x.room * g.oc, False, rest)
    if job.unsafe[task]:
        return
    band += (above * s.x.room + before) * pixel
    if job.panel_chunks > 1:
        pool_channels(&s.pool, band, first_filter(g, block.first_panel),
                      first_filter(g, block.last_panel), out, s.x.out * g.oc)
        return
    for i in range(s.y.block):
        pool_rows(&s.pool, band, 0, i, i + 1, out, rest)
        out += s.x.out * pixel


# ---- the call from Python -----------------------------------------------------------------------

cdef class StagePlan:
    """A checked convolution and the pooling, without padding, of its result."""

    def __cinit__(self, ConvPlan conv not None, window, stride, out_shape, bint mean):
        cdef Stage *s = &self.stage
        cdef Plan *direct = NULL
        self.conv = conv
        s.y.kernel, s.x.kernel = window
        s.y.stride, s.x.stride = stride
        s.y.out, s.x.out = out_shape
        if conv.conv.plan.direct is not NULL:
            direct = &self.direct.plan
            self.direct = s[0]
            check(plan_stage(&self.direct, conv.conv.plan.direct, NULL, mean))
        check(plan_stage(s, &conv.conv.plan, direct, mean))

    def __dealloc__(self):
        free_pooling(&self.stage.pool)
        free_pooling(&self.direct.pool)

    @property
    def fits(self):
        return stage_fits(&self.stage)


cdef const Plan *plan_within(plan) except NULL:
    """The plan in a StagePlan or ConvPlan, which owns it."""
    if type(plan) is StagePlan:
        return &(<StagePlan> plan).stage.plan
    return &(<ConvPlan?> plan).conv.plan


def conv_pool(StagePlan plan not None, x, filters, bias, int activation, double slope, out):
    """`execute` for a stage."""
    execute(&plan.stage.plan, x, filters, bias, activation, slope, out)
