"""The fused stage: convolution, bias, activation and pooling in one pass over the image.

A block of pooled pixels is made from a band of convolution rows that never leaves the L2 cache:

    out[n, py, px, f] = pool over the window's conv[n, py*sh + i, px*sw + j, f]

All blocks are of one size: the last one in a row or column steps back over its neighbour. What two
blocks share is computed twice, with the same bits. For a maximum, the planes algorithm leaves a
plane for each filter; these are pooled one by one and interleaved last. A block begins with a
whole tile (winograd). An algorithm that hands images back (amx, winograd) must see all of an
image, or its bits would depend on the pool: the last block then takes in the pixels that no window
covers.
"""

cimport numpy as cnp

from pycnn._conv cimport (
    ConvPlan, Packed, bias_bytes, carray, conv_block, conv_scratch_bytes, packed_for, start_call,
    workers_for,
)
from pycnn._engine cimport PYCNN_RELU, aligned_free, parallel, scratch_for
from pycnn._geometry cimport AMX, PLANES, WINOGRAD, Block, Call, Geometry
from pycnn._pool cimport Pooling, PoolPlan, pool_rows, pool_scratch_bytes

cnp.import_array()

cdef Py_ssize_t BAND_BYTES = 128 * 1024
# Winograd needs rows of many tiles, which are several pixels high.
cdef Py_ssize_t TILED_BAND_BYTES = 512 * 1024


cdef struct Windows:
    # Pooled outputs along one axis, cut into blocks of `block` outputs made from `band` pixels.
    # The last block also computes the `rest` behind its windows; `room` is the most that any does.
    Py_ssize_t kernel, stride, out, block, n_blocks, band, rest, room


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


cdef inline bint hands_back(const Geometry *g) noexcept nogil:
    return g.algorithm == AMX or g.algorithm == WINOGRAD


cdef Py_ssize_t take(const Windows *w, Py_ssize_t i, int tile, Py_ssize_t *first,
                     Py_ssize_t *last) noexcept nogil:
    """The pixels of block `i`; returns how many of them lie before its first window."""
    cdef Py_ssize_t top = min(i * w.block, w.out - w.block) * w.stride
    first[0] = top - top % tile
    last[0] = top + w.band + (w.rest if i == w.n_blocks - 1 else 0)
    return top % tile


cdef class StagePlan:
    """A checked convolution and the pooling, without padding, of its result."""

    cdef ConvPlan conv
    cdef PoolPlan pool, bits        # of one block; after relu
    cdef Windows y, x
    cdef StagePlan direct           # the plan for what this one's algorithm cannot take

    def __cinit__(self, ConvPlan conv not None, dtype, window, stride, out_shape, bint mean):
        cdef const Geometry *g = &conv.geometry
        cdef Py_ssize_t budget = BAND_BYTES if g.tile == 1 else TILED_BAND_BYTES
        cdef Py_ssize_t pixels = budget // (g.oc * g.itemsize)
        self.conv = conv
        self.y.kernel, self.x.kernel = window
        self.y.stride, self.x.stride = stride
        self.y.out, self.x.out = out_shape
        cut_windows(&self.x, pixels // self.y.kernel, g, g.x.out)
        cut_windows(&self.y, pixels // self.x.band, g, g.y.out)
        self.pool = self.bits = self.block_pool(dtype, window, stride, mean)
        if not mean:
            # What relu leaves, +0 to infinity and NaN, is in the order of its bits, NaN above all:
            # the maximum of whole numbers needs no care for NaN.
            bits = cnp.PyArray_DescrFromType(
                cnp.NPY_UINT32 if g.itemsize == 4 else cnp.NPY_UINT64)
            self.bits = self.block_pool(bits, window, stride, mean)
        if conv.direct is not None:
            self.direct = StagePlan(conv.direct, dtype, window, stride, out_shape, mean)

    cdef PoolPlan block_pool(self, dtype, window, stride, bint mean):
        cdef const Geometry *g = &self.conv.geometry
        none = (0, 0)
        # The order of a mean's sums depends on the channels: it shall be that of the layers alone.
        channels = 1 if g.algorithm == PLANES and not mean else g.oc
        return PoolPlan(dtype, (1, self.y.room, self.x.room, channels), window,
                        (self.y.block, self.x.block), stride, none, none, (1, 1), mean, False)

    @property
    def packing(self):
        return self.conv.packing

    def pack(self, filters):
        return packed_for(self.conv, filters)

    @property
    def fits(self):
        """Whether a band, a pooling window high and wide at least, is small enough to pay.

        What lies between windows must be computed, too, where images may be handed back.
        """
        cdef const Geometry *g = &self.conv.geometry
        if hands_back(g) and (self.y.stride > self.y.kernel or self.x.stride > self.x.kernel):
            return False
        return self.y.room <= 8 * BAND_BYTES // g.itemsize // g.oc // self.x.room


cdef struct Job:
    const Geometry *g
    const Call *call
    const Pooling *pool
    Windows y, x
    const char *image
    char *out
    char *scratch
    Py_ssize_t band_bytes, scratch_bytes    # of one worker
    Py_ssize_t pooled_bytes                 # one pooled row in planes
    char *unsafe                            # a byte per task: compute its image directly


cdef void stage_task(void *context, Py_ssize_t task, int worker) noexcept nogil:
    """Tasks count blocks in a row fastest, then rows of blocks, then images."""
    cdef Job *job = <Job *> context
    cdef const Geometry *g = job.g
    cdef Py_ssize_t image = task // job.x.n_blocks // job.y.n_blocks
    cdef Py_ssize_t row = task // job.x.n_blocks % job.y.n_blocks, column = task % job.x.n_blocks
    cdef Py_ssize_t y = min(row * job.y.block, job.y.out - job.y.block)
    cdef Py_ssize_t x = min(column * job.x.block, job.x.out - job.x.block)
    cdef Py_ssize_t above, before, i, f
    cdef Py_ssize_t pixel = job.pool.channels * g.itemsize, row_bytes = job.x.room * pixel
    cdef Py_ssize_t plane = job.y.room * job.x.room if job.pool.channels < g.oc else 0
    cdef char *band = job.scratch + worker * job.scratch_bytes
    cdef char *rest = band + job.band_bytes
    cdef char *out
    cdef Block block
    above = take(&job.y, row, g.tile, &block.top, &block.bottom)
    before = take(&job.x, column, g.tile, &block.left, &block.right)
    block.first_panel, block.last_panel = 0, g.panels
    job.unsafe[task] = conv_block(
        g, job.call, job.image + image * g.y.size * g.x.size * g.ic * g.itemsize, &block, band,
        job.x.room * job.pool.channels, plane, rest)
    if job.unsafe[task]:
        return
    band += above * row_bytes + before * pixel
    for i in range(job.y.block):
        out = job.out + ((image * job.y.out + y + i) * job.x.out + x) * g.oc * g.itemsize
        if plane == 0:
            pool_rows(job.pool, band, 0, i, i + 1, out, rest)
            continue
        for f in range(g.oc):
            pool_rows(job.pool, band + f * plane * g.itemsize, 0, i, i + 1,
                      rest + f * job.x.block * g.itemsize, rest + job.pooled_bytes)
        g.kernels.interleave(rest, g.oc, job.x.block, out, job.x.block)


cdef int run(StagePlan plan, Packed packed, const char *x, const char *bias, int activation,
             double slope, char *out, Py_ssize_t images) except -1:
    """So many images; those that the plan's algorithm cannot take, directly."""
    cdef const Geometry *g = &plan.conv.geometry
    cdef const Pooling *p = (&plan.bits.pooling if activation == PYCNN_RELU
                             else &plan.pool.pooling)
    cdef int workers
    cdef Py_ssize_t blocks = plan.y.n_blocks * plan.x.n_blocks, tasks = images * blocks
    cdef Py_ssize_t task, image, redone = -1
    cdef Py_ssize_t x_bytes = g.y.size * g.x.size * g.ic * g.itemsize
    cdef Py_ssize_t out_bytes = plan.y.out * plan.x.out * g.oc * g.itemsize
    cdef char *scratch
    cdef Call call
    cdef Job job
    if packed.data is NULL:
        return run(plan.direct, packed.direct(plan.conv.direct), x, bias, activation, slope, out,
                   images)
    workers = workers_for(<double> images * g.y.out * g.x.out * g.oc * g.products, tasks)
    # The pool may look at whole rows from `before` pixels on.
    job.band_bytes = ((plan.y.room * plan.x.room + g.tile - 1) * g.oc * g.itemsize + 63) & ~63
    job.pooled_bytes = (plan.x.block * g.oc * g.itemsize + 63) & ~63
    # Blocks are `band` columns wide, or the last one `room`.
    job.scratch_bytes = (job.band_bytes + max(
        conv_scratch_bytes(g, plan.x.band), conv_scratch_bytes(g, plan.x.room),
        job.pooled_bytes + pool_scratch_bytes(p)) + 63) & ~63
    scratch = scratch_for(bias_bytes(g) + tasks, job.scratch_bytes, workers)
    if scratch is NULL:
        raise MemoryError("out of memory for the scratch of its threads")
    start_call(g, packed, bias, activation, slope, scratch, &call)
    job.g = g
    job.call = &call
    job.pool = p
    job.y = plan.y
    job.x = plan.x
    job.image = x
    job.out = out
    job.scratch = scratch + bias_bytes(g)
    job.unsafe = job.scratch + workers * job.scratch_bytes
    try:
        with nogil:
            parallel(tasks, stage_task, &job, workers)
        for task in range(tasks):
            image = task // blocks
            if job.unsafe[task] and image != redone:
                run(plan.direct, packed.direct(plan.conv.direct), x + image * x_bytes, bias,
                    activation, slope, out + image * out_bytes, 1)
                redone = image
    finally:
        aligned_free(scratch)
    return 0


def conv_pool(StagePlan plan not None, x, filters, bias, int activation, double slope, out):
    """Runs a plan: arrays of its shapes and any dtype, `filters` packed or not, into `out`.

    `out` has the plan's dtype, C order, and no memory in common with the inputs.
    """
    cdef int type_num = cnp.PyArray_TYPE(out)
    cdef const char *bias_data = NULL
    cdef const Geometry *g = &plan.conv.geometry
    cdef Packed packed = filters if type(filters) is Packed else packed_for(plan.conv, filters)
    x = carray(x, type_num, g.n * g.y.size * g.x.size * g.ic)
    if bias is not None:
        bias = carray(bias, type_num, g.oc)
        bias_data = cnp.PyArray_BYTES(bias)
    run(plan, packed, cnp.PyArray_BYTES(x), bias_data, activation, slope, cnp.PyArray_BYTES(out),
        g.n)
