"""The pooling loops, for the fused stage and the C API."""

from pycnn._axis cimport Axis
from pycnn._engine cimport pycnn_kernels


cdef struct Pooling:
    Axis y, x
    Py_ssize_t n, channels
    bint mean
    # Mean only: an axis' windows count the padding, which ends at y_end and x_end.
    bint count_padding
    Py_ssize_t y_end, x_end
    const pycnn_kernels *kernels
    Py_ssize_t itemsize
    int threads                             # the most of a call; 0: what num_threads() says then
    # How: see choose().
    bint fold, two_passes, spread
    Py_ssize_t block                        # output columns of one step
    Py_ssize_t line_bytes, spread_bytes     # the parts of the scratch


cdef class PoolPlan:
    cdef Pooling pooling
    cdef int type_num


cdef int plan_pooling(Pooling *g, int type, Py_ssize_t all_columns) noexcept nogil
cdef void free_pooling(Pooling *g) noexcept nogil
cdef Py_ssize_t pooling_bytes(const Pooling *g) noexcept nogil
cdef int run_pooling(const Pooling *g, const char *x, char *out, char *scratch) noexcept nogil
cdef Py_ssize_t pool_scratch_bytes(const Pooling *g) noexcept nogil
cdef void pool_channels(const Pooling *g, const char *image, Py_ssize_t first, Py_ssize_t last,
                        char *out, Py_ssize_t out_row) noexcept nogil
cdef void pool_rows(
    const Pooling *g, const char *image, Py_ssize_t row0, Py_ssize_t first, Py_ssize_t last,
    char *out, char *scratch,
) noexcept nogil
