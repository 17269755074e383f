"""Fully connected layers: panels of outputs, read from the weight matrix in place.

    out[n, o] = act(bias[o] + sum over k of x[n, k] * weights[k, o])

A few vectors go through the matrix one by one, bound by reading it; more of them in tiles.
"""

cimport numpy as cnp
from libc.string cimport memcpy, memset

from pycnn._conv cimport carray
from pycnn._driver cimport workers_for
from pycnn._engine cimport (
    aligned_alloc, aligned_free, kernels_of, parallel, pycnn_kernels, pycnn_line, pycnn_tap,
    type_index,
)

cnp.import_array()

# From so many vectors on, tiles that read the matrix once for several of them are faster.
cdef Py_ssize_t TILE_VECTORS = 2


cdef struct Job:
    const pycnn_kernels *kernels
    pycnn_line line                 # of all outputs
    Py_ssize_t panel, itemsize      # outputs of a task


cdef inline void take(const Job *job, pycnn_line *line, Py_ssize_t first,
                      Py_ssize_t outputs) noexcept nogil:
    line[0] = job.line
    line.w = <const char *> line.w + first * job.itemsize
    line.bias = <const char *> line.bias + first * job.itemsize
    line.out = <char *> line.out + first * job.itemsize
    line.n_filters = outputs


cdef void tiles_task(void *context, Py_ssize_t task, int worker) noexcept nogil:
    """All vectors through one panel; the last panel steps back over the one before."""
    cdef Job *job = <Job *> context
    cdef pycnn_line line
    cdef Py_ssize_t n_out = job.line.n_filters
    take(job, &line, max(0, min(task * job.panel, n_out - job.panel)), min(job.panel, n_out))
    job.kernels.direct(&line)


cdef void vectors_task(void *context, Py_ssize_t task, int worker) noexcept nogil:
    """All vectors through one panel, one by one."""
    cdef Job *job = <Job *> context
    cdef pycnn_line line
    cdef Py_ssize_t first = task * job.panel, _n
    take(job, &line, first, min(job.panel, job.line.n_filters - first))
    for _n in range(line.n_pixels):
        job.kernels.multiply(&line)
        line.x = <const char *> line.x + line.x_step * job.itemsize
        line.out = <char *> line.out + line.out_step * job.itemsize


cdef char *pad(const Job *job, Py_ssize_t width) noexcept nogil:
    """Matrix and bias with rows of `width` numbers, zeros at their ends; NULL without memory."""
    cdef const pycnn_line *line = &job.line
    cdef Py_ssize_t k, row = line.n_filters * job.itemsize, padded_row = width * job.itemsize
    cdef char *padded = <char *> aligned_alloc((line.run + 1) * padded_row)
    if padded is not NULL:
        memset(padded, 0, (line.run + 1) * padded_row)
        for k in range(line.run):
            memcpy(padded + k * padded_row, <const char *> line.w + k * row, row)
        memcpy(padded + line.run * padded_row, line.bias, row)
    return padded


def dense(x, weights, bias, int activation, double slope, out):
    """`x` (N, n_in), `weights` (n_in, n_out), `bias` (n_out,) or None, of any dtype, into `out`.

    `out` has C order, at least one element, and no memory in common with the inputs.
    """
    cdef int workers, type_num = cnp.PyArray_TYPE(out)
    cdef pycnn_tap tap
    cdef Job job
    cdef pycnn_line *line = &job.line
    cdef Py_ssize_t tasks, lanes, n_in = cnp.PyArray_DIM(weights, 0), n_out = cnp.PyArray_DIM(weights, 1)
    cdef bint tiled
    cdef char *zeros = NULL
    cdef char *padded = NULL
    x = carray(x, type_num, cnp.PyArray_DIM(out, 0) * n_in)
    weights = carray(weights, type_num, n_in * cnp.PyArray_DIM(out, 1))
    job.kernels = kernels_of(type_index(type_num))
    job.itemsize = cnp.PyArray_ITEMSIZE(out)
    tap.x = tap.w = 0
    line.taps = &tap
    line.n_taps = 1
    line.run = line.x_step = n_in
    line.w_step = line.out_step = line.n_filters = n_out
    line.n_pixels = cnp.PyArray_DIM(out, 0)
    line.activation = activation
    line.slope = slope
    line.x = cnp.PyArray_BYTES(x)
    line.w = cnp.PyArray_BYTES(weights)
    line.out = cnp.PyArray_BYTES(out)
    if bias is None:
        zeros = <char *> aligned_alloc(n_out * job.itemsize)
        if zeros is NULL:
            raise MemoryError("out of memory for the bias")
        memset(zeros, 0, n_out * job.itemsize)
        line.bias = zeros
    else:
        bias = carray(bias, type_num, n_out)
        line.bias = cnp.PyArray_BYTES(bias)
    lanes = job.kernels.lanes
    workers = workers_for(<double> line.n_pixels * n_in * n_out, n_out)
    tiled = line.n_pixels >= TILE_VECTORS or n_in == 0
    job.panel = 2 * lanes if tiled else ((n_out - 1) // workers // lanes + 1) * lanes
    tasks = (n_out - 1) // job.panel + 1
    if tiled and n_out < 2 * lanes:
        job.panel = lanes if n_out <= lanes else 2 * lanes
        padded = pad(&job, job.panel)
        if padded is NULL:
            aligned_free(zeros)
            raise MemoryError("out of memory for the weights")
        line.w = padded
        line.w_step = job.panel
        line.bias = padded + n_in * job.panel * job.itemsize
    with nogil:
        parallel(tasks, tiles_task if tiled else vectors_task, &job, workers)
        aligned_free(padded)
        aligned_free(zeros)
