"""Fully connected layers: panels of outputs, read from the weight matrix in place.

    out[n, o] = act(bias[o] + sum over k of x[n, k] * weights[k, o])

One vector is bound by reading the weights once; more go through in tiles.
"""

cimport numpy as cnp
from libc.string cimport memcpy, memset

from pycnn._conv cimport carray
from pycnn._driver cimport workers_for
from pycnn._engine cimport (
    DONE, NO_MEMORY, PYCNN_f32, aligned_alloc, aligned_free, check, kernels_of, parallel,
    pycnn_line, pycnn_tap, type_index,
)

cnp.import_array()


cdef void plan_dense(Dense *d, int type) noexcept nogil:
    """Completes a layer whose n, n_in and n_out, at least 1, are set."""
    cdef Py_ssize_t lanes
    d.kernels = kernels_of(type)
    d.itemsize = 4 if type == PYCNN_f32 else 8
    lanes = d.kernels.lanes
    d.alone = d.n == 1 and d.n_in > 0
    d.width = d.n_out
    if not d.alone:
        d.width = max(d.n_out, lanes if d.n_out <= lanes else 2 * lanes)


cdef Py_ssize_t wide_bytes(const Dense *d) noexcept nogil:
    """Room for the weights where `width` needs zero outputs behind them; 0 where it does not."""
    return 0 if d.width == d.n_out else d.n_in * d.width * d.itemsize


cdef void widen(const Dense *d, const char *weights, char *wide) noexcept nogil:
    cdef Py_ssize_t k, row = d.n_out * d.itemsize, wide_row = d.width * d.itemsize
    for k in range(d.n_in):
        memcpy(wide + k * wide_row, weights + k * row, row)
        memset(wide + k * wide_row + row, 0, wide_row - row)


cdef Py_ssize_t dense_bytes(const Dense *d) noexcept nogil:
    """Scratch of `run_dense`: a bias as wide as the weights."""
    return d.width * d.itemsize


cdef struct Job:
    const Dense *layer
    pycnn_line line                 # of panel 0


cdef void dense_task(void *context, Py_ssize_t task, int worker) noexcept nogil:
    """One panel. Of two vectors of outputs, or one where they are fewer, the last steps back."""
    cdef Job *job = <Job *> context
    cdef const Dense *d = job.layer
    cdef pycnn_line line = job.line
    cdef Py_ssize_t first = task * line.n_filters
    if d.alone:
        line.n_filters = min(line.n_filters, d.n_out - first)
    else:
        first = min(first, d.n_out - line.n_filters)
    line.w = <const char *> line.w + first * d.itemsize
    line.bias = <const char *> line.bias + first * d.itemsize
    line.out = <char *> line.out + first * d.itemsize
    if d.alone:
        d.kernels.multiply(&line)
    else:
        d.kernels.direct(&line)


cdef void run_dense(const Dense *d, const char *x, const char *weights, const char *bias,
                    int activation, double slope, char *out, char *scratch) noexcept nogil:
    """Vectors without gaps; `weights` as `widen` leaves them, `bias` may be NULL."""
    cdef pycnn_tap tap
    cdef Job job
    cdef Py_ssize_t tasks, row = d.n_out * d.itemsize, lanes = d.kernels.lanes
    cdef int workers = workers_for(d.threads, <double> d.n * d.n_in * d.n_out, d.n_out)
    if bias is NULL or d.width > d.n_out:
        memset(scratch, 0, dense_bytes(d))
        if bias is not NULL:
            memcpy(scratch, bias, row)
        bias = scratch
    tap.x = tap.w = 0
    job.layer = d
    job.line.taps = &tap
    job.line.n_taps = 1
    job.line.run = job.line.x_step = d.n_in
    job.line.w_step = d.width
    job.line.out_step = d.n_out
    job.line.n_pixels = d.n
    if d.alone:     # whole rows of the matrix, but for the threads
        job.line.n_filters = ((d.n_out - 1) // workers // lanes + 1) * lanes
    else:
        job.line.n_filters = min(d.n_out, 2 * lanes)
    job.line.activation = activation
    job.line.slope = slope
    job.line.x = x
    job.line.w = weights
    job.line.bias = bias
    job.line.out = out
    tasks = (d.n_out - 1) // job.line.n_filters + 1
    parallel(tasks, dense_task, &job, workers)


def dense(x, weights, bias, int activation, double slope, out):
    """`x` (N, n_in), `weights` (n_in, n_out), `bias` (n_out,) or None, of any dtype, into `out`.

    `out` has C order, at least one element, and no memory in common with the inputs.
    """
    cdef int type_num = cnp.PyArray_TYPE(out), outcome = NO_MEMORY
    cdef const char *x_data
    cdef const char *weights_data
    cdef const char *bias_data = NULL
    cdef char *out_data = cnp.PyArray_BYTES(out)
    cdef char *scratch
    cdef Dense d
    d.n, d.n_out = cnp.PyArray_DIM(out, 0), cnp.PyArray_DIM(out, 1)
    d.n_in = cnp.PyArray_DIM(weights, 0)
    d.threads = 0
    plan_dense(&d, type_index(type_num))
    x = carray(x, type_num, d.n * d.n_in)
    x_data = cnp.PyArray_BYTES(x)
    weights = carray(weights, type_num, d.n_in * d.n_out)
    weights_data = cnp.PyArray_BYTES(weights)
    if bias is not None:
        bias = carray(bias, type_num, d.n_out)
        bias_data = cnp.PyArray_BYTES(bias)
    with nogil:
        scratch = <char *> aligned_alloc(dense_bytes(&d) + wide_bytes(&d))
        if scratch is not NULL:
            if wide_bytes(&d):
                widen(&d, weights_data, scratch + dense_bytes(&d))
                weights_data = scratch + dense_bytes(&d)
            run_dense(&d, x_data, weights_data, bias_data, activation, slope, out_data, scratch)
            aligned_free(scratch)
            outcome = DONE
    check(outcome)
