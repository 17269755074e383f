"""Fully connected layers: panels of outputs, read from the weight matrix in place.

    out[n, o] = act(bias[o] + sum over k of x[n, k] * weights[k, o])

Bound by reading the weights once: one vector uses each of them once.
"""

cimport numpy as cnp
from libc.string cimport memset

from pycnn._conv cimport carray
from pycnn._driver cimport workers_for
from pycnn._engine cimport (
    aligned_alloc, aligned_free, kernels_of, parallel, pycnn_kernels, pycnn_line, pycnn_tap,
    type_index,
)

cnp.import_array()


cdef struct Job:
    const pycnn_kernels *kernels
    pycnn_line line                 # of panel 0
    Py_ssize_t n_out, itemsize


cdef void dense_task(void *context, Py_ssize_t task, int worker) noexcept nogil:
    """One panel: two vectors of outputs, one where they are fewer; the last panel steps back."""
    cdef Job *job = <Job *> context
    cdef pycnn_line line = job.line
    cdef Py_ssize_t f = min(task * line.n_filters, job.n_out - line.n_filters) * job.itemsize
    line.w = <const char *> line.w + f
    line.bias = <const char *> line.bias + f
    line.out = <char *> line.out + f
    job.kernels.direct(&line)


def dense(x, weights, bias, int activation, double slope, out):
    """`x` (N, n_in), `weights` (n_in, n_out), `bias` (n_out,) or None, of any dtype, into `out`.

    `weights` have at least two vectors of outputs, or exactly one; see `widths`. `out` has C order,
    and no memory in common with the inputs.
    """
    cdef int workers, type_num = cnp.PyArray_TYPE(out)
    cdef pycnn_tap tap
    cdef Job job
    cdef Py_ssize_t tasks
    cdef char *zeros = NULL
    x = carray(x, type_num, cnp.PyArray_DIM(out, 0) * cnp.PyArray_DIM(weights, 0))
    weights = carray(weights, type_num, cnp.PyArray_DIM(out, 1) * cnp.PyArray_DIM(weights, 0))
    job.kernels = kernels_of(type_index(type_num))
    job.itemsize = cnp.PyArray_ITEMSIZE(out)
    job.n_out = cnp.PyArray_DIM(weights, 1)
    tap.x = tap.w = 0
    job.line.taps = &tap
    job.line.n_taps = 1
    job.line.run = job.line.x_step = cnp.PyArray_DIM(weights, 0)
    job.line.w_step = job.line.out_step = job.n_out
    job.line.n_pixels = cnp.PyArray_DIM(out, 0)
    job.line.n_filters = min(job.n_out, 2 * job.kernels.lanes)
    job.line.activation = activation
    job.line.slope = slope
    job.line.x = cnp.PyArray_BYTES(x)
    job.line.w = cnp.PyArray_BYTES(weights)
    job.line.out = cnp.PyArray_BYTES(out)
    if bias is None:
        zeros = <char *> aligned_alloc(job.n_out * job.itemsize)
        if zeros is NULL:
            raise MemoryError("out of memory for the bias")
        memset(zeros, 0, job.n_out * job.itemsize)
        job.line.bias = zeros
    else:
        bias = carray(bias, type_num, job.n_out)
        job.line.bias = cnp.PyArray_BYTES(bias)
    tasks = (job.n_out - 1) // job.line.n_filters + 1
    workers = workers_for(<double> job.line.n_pixels * job.line.run * job.n_out, tasks)
    with nogil:
        parallel(tasks, dense_task, &job, workers)
        aligned_free(zeros)


def widths(int type_num):
    """Outputs of one and of two vectors."""
    cdef Py_ssize_t lanes = kernels_of(type_index(type_num)).lanes
    return lanes, 2 * lanes
