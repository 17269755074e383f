"""pycnn for Cython: every function of include/pycnn/pycnn.h, which documents them, without the GIL.

    from pycnn.capi cimport PYCNN_OK, conv2d_f32, conv2d_params, error_name, pycnn_conv2d_params

Compile with ``pycnn.get_include()`` among the include directories.
"""

from libc.string cimport memset

from pycnn._header cimport *


cdef inline pycnn_conv2d_params conv2d_params() noexcept nogil:
    """Params with a default in every member that has one."""
    cdef pycnn_conv2d_params params
    memset(&params, 0, sizeof(params))
    params.struct_size = sizeof(params)
    return params


cdef inline pycnn_pool2d_params pool2d_params() noexcept nogil:
    """Params with a default in every member that has one."""
    cdef pycnn_pool2d_params params
    memset(&params, 0, sizeof(params))
    params.struct_size = sizeof(params)
    return params


cdef inline pycnn_dense_params dense_params() noexcept nogil:
    """Params with a default in every member that has one."""
    cdef pycnn_dense_params params
    memset(&params, 0, sizeof(params))
    params.struct_size = sizeof(params)
    return params


cdef const char *error_name(int status) noexcept nogil
cdef int plan_conv2d_f32(const pycnn_conv2d_params *params, pycnn_plan **plan) noexcept nogil
cdef int plan_conv2d_f64(const pycnn_conv2d_params *params, pycnn_plan **plan) noexcept nogil
cdef int plan_conv_relu_pool_f32(const pycnn_conv2d_params *params,
                                 pycnn_plan **plan) noexcept nogil
cdef int plan_conv_relu_pool_f64(const pycnn_conv2d_params *params,
                                 pycnn_plan **plan) noexcept nogil
cdef int plan_max_pool2d_f32(const pycnn_pool2d_params *params, pycnn_plan **plan) noexcept nogil
cdef int plan_max_pool2d_f64(const pycnn_pool2d_params *params, pycnn_plan **plan) noexcept nogil
cdef int plan_avg_pool2d_f32(const pycnn_pool2d_params *params, pycnn_plan **plan) noexcept nogil
cdef int plan_avg_pool2d_f64(const pycnn_pool2d_params *params, pycnn_plan **plan) noexcept nogil
cdef int plan_dense_f32(const pycnn_dense_params *params, pycnn_plan **plan) noexcept nogil
cdef int plan_dense_f64(const pycnn_dense_params *params, pycnn_plan **plan) noexcept nogil
cdef int plan_shape(const pycnn_plan *plan, Py_ssize_t *shape) noexcept nogil
cdef int plan_workspace(const pycnn_plan *plan, size_t *n_bytes) noexcept nogil
cdef void plan_destroy(pycnn_plan *plan) noexcept nogil
cdef int pack_f32(const pycnn_plan *plan, const float *filters,
                  pycnn_filters **packed) noexcept nogil
cdef int pack_f64(const pycnn_plan *plan, const double *filters,
                  pycnn_filters **packed) noexcept nogil
cdef void filters_destroy(pycnn_filters *packed) noexcept nogil
cdef int run_f32(const pycnn_plan *plan, const pycnn_filters *filters, const float *x,
                 const float *bias, float *out, void *workspace,
                 size_t workspace_bytes) noexcept nogil
cdef int run_f64(const pycnn_plan *plan, const pycnn_filters *filters, const double *x,
                 const double *bias, double *out, void *workspace,
                 size_t workspace_bytes) noexcept nogil
cdef int conv2d_f32(const pycnn_conv2d_params *params, const float *x, const float *filters,
                    const float *bias, float *out) noexcept nogil
cdef int conv2d_f64(const pycnn_conv2d_params *params, const double *x, const double *filters,
                    const double *bias, double *out) noexcept nogil
cdef int conv_relu_pool_f32(const pycnn_conv2d_params *params, const float *x, const float *filters,
                            const float *bias, float *out) noexcept nogil
cdef int conv_relu_pool_f64(const pycnn_conv2d_params *params, const double *x,
                            const double *filters, const double *bias, double *out) noexcept nogil
cdef int max_pool2d_f32(const pycnn_pool2d_params *params, const float *x,
                        float *out) noexcept nogil
cdef int max_pool2d_f64(const pycnn_pool2d_params *params, const double *x,
                        double *out) noexcept nogil
cdef int avg_pool2d_f32(const pycnn_pool2d_params *params, const float *x,
                        float *out) noexcept nogil
cdef int avg_pool2d_f64(const pycnn_pool2d_params *params, const double *x,
                        double *out) noexcept nogil
cdef int dense_f32(const pycnn_dense_params *params, const float *x, const float *weights,
                   const float *bias, float *out) noexcept nogil
cdef int dense_f64(const pycnn_dense_params *params, const double *x, const double *weights,
                   const double *bias, double *out) noexcept nogil
cdef int relu_f32(const float *x, float *out, Py_ssize_t n) noexcept nogil
cdef int relu_f64(const double *x, double *out, Py_ssize_t n) noexcept nogil
cdef int leaky_relu_f32(const float *x, double negative_slope, float *out,
                        Py_ssize_t n) noexcept nogil
cdef int leaky_relu_f64(const double *x, double negative_slope, double *out,
                        Py_ssize_t n) noexcept nogil
