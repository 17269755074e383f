"""Plans and packed filters for C callers."""

from pycnn._header cimport (
    pycnn_conv2d_params, pycnn_dense_params, pycnn_filters, pycnn_plan, pycnn_pool2d_params,
)


cdef enum Kind:
    CONV, CONV_RELU_POOL, MAX_POOL, AVG_POOL, DENSE


cdef int create_plan(Kind kind, int type, const void *params, pycnn_plan **plan) noexcept nogil
cdef void destroy_plan(pycnn_plan *plan) noexcept nogil
cdef int shape_of(const pycnn_plan *plan, Py_ssize_t *shape) noexcept nogil
cdef int workspace_of(const pycnn_plan *plan, size_t *n_bytes) noexcept nogil
cdef int create_filters(int type, const pycnn_plan *plan, const void *filters,
                        pycnn_filters **packed) noexcept nogil
cdef void destroy_filters(pycnn_filters *packed) noexcept nogil
cdef int run_plan(int type, const pycnn_plan *plan, const pycnn_filters *filters, const void *x,
                  const void *bias, void *out, void *workspace,
                  size_t workspace_bytes) noexcept nogil
cdef int run_once(Kind kind, int type, const void *params, const void *x, const void *filters,
                  const void *bias, void *out) noexcept nogil
