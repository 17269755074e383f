"""Fully connected layers: panels of outputs, read from the weight matrix in place.

    out[n, o] = act(bias[o] + sum over k of x[n, k] * weights[k, o])

One vector, or a batch through a large matrix, is bound by reading the weights; a small matrix stays
near the tiles of `direct`, and few outputs go through those of `dots`.
"""

cimport numpy as cnp
from libc.string cimport memcpy, memset

from pycnn._arrays cimport carray
from pycnn._driver cimport workers_for
from pycnn._engine cimport (
    BATCH_PIXELS, DONE, NO_MEMORY, PYCNN_f32, aligned_alloc, aligned_free, check, kernels_of,
    padded, parallel, pycnn_line, pycnn_tap, type_index,
)
from pycnn._geometry cimport ceil_div
from pycnn._plan cimport dots_fit, dots_panel

cnp.import_array()

# Tiles read a panel of a larger matrix from too far away.
cdef Py_ssize_t LARGE_BYTES = 512 * 1024
# How many rows ahead those of a smaller one are fetched.
cdef Py_ssize_t ROWS_AHEAD = 8
# What vectors should take of the second-level cache that wait for the next panel.
cdef Py_ssize_t CACHED_BYTES = 256 * 1024


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
        d.way = TILES
        d.width = max(d.n_out, lanes if d.n_out <= lanes else 2 * lanes)
        if d.n == 1 and d.n_in > 0:
            d.way = MULTIPLY
        elif d.n_in > 0 and d.n_out > 4 * lanes and is_far(d):
            d.way = BATCH


cdef inline bint is_far(const Dense *d) noexcept nogil:
    """Whether a panel of all rows falls into few sets of the cache, or the next one out of it."""
    cdef Py_ssize_t row = d.n_out * d.itemsize
    return row % 1024 == 0 or d.n_in > LARGE_BYTES // row


cdef void use_once(Dense *d) noexcept nogil:
    """For weights of one call: one vector reads them in place sooner than they are packed."""
    if d.way == MULTIPLY:
        d.width = d.n_out
    elif d.way == DOTS and d.n == 1 and d.n_out >= d.kernels.lanes:
        d.way = COLUMNS


cdef inline Py_ssize_t row_step(const Dense *d) noexcept nogil:
    """From one output's weights to the next's, not a power of two: that is one set of the cache."""
    return d.n_in + d.kernels.lanes


cdef int pack_weights(const Dense *d, const char **weights, char **packed) noexcept nogil:
    """Replaces `weights` by `packed` ones, which the caller frees; NULL where they serve as given.

    Outputs become rows, for dots, or zeros follow until there are `width` of them. An `Outcome`.
    """
    cdef Py_ssize_t k, row = d.n_out * d.itemsize, wide_row = d.width * d.itemsize
    cdef bint dots = d.way == DOTS
    packed[0] = NULL
    if d.n_out == (1 if dots else d.width):
        return DONE
    packed[0] = <char *> aligned_alloc(
        (d.n_out * row_step(d) if dots else d.n_in * d.width) * d.itemsize)
    if packed[0] is NULL:
        return NO_MEMORY
    if dots:
        d.kernels.split(weights[0], d.n_out, d.n_in * d.n_out, packed[0], row_step(d))
    for k in range(0 if dots else d.n_in):
        memcpy(packed[0] + k * wide_row, weights[0] + k * row, row)
        memset(packed[0] + k * wide_row + row, 0, wide_row - row)
    weights[0] = packed[0]
    return DONE


cdef struct Job:
    const Dense *layer
    pycnn_line line                 # of the first output of the first vector
    void (*kernel)(const pycnn_line *) noexcept nogil
    Py_ssize_t outputs              # of a call of the kernel
    Py_ssize_t fewest               # that it takes: the last one steps back over those before
    Py_ssize_t columns              # outputs of a task
    Py_ssize_t column_tasks
    Py_ssize_t vectors              # of a task
    int workers


cdef void divide(const Dense *d, Job *job) noexcept nogil:
    """Cuts the outputs into columns for the threads; the vectors, for those that are left and so
    that what is needed again stays in the cache. No result depends on the cuts."""
    cdef Py_ssize_t panel = 2 * d.kernels.lanes, panels, most = d.n
    job.layer = d
    job.fewest = 0
    if d.way == TILES:
        job.kernel = d.kernels.direct
        job.fewest = min(panel, d.n_out)
    elif d.way == BATCH:
        job.kernel = d.kernels.multiply_batch
        job.fewest = panel
    elif d.way == MULTIPLY:
        job.kernel = d.kernels.multiply
        panel = d.kernels.lanes
    elif d.way == DOTS:
        job.kernel = d.kernels.dots
        panel = dots_panel(d.n_out)
    else:
        job.kernel = d.kernels.dots_columns
    panels = ceil_div(d.n_out, panel)
    job.workers = workers_for(d.threads, <double> d.n * d.n_in * d.n_out, d.n * panels)
    job.columns = ceil_div(panels, min(job.workers, panels)) * panel
    job.column_tasks = ceil_div(d.n_out, job.columns)
    job.outputs = panel if d.way == TILES or d.way == DOTS else job.columns
    if d.way == BATCH:
        most = BATCH_PIXELS
    elif panels > 1:
        most = max(4 * d.kernels.direct_pixels, CACHED_BYTES // (max(1, d.n_in) * d.itemsize))
    job.vectors = ceil_div(
        d.n, max(ceil_div(d.n, most), ceil_div(job.workers, job.column_tasks)))


cdef Py_ssize_t dense_bytes(const Dense *d) noexcept nogil:
    """Scratch of `run_dense`: a bias as wide as the weights."""
    return padded(d.width * d.itemsize)


cdef void dense_task(void *context, Py_ssize_t task, int _worker) noexcept nogil:
    """Tasks count columns fastest, then vectors.

    Two may store the same numbers, where one steps back over the columns of the other.
    """
    cdef Job *job = <Job *> context
    cdef const Dense *d = job.layer
    cdef pycnn_line line = job.line
    cdef Py_ssize_t first = task % job.column_tasks * job.columns
    cdef Py_ssize_t last = min(first + job.columns, d.n_out)
    cdef Py_ssize_t vector = task // job.column_tasks * job.vectors
    cdef Py_ssize_t i, at
    line.n_pixels = min(job.vectors, d.n - vector)
    line.x = <const char *> line.x + vector * d.n_in * d.itemsize
    for i in range(ceil_div(last - first, job.outputs)):
        at = min(first + i * job.outputs, d.n_out - job.fewest)
        line.n_filters = min(job.outputs, last - at)
        line.w = <const char *> job.line.w + (
            at * line.w_step if d.way == DOTS else at) * d.itemsize
        line.bias = <const char *> job.line.bias + at * d.itemsize
        line.out = <char *> job.line.out + (vector * d.n_out + at) * d.itemsize
        job.kernel(&line)


cdef int run_dense(const Dense *d, const char *x, const char *weights, const char *bias,
                   int activation, double slope, char *out, char *scratch) noexcept nogil:
    """Vectors without gaps; `weights` from `pack_weights`, `bias` may be NULL. An `Outcome`.

    `scratch` is `dense_bytes` on a cache line, or NULL: then it is allocated for the call.
    """
    cdef pycnn_tap tap
    cdef Job job
    cdef char *own = scratch
    if scratch is NULL:
        own = <char *> aligned_alloc(dense_bytes(d))
        if own is NULL:
            return NO_MEMORY
    memset(own, 0, dense_bytes(d))
    if bias is not NULL:
        d.kernels.copy_bias(bias, d.n_out, own)
    tap.x = tap.w = 0
    job.line.taps = &tap
    job.line.n_taps = 1
    job.line.run = job.line.x_step = d.n_in
    job.line.w_step = row_step(d) if d.way == DOTS else d.width
    job.line.w_ahead = ROWS_AHEAD * d.width
    job.line.out_step = d.n_out
    job.line.activation = activation
    job.line.slope = slope
    job.line.x = x
    job.line.w = weights
    job.line.bias = own
    job.line.out = out
    divide(d, &job)
    parallel(job.column_tasks * ceil_div(d.n, job.vectors), dense_task, &job, job.workers)
    if scratch is NULL:
        aligned_free(own)
    return DONE


def dense(x, weights, bias, Py_ssize_t n_out, int activation, double slope, out):
    """`x` (N, n_in) or (n_in,), `weights` (n_in, n_out), `bias` (n_out,) or None into `out`.

    The inputs may have any dtype. `out` has C order, at least one element, and no memory in common
    with them.
    """
    cdef int type_num = cnp.PyArray_TYPE(out), outcome
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
        outcome = pack_weights(&d, &weights_data, &packed)
        if outcome == DONE:
            outcome = run_dense(&d, x_data, weights_data, bias_data, activation, slope, out_data,
                                NULL)
        aligned_free(packed)
    check(outcome)
