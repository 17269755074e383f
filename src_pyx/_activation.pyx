"""Element-wise activations over contiguous arrays."""

cimport numpy as cnp
from libc.stdint cimport uintptr_t

from pycnn._arrays cimport carray
from pycnn._engine cimport kernels_of, parallel, pycnn_kernels, type_index, workers_to_read

cnp.import_array()

# Results this large have left the caches before anyone reads them. Stores past the caches spare
# them, and the memory the reading of what is overwritten. Smaller ones are read back sooner than
# that gains; and what an input is overwritten with is in the caches, since it was just read.
cdef Py_ssize_t STREAM_BYTES = 16 * 1024 * 1024


cdef struct Job:
    const pycnn_kernels *kernels
    const char *x
    char *out
    const double *slope             # of leaky_relu; NULL: relu
    Py_ssize_t itemsize
    Py_ssize_t n                    # elements
    Py_ssize_t part, before         # elements of a task; those before the first one's out
    bint stream


cdef void rectify_task(void *context, Py_ssize_t task, int worker) noexcept nogil:
    cdef Job *job = <Job *> context
    cdef Py_ssize_t first = max(0, task * job.part - job.before)
    cdef Py_ssize_t last = min(job.n, (task + 1) * job.part - job.before)
    cdef const char *x = job.x + first * job.itemsize
    cdef char *out = job.out + first * job.itemsize
    if job.slope is NULL:
        job.kernels.relu(x, out, last - first, job.stream)
    else:
        job.kernels.leaky_relu(x, job.slope[0], out, last - first, job.stream)


cdef void rectify(int type, Py_ssize_t itemsize, const char *x, const double *slope, char *out,
                  Py_ssize_t n) noexcept nogil:
    """leaky_relu with a slope, relu with NULL, of `n` elements; `out` is `x`, or apart from it.

    Tasks are cut where a cache line of `out` ends, so no two threads write to one.
    """
    cdef int workers = workers_to_read(<double> n * itemsize, 0)
    cdef Job job
    job.kernels = kernels_of(type)
    job.x, job.out, job.slope = x, out, slope
    job.itemsize, job.n = itemsize, n
    job.stream = n >= STREAM_BYTES // itemsize and x != out
    job.part, job.before = max(n, 1), 0
    if workers > 1:
        # Some tasks a thread even out the load. A cache line has at most 64 elements.
        job.part = (n // (4 * workers) + 64) & ~<Py_ssize_t> 63
        job.before = <Py_ssize_t> (<uintptr_t> out & 63) // itemsize
    parallel((n + job.before - 1) // job.part + 1, rectify_task, &job, workers)


cdef int call(x, const double *slope, out) except -1:
    cdef int type_num = cnp.PyArray_TYPE(out)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(out), itemsize = cnp.PyArray_ITEMSIZE(out)
    cdef char *out_data = cnp.PyArray_BYTES(out)
    cdef const char *x_data
    x = carray(x, type_num, n)
    x_data = cnp.PyArray_BYTES(x)
    with nogil:
        rectify(type_index(type_num), itemsize, x_data, slope, out_data, n)
    return 0


def relu(x, out):
    """out = x where x > 0 or x is NaN, else 0.

    `out` has C order and a dtype with kernels; `x` as many elements, in the same memory or none of
    it.
    """
    call(x, NULL, out)


def leaky_relu(x, double slope, out):
    """out = x where x > 0 or x is NaN, else slope * x; as `relu`, in float32 or float64."""
    call(x, &slope, out)
