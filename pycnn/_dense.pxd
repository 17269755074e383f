"""The fully connected layer, for the C API."""

from pycnn._engine cimport pycnn_kernels


cdef enum Way:
    TILES           # of `direct`
    BATCH           # through a few rows of the weights at a time
    MULTIPLY        # one vector, through whole rows of the weights
    DOTS            # few outputs, whose packed weights are a row each
    COLUMNS         # likewise, one vector and the weights as they came


cdef struct Dense:
    Py_ssize_t n, n_in, n_out
    int threads                     # the most of a call; 0: what num_threads() says then
    const pycnn_kernels *kernels
    Py_ssize_t itemsize
    Way way
    Py_ssize_t width                # n_out; tiles, multiply: or one or two whole vectors, if more


cdef void plan_dense(Dense *d, int type) noexcept nogil
cdef void use_once(Dense *d) noexcept nogil
cdef int pack_weights(const Dense *d, const char **weights, char **packed) noexcept nogil
cdef Py_ssize_t dense_bytes(const Dense *d) noexcept nogil
cdef int run_dense(const Dense *d, const char *x, const char *weights, const char *bias,
                   int activation, double slope, char *out, char *scratch) noexcept nogil
