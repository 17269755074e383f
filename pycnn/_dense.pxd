"""The fully connected layer, for the C API."""

from pycnn._engine cimport pycnn_kernels


cdef struct Dense:
    Py_ssize_t n, n_in, n_out
    int threads                     # the most of a call; 0: what num_threads() says then
    const pycnn_kernels *kernels
    bint alone                      # one vector: it goes through whole rows of the weights
    Py_ssize_t itemsize
    Py_ssize_t width                # n_out, or one or two whole vectors where that is more


cdef void plan_dense(Dense *d, int type) noexcept nogil
cdef Py_ssize_t wide_bytes(const Dense *d) noexcept nogil
cdef void widen(const Dense *d, const char *weights, char *wide) noexcept nogil
cdef Py_ssize_t dense_bytes(const Dense *d) noexcept nogil
cdef int run_dense(const Dense *d, const char *x, const char *weights, const char *bias,
                   int activation, double slope, char *out, char *scratch) noexcept nogil
