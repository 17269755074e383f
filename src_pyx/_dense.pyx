"""Fully connected layers: panels of outputs, read from the weight matrix in place.

    out[n, o] = act(bias[o] + sum over k of x[n, k] * weights[k, o])

A few vectors are bound by reading the weights once, many by the tiles of `direct`; few outputs go
through those of `dots`.
"""

cimport numpy as cnp
from libc.string cimport memcpy, memset

from pycnn._arrays cimport carray
from pycnn._driver cimport workers_for
from pycnn._engine cimport (
    DONE, NO_MEMORY, PYCNN_LINEAR, PYCNN_f32, aligned_alloc, aligned_free, check, kernels_of,
    parallel, pycnn_line, pycnn_tap, type_index,
)
from pycnn._geometry cimport ceil_div
from pycnn._plan cimport dots_fit, dots_panel

cnp.import_array()

# Rows of several panels, of a large matrix or where they fall into few sets of the cache, are read
# together, so many at a time: each panel of them is on few pages, and the next one is fetched
# meanwhile.
cdef Py_ssize_t ROWS = 64
cdef Py_ssize_t LARGE_BYTES = 512 * 1024
# How many rows ahead those of any other matrix are fetched.
cdef Py_ssize_t ROWS_AHEAD = 8
# What the sums of a thread, or its vectors, should take of the second-level cache.
cdef Py_ssize_t CACHED_BYTES = 256 * 1024
# The bias of sums that go on, two of the widest vectors: x + -0 is x, also where that is -0.
cdef float[32] NOTHING_f32
cdef double[16] NOTHING_f64
NOTHING_f32[:] = [-0.0] * 32
NOTHING_f64[:] = [-0.0] * 16


cdef void plan_dense(Dense *d, int type) noexcept nogil:
    """Completes a layer whose n, n_in and n_out, at least 1, are set."""
    cdef Py_ssize_t lanes
    d.kernels = kernels_of(type)
    d.itemsize = 4 if type == PYCNN_f32 else 8
    lanes = d.kernels.lanes
    # The layout of packed weights does not depend on the number of vectors.
    if dots_fit(d.kernels, d.n_in, d.n_in, d.n_out):
        d.way, d.width = DOTS, d.n_out
    else:
        d.way = MULTIPLY if d.n == 1 and d.n_in > 0 else TILES
        d.width = max(d.n_out, lanes if d.n_out <= lanes else 2 * lanes)


cdef void use_once(Dense *d) noexcept nogil:
    """For weights of one call: one vector reads them in place sooner than they are packed."""
    if d.way == MULTIPLY:
        d.width = d.n_out
    elif d.way == DOTS and d.n == 1 and d.n_out >= d.kernels.lanes:
        d.way = COLUMNS


cdef inline Py_ssize_t row_step(const Dense *d) noexcept nogil:
    """From one output's weights to the next's, not a power of two: that is one set of the cache."""
    return d.n_in + d.kernels.lanes


cdef Py_ssize_t packed_bytes(const Dense *d) noexcept nogil:
    """Room for packed weights; 0 where they are as they came."""
    if d.way == DOTS:
        return 0 if d.n_out == 1 else d.n_out * row_step(d) * d.itemsize
    return 0 if d.width == d.n_out else d.n_in * d.width * d.itemsize


cdef void pack_weights(const Dense *d, const char *weights, char *packed) noexcept nogil:
    """Outputs become rows, for dots, or zeros follow until there are `width` of them."""
    cdef Py_ssize_t k, row = d.n_out * d.itemsize, wide_row = d.width * d.itemsize
    if d.way == DOTS:
        d.kernels.split(weights, d.n_out, d.n_in * d.n_out, packed, row_step(d))
        return
    for k in range(d.n_in):
        memcpy(packed + k * wide_row, weights + k * row, row)
        memset(packed + k * wide_row + row, 0, wide_row - row)


cdef struct Job:
    const Dense *layer
    pycnn_line line                 # of the first output of the first vector
    Py_ssize_t panel                # outputs that a kernel takes at once
    Py_ssize_t columns              # outputs of a task
    Py_ssize_t column_tasks
    Py_ssize_t vectors              # of a task
    Py_ssize_t rows                 # of the matrix that are read together
    int workers
    char *sums
    Py_ssize_t sums_bytes           # of a worker


cdef Py_ssize_t divide(const Dense *d, Job *job) noexcept nogil:
    """Cuts the outputs into columns for the threads, and the vectors, for those that are left and
    so that what is needed again stays in the cache. No result depends on the cuts. Returns the
    bytes of scratch that the job needs."""
    cdef Py_ssize_t panels, waiting, cached, shared
    job.layer = d
    job.panel = 2 * d.kernels.lanes
    if d.way == MULTIPLY:
        job.panel = d.kernels.lanes
    elif d.way == DOTS:
        job.panel = dots_panel(d.n_out)
    panels = ceil_div(d.n_out, job.panel)
    job.workers = workers_for(d.threads, <double> d.n * d.n_in * d.n_out, d.n * panels)
    job.columns = ceil_div(panels, min(job.workers, panels)) * job.panel
    job.column_tasks = ceil_div(d.n_out, job.columns)
    # Sums wait for more rows of the matrix; vectors, for the next panel of dots.
    waiting = d.n_in if d.way == DOTS and panels > 1 else job.columns
    cached = CACHED_BYTES // (waiting * d.itemsize)
    shared = ceil_div(d.n, ceil_div(job.workers, job.column_tasks))
    job.vectors = max(d.kernels.direct_pixels, min(cached, shared))
    job.rows = d.n_in
    if d.way == TILES and panels > 1 and (
            d.width * d.itemsize % 1024 == 0
            or d.n_in > LARGE_BYTES // (d.width * d.itemsize)):
        job.rows = min(d.n_in, ROWS)
    job.sums_bytes = 0
    if job.rows < d.n_in:
        job.sums_bytes = min(job.vectors, d.n) * job.columns * d.itemsize
    return bias_bytes(d) + job.workers * job.sums_bytes


cdef inline Py_ssize_t bias_bytes(const Dense *d) noexcept nogil:
    """A bias as wide as the weights."""
    return (d.width * d.itemsize + 63) & ~63


cdef Py_ssize_t dense_bytes(const Dense *d) noexcept nogil:
    """Scratch of `run_dense`."""
    cdef Job job
    return divide(d, &job)


cdef void dense_task(void *context, Py_ssize_t task, int worker) noexcept nogil:
    """Tasks count columns fastest, then vectors.

    Panels of two vectors of outputs; the last one steps back over its neighbour. Where not all rows
    of the matrix are read together, what they add up to waits in `sums`, panel after panel, whose
    vectors are full: such rows are longer than a panel.
    """
    cdef Job *job = <Job *> context
    cdef const Dense *d = job.layer
    cdef pycnn_line line = job.line
    cdef Py_ssize_t first = task % job.column_tasks * job.columns
    cdef Py_ssize_t last = min(first + job.columns, d.n_out)
    cdef Py_ssize_t vector = task // job.column_tasks * job.vectors
    cdef Py_ssize_t panel = min(d.n_out, 2 * d.kernels.lanes)
    cdef Py_ssize_t n_blocks = (d.n_in - 1) // job.rows + 1 if d.n_in > 0 else 1
    cdef Py_ssize_t block, k, i, at
    cdef const char *x = <const char *> line.x + vector * d.n_in * d.itemsize
    cdef char *out = <char *> line.out + vector * d.n_out * d.itemsize
    cdef char *sums
    cdef const void *nothing = <void *> NOTHING_f32 if d.itemsize == 4 else <void *> NOTHING_f64
    if d.way == MULTIPLY or d.way == COLUMNS:
        line.n_filters = last - first
        line.w = <const char *> line.w + first * d.itemsize
        line.bias = <const char *> line.bias + first * d.itemsize
        line.out = out + first * d.itemsize
        if d.way == MULTIPLY:
            d.kernels.multiply(&line)
        else:
            d.kernels.dots_columns(&line)
        return
    line.n_pixels = min(job.vectors, d.n - vector)
    if d.way == DOTS:
        line.x = x
        for i in range(ceil_div(last - first, job.panel)):
            at = first + i * job.panel
            line.n_filters = min(job.panel, last - at)
            line.w = <const char *> job.line.w + at * job.line.w_step * d.itemsize
            line.bias = <const char *> job.line.bias + at * d.itemsize
            line.out = out + at * d.itemsize
            d.kernels.dots(&line)
        return
    line.n_filters = panel
    for block in range(n_blocks):
        k = block * job.rows
        line.run = min(job.rows, d.n_in - k)
        line.x = x + k * d.itemsize
        sums = job.sums + worker * job.sums_bytes
        for i in range((last - first - 1) // panel + 1):
            at = min(first + i * panel, d.n_out - panel)
            line.w = <const char *> job.line.w + (k * d.width + at) * d.itemsize
            line.sums = sums if block > 0 else NULL
            if block < n_blocks - 1:
                line.out, line.out_step = sums, panel
                line.bias, line.activation = nothing, PYCNN_LINEAR
            else:
                line.out, line.out_step = out + at * d.itemsize, d.n_out
                line.bias = <const char *> job.line.bias + at * d.itemsize
                line.activation = job.line.activation
            d.kernels.direct(&line)
            sums += line.n_pixels * panel * d.itemsize


cdef int run_dense(const Dense *d, const char *x, const char *weights, const char *bias,
                   int activation, double slope, char *out, char *scratch) noexcept nogil:
    """Vectors without gaps; `weights` from `pack_weights`, `bias` may be NULL. An `Outcome`.

    `scratch` is `dense_bytes` on a cache line, or NULL: then it is allocated for the call.
    """
    cdef pycnn_tap tap
    cdef Job job
    cdef Py_ssize_t n_bytes = divide(d, &job)
    cdef char *own = scratch
    if scratch is NULL:
        own = <char *> aligned_alloc(n_bytes)
        if own is NULL:
            return NO_MEMORY
    memset(own, 0, bias_bytes(d))
    if bias is not NULL:
        d.kernels.copy_bias(bias, d.n_out, own)
    tap.x = tap.w = 0
    job.sums = own + bias_bytes(d)
    job.line.taps = &tap
    job.line.n_taps = 1
    job.line.run = job.line.x_step = d.n_in
    job.line.w_step = row_step(d) if d.way == DOTS else d.width
    job.line.out_step = d.n_out
    job.line.w_ahead = ROWS_AHEAD * d.width
    if job.rows < d.n_in:
        job.line.w_ahead = 2 * d.kernels.lanes      # the next panel
    job.line.n_pixels = d.n
    job.line.activation = activation
    job.line.slope = slope
    job.line.x = x
    job.line.w = weights
    job.line.bias = own
    job.line.out = out
    job.line.sums = NULL
    parallel(job.column_tasks * ceil_div(d.n, job.vectors), dense_task, &job, job.workers)
    if scratch is NULL:
        aligned_free(own)
    return DONE


def dense(x, weights, bias, Py_ssize_t n_out, int activation, double slope, out):
    """`x` (N, n_in) or (n_in,), `weights` (n_in, n_out), `bias` (n_out,) or None into `out`.

    The inputs may have any dtype. `out` has C order, at least one element, and no memory in common
    with them.
    """
    cdef int type_num = cnp.PyArray_TYPE(out), outcome = NO_MEMORY
    cdef const char *x_data
    cdef const char *weights_data
    cdef const char *bias_data = NULL
    cdef char *out_data = cnp.PyArray_BYTES(out)
    cdef char *packed
    cdef Dense d
    # As many vectors and inputs as there are numbers for, whatever shape another thread may have
    # given the arrays since.
    d.n, d.n_out = cnp.PyArray_SIZE(out) // n_out, n_out
    d.n_in = cnp.PyArray_SIZE(weights) // n_out
    d.threads = 0
    plan_dense(&d, type_index(type_num))
    use_once(&d)
    x = carray(x, type_num, d.n * d.n_in)
    x_data = cnp.PyArray_BYTES(x)
    weights = carray(weights, type_num, d.n_in * d.n_out)
    weights_data = cnp.PyArray_BYTES(weights)
    if bias is not None:
        bias = carray(bias, type_num, d.n_out)
        bias_data = cnp.PyArray_BYTES(bias)
    with nogil:
        packed = <char *> aligned_alloc(packed_bytes(&d))
        if packed is not NULL:
            if packed_bytes(&d):
                pack_weights(&d, weights_data, packed)
                weights_data = packed
            outcome = run_dense(&d, x_data, weights_data, bias_data, activation, slope, out_data,
                                NULL)
            aligned_free(packed)
    check(outcome)
