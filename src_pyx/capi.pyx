"""The C API: typed functions for cimport, and the same ones in a table behind a capsule.

Here are types and names alone; `_handles` has the functions' bodies. Add at the end of the table,
change nothing before: tests/test_capi.py holds it to the header and to older copies of it.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport isfinite
from libc.stdint cimport uintptr_t

cdef extern from *:
    """
    static const char *const status_names[] = {
        "PYCNN_OK",
        "PYCNN_ERROR_NULL: a pointer is NULL that must not be",
        "PYCNN_ERROR_STRUCT: struct_size is not set, or a member this version lacks is set",
        "PYCNN_ERROR_SIZE: a number is out of range, or 0 where there must be one",
        "PYCNN_ERROR_OVERFLOW: an array, or a padded image, is too large to address",
        "PYCNN_ERROR_WINDOW: a window exceeds the padded image, or holds only padding",
        "PYCNN_ERROR_GROUPS: channels or filters are not a multiple of groups",
        "PYCNN_ERROR_CHOICE: an unknown activation, precision or pool, or not for this layer",
        "PYCNN_ERROR_STRIDES: not multiples of the element, or outputs share memory",
        "PYCNN_ERROR_ALIGNMENT: an array does not start at a multiple of its element's size",
        "PYCNN_ERROR_OVERLAP: the result or the workspace shares memory with another array",
        "PYCNN_ERROR_WORKSPACE: the workspace is smaller than plan_workspace says",
        "PYCNN_ERROR_HANDLE: not a plan, not filters, or filters that do not fit the plan",
        "PYCNN_ERROR_MEMORY: out of memory",
        "unknown status",
    };
    """
    const char *status_names[]
    Py_ssize_t PTRDIFF_MAX

cdef extern from "pycnn/pycnn.h":
    ctypedef struct pycnn_api:
        size_t struct_size
        int major, minor
        const char *(*error_name)(int) noexcept nogil
        int (*plan_conv2d_f32)(const pycnn_conv2d_params *, pycnn_plan **) noexcept nogil
        int (*plan_conv2d_f64)(const pycnn_conv2d_params *, pycnn_plan **) noexcept nogil
        int (*plan_conv_relu_pool_f32)(const pycnn_conv2d_params *, pycnn_plan **) noexcept nogil
        int (*plan_conv_relu_pool_f64)(const pycnn_conv2d_params *, pycnn_plan **) noexcept nogil
        int (*plan_max_pool2d_f32)(const pycnn_pool2d_params *, pycnn_plan **) noexcept nogil
        int (*plan_max_pool2d_f64)(const pycnn_pool2d_params *, pycnn_plan **) noexcept nogil
        int (*plan_avg_pool2d_f32)(const pycnn_pool2d_params *, pycnn_plan **) noexcept nogil
        int (*plan_avg_pool2d_f64)(const pycnn_pool2d_params *, pycnn_plan **) noexcept nogil
        int (*plan_dense_f32)(const pycnn_dense_params *, pycnn_plan **) noexcept nogil
        int (*plan_dense_f64)(const pycnn_dense_params *, pycnn_plan **) noexcept nogil
        int (*plan_shape)(const pycnn_plan *, Py_ssize_t *) noexcept nogil
        int (*plan_workspace)(const pycnn_plan *, size_t *) noexcept nogil
        void (*plan_destroy)(pycnn_plan *) noexcept nogil
        int (*pack_f32)(const pycnn_plan *, const float *, pycnn_filters **) noexcept nogil
        int (*pack_f64)(const pycnn_plan *, const double *, pycnn_filters **) noexcept nogil
        void (*filters_destroy)(pycnn_filters *) noexcept nogil
        int (*run_f32)(const pycnn_plan *, const pycnn_filters *, const float *, const float *,
                       float *, void *, size_t) noexcept nogil
        int (*run_f64)(const pycnn_plan *, const pycnn_filters *, const double *, const double *,
                       double *, void *, size_t) noexcept nogil
        int (*conv2d_f32)(const pycnn_conv2d_params *, const float *, const float *, const float *,
                          float *) noexcept nogil
        int (*conv2d_f64)(const pycnn_conv2d_params *, const double *, const double *,
                          const double *, double *) noexcept nogil
        int (*conv_relu_pool_f32)(const pycnn_conv2d_params *, const float *, const float *,
                                  const float *, float *) noexcept nogil
        int (*conv_relu_pool_f64)(const pycnn_conv2d_params *, const double *, const double *,
                                  const double *, double *) noexcept nogil
        int (*max_pool2d_f32)(const pycnn_pool2d_params *, const float *, float *) noexcept nogil
        int (*max_pool2d_f64)(const pycnn_pool2d_params *, const double *, double *) noexcept nogil
        int (*avg_pool2d_f32)(const pycnn_pool2d_params *, const float *, float *) noexcept nogil
        int (*avg_pool2d_f64)(const pycnn_pool2d_params *, const double *, double *) noexcept nogil
        int (*dense_f32)(const pycnn_dense_params *, const float *, const float *, const float *,
                         float *) noexcept nogil
        int (*dense_f64)(const pycnn_dense_params *, const double *, const double *, const double *,
                         double *) noexcept nogil
        int (*relu_f32)(const float *, float *, Py_ssize_t) noexcept nogil
        int (*relu_f64)(const double *, double *, Py_ssize_t) noexcept nogil
        int (*leaky_relu_f32)(const float *, double, float *, Py_ssize_t) noexcept nogil
        int (*leaky_relu_f64)(const double *, double, double *, Py_ssize_t) noexcept nogil

from pycnn._activation cimport rectify
from pycnn._engine cimport PYCNN_f32, PYCNN_f64
from pycnn._handles cimport (
    AVG_POOL, CONV, CONV_RELU_POOL, DENSE, MAX_POOL, create_filters, create_plan, destroy_filters,
    destroy_plan, run_once, run_plan, shape_of, workspace_of,
)


cdef const char *error_name(int status) noexcept nogil:
    cdef int unknown = PYCNN_ERROR_MEMORY + 1
    return status_names[status if 0 <= status < unknown else unknown]


# ---- plans and filters --------------------------------------------------------------------------

cdef int plan_conv2d_f32(const pycnn_conv2d_params *params, pycnn_plan **plan) noexcept nogil:
    return create_plan(CONV, PYCNN_f32, params, plan)


cdef int plan_conv2d_f64(const pycnn_conv2d_params *params, pycnn_plan **plan) noexcept nogil:
    return create_plan(CONV, PYCNN_f64, params, plan)


cdef int plan_conv_relu_pool_f32(const pycnn_conv2d_params *params,
                                 pycnn_plan **plan) noexcept nogil:
    return create_plan(CONV_RELU_POOL, PYCNN_f32, params, plan)


cdef int plan_conv_relu_pool_f64(const pycnn_conv2d_params *params,
                                 pycnn_plan **plan) noexcept nogil:
    return create_plan(CONV_RELU_POOL, PYCNN_f64, params, plan)


cdef int plan_max_pool2d_f32(const pycnn_pool2d_params *params, pycnn_plan **plan) noexcept nogil:
    return create_plan(MAX_POOL, PYCNN_f32, params, plan)


cdef int plan_max_pool2d_f64(const pycnn_pool2d_params *params, pycnn_plan **plan) noexcept nogil:
    return create_plan(MAX_POOL, PYCNN_f64, params, plan)


cdef int plan_avg_pool2d_f32(const pycnn_pool2d_params *params, pycnn_plan **plan) noexcept nogil:
    return create_plan(AVG_POOL, PYCNN_f32, params, plan)


cdef int plan_avg_pool2d_f64(const pycnn_pool2d_params *params, pycnn_plan **plan) noexcept nogil:
    return create_plan(AVG_POOL, PYCNN_f64, params, plan)


cdef int plan_dense_f32(const pycnn_dense_params *params, pycnn_plan **plan) noexcept nogil:
    return create_plan(DENSE, PYCNN_f32, params, plan)


cdef int plan_dense_f64(const pycnn_dense_params *params, pycnn_plan **plan) noexcept nogil:
    return create_plan(DENSE, PYCNN_f64, params, plan)


cdef int plan_shape(const pycnn_plan *plan, Py_ssize_t *shape) noexcept nogil:
    return shape_of(plan, shape)


cdef int plan_workspace(const pycnn_plan *plan, size_t *n_bytes) noexcept nogil:
    return workspace_of(plan, n_bytes)


cdef void plan_destroy(pycnn_plan *plan) noexcept nogil:
    destroy_plan(plan)


cdef int pack_f32(const pycnn_plan *plan, const float *filters,
                  pycnn_filters **packed) noexcept nogil:
    return create_filters(PYCNN_f32, plan, filters, packed)


cdef int pack_f64(const pycnn_plan *plan, const double *filters,
                  pycnn_filters **packed) noexcept nogil:
    return create_filters(PYCNN_f64, plan, filters, packed)


cdef void filters_destroy(pycnn_filters *packed) noexcept nogil:
    destroy_filters(packed)


# ---- calls --------------------------------------------------------------------------------------

cdef int run_f32(const pycnn_plan *plan, const pycnn_filters *filters, const float *x,
                 const float *bias, float *out, void *workspace,
                 size_t workspace_bytes) noexcept nogil:
    return run_plan(PYCNN_f32, plan, filters, x, bias, out, workspace, workspace_bytes)


cdef int run_f64(const pycnn_plan *plan, const pycnn_filters *filters, const double *x,
                 const double *bias, double *out, void *workspace,
                 size_t workspace_bytes) noexcept nogil:
    return run_plan(PYCNN_f64, plan, filters, x, bias, out, workspace, workspace_bytes)


cdef int conv2d_f32(const pycnn_conv2d_params *params, const float *x, const float *filters,
                    const float *bias, float *out) noexcept nogil:
    return run_once(CONV, PYCNN_f32, params, x, filters, bias, out)


cdef int conv2d_f64(const pycnn_conv2d_params *params, const double *x, const double *filters,
                    const double *bias, double *out) noexcept nogil:
    return run_once(CONV, PYCNN_f64, params, x, filters, bias, out)


cdef int conv_relu_pool_f32(const pycnn_conv2d_params *params, const float *x, const float *filters,
                            const float *bias, float *out) noexcept nogil:
    return run_once(CONV_RELU_POOL, PYCNN_f32, params, x, filters, bias, out)


cdef int conv_relu_pool_f64(const pycnn_conv2d_params *params, const double *x,
                            const double *filters, const double *bias, double *out) noexcept nogil:
    return run_once(CONV_RELU_POOL, PYCNN_f64, params, x, filters, bias, out)


cdef int max_pool2d_f32(const pycnn_pool2d_params *params, const float *x,
                        float *out) noexcept nogil:
    return run_once(MAX_POOL, PYCNN_f32, params, x, NULL, NULL, out)


cdef int max_pool2d_f64(const pycnn_pool2d_params *params, const double *x,
                        double *out) noexcept nogil:
    return run_once(MAX_POOL, PYCNN_f64, params, x, NULL, NULL, out)


cdef int avg_pool2d_f32(const pycnn_pool2d_params *params, const float *x,
                        float *out) noexcept nogil:
    return run_once(AVG_POOL, PYCNN_f32, params, x, NULL, NULL, out)


cdef int avg_pool2d_f64(const pycnn_pool2d_params *params, const double *x,
                        double *out) noexcept nogil:
    return run_once(AVG_POOL, PYCNN_f64, params, x, NULL, NULL, out)


cdef int dense_f32(const pycnn_dense_params *params, const float *x, const float *weights,
                   const float *bias, float *out) noexcept nogil:
    return run_once(DENSE, PYCNN_f32, params, x, weights, bias, out)


cdef int dense_f64(const pycnn_dense_params *params, const double *x, const double *weights,
                   const double *bias, double *out) noexcept nogil:
    return run_once(DENSE, PYCNN_f64, params, x, weights, bias, out)


# ---- activations --------------------------------------------------------------------------------

cdef int activate(int type, const void *x, const double *slope, void *out,
                  Py_ssize_t n) noexcept nogil:
    """leaky_relu with a slope, relu with NULL; `out` is `x`, or apart from it."""
    cdef Py_ssize_t itemsize = 4 if type == PYCNN_f32 else 8
    cdef uintptr_t first = <uintptr_t> x, second = <uintptr_t> out
    if n < 0 or n > PTRDIFF_MAX // itemsize:
        return PYCNN_ERROR_SIZE
    if n == 0:
        return PYCNN_OK
    if x is NULL or out is NULL:
        return PYCNN_ERROR_NULL
    if (first | second) & <size_t> (itemsize - 1) != 0:
        return PYCNN_ERROR_ALIGNMENT
    if first != second and max(first, second) - min(first, second) < <size_t> (n * itemsize):
        return PYCNN_ERROR_OVERLAP
    if slope is not NULL and not isfinite(<float> slope[0] if type == PYCNN_f32 else slope[0]):
        return PYCNN_ERROR_SIZE
    rectify(type, itemsize, <const char *> x, slope, <char *> out, n)
    return PYCNN_OK


cdef int relu_f32(const float *x, float *out, Py_ssize_t n) noexcept nogil:
    return activate(PYCNN_f32, x, NULL, out, n)


cdef int relu_f64(const double *x, double *out, Py_ssize_t n) noexcept nogil:
    return activate(PYCNN_f64, x, NULL, out, n)


cdef int leaky_relu_f32(const float *x, double negative_slope, float *out,
                        Py_ssize_t n) noexcept nogil:
    return activate(PYCNN_f32, x, &negative_slope, out, n)


cdef int leaky_relu_f64(const double *x, double negative_slope, double *out,
                        Py_ssize_t n) noexcept nogil:
    return activate(PYCNN_f64, x, &negative_slope, out, n)


# ---- the capsule --------------------------------------------------------------------------------

cdef pycnn_api table
table.struct_size = sizeof(table)
table.major = PYCNN_API_MAJOR
table.minor = PYCNN_API_MINOR
table.error_name = error_name
table.plan_conv2d_f32 = plan_conv2d_f32
table.plan_conv2d_f64 = plan_conv2d_f64
table.plan_conv_relu_pool_f32 = plan_conv_relu_pool_f32
table.plan_conv_relu_pool_f64 = plan_conv_relu_pool_f64
table.plan_max_pool2d_f32 = plan_max_pool2d_f32
table.plan_max_pool2d_f64 = plan_max_pool2d_f64
table.plan_avg_pool2d_f32 = plan_avg_pool2d_f32
table.plan_avg_pool2d_f64 = plan_avg_pool2d_f64
table.plan_dense_f32 = plan_dense_f32
table.plan_dense_f64 = plan_dense_f64
table.plan_shape = plan_shape
table.plan_workspace = plan_workspace
table.plan_destroy = plan_destroy
table.pack_f32 = pack_f32
table.pack_f64 = pack_f64
table.filters_destroy = filters_destroy
table.run_f32 = run_f32
table.run_f64 = run_f64
table.conv2d_f32 = conv2d_f32
table.conv2d_f64 = conv2d_f64
table.conv_relu_pool_f32 = conv_relu_pool_f32
table.conv_relu_pool_f64 = conv_relu_pool_f64
table.max_pool2d_f32 = max_pool2d_f32
table.max_pool2d_f64 = max_pool2d_f64
table.avg_pool2d_f32 = avg_pool2d_f32
table.avg_pool2d_f64 = avg_pool2d_f64
table.dense_f32 = dense_f32
table.dense_f64 = dense_f64
table.relu_f32 = relu_f32
table.relu_f64 = relu_f64
table.leaky_relu_f32 = leaky_relu_f32
table.leaky_relu_f64 = leaky_relu_f64

_C_API = PyCapsule_New(&table, PYCNN_API_CAPSULE, NULL)
