/* pycnn for C, C++ and whatever calls C: convolutional layers on plain memory.
 *
 *     const pycnn_api *pycnn = pycnn_import();              (with the GIL; NULL: a Python error)
 *     pycnn_conv2d_params params = {sizeof params};         (0 stands for a default)
 *     params.images = 1; params.height = 64; ...
 *     pycnn->plan_conv2d_f32(&params, &plan);               (once per shape)
 *     pycnn->pack_f32(plan, weights, &filters);             (once per set of filters)
 *     pycnn->run_f32(plan, filters, x, bias, out, workspace, n_bytes);     (as often as you like)
 *
 * Nothing but pycnn_import needs the GIL.  Functions return a pycnn_status.  Arrays are channels
 * last: images (images, height, width, channels), filters (filters, kernel_height, kernel_width,
 * channels / groups).  A plan or packed filters may be used by any number of threads at once.
 *
 * Within a major version things are only added, at the ends of enums and structs.
 */
#ifndef PYCNN_H
#define PYCNN_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PYCNN_API_MAJOR 1
#define PYCNN_API_MINOR 0
#define PYCNN_API_CAPSULE "pycnn.capi._C_API"

typedef enum pycnn_status {
    PYCNN_OK = 0,
    PYCNN_ERROR_NULL = 1,       /* a pointer is NULL that must not be */
    PYCNN_ERROR_STRUCT = 2,     /* struct_size is not set, or a member this version lacks is set */
    PYCNN_ERROR_SIZE = 3,       /* a number is out of range, or 0 where there must be one */
    PYCNN_ERROR_OVERFLOW = 4,   /* an array, or a padded image, is too large to address */
    PYCNN_ERROR_WINDOW = 5,     /* a window exceeds the padded image, or holds only padding */
    PYCNN_ERROR_GROUPS = 6,     /* channels or filters are not a multiple of groups */
    PYCNN_ERROR_CHOICE = 7,     /* an unknown activation, precision or pool, or not for this layer */
    PYCNN_ERROR_STRIDES = 8,    /* not multiples of the element, or outputs share memory */
    PYCNN_ERROR_ALIGNMENT = 9,  /* an array does not start at a multiple of its element's size */
    PYCNN_ERROR_OVERLAP = 10,   /* the result or the workspace shares memory with another array */
    PYCNN_ERROR_WORKSPACE = 11, /* the workspace is smaller than plan_workspace says */
    PYCNN_ERROR_HANDLE = 12,    /* not a plan, not filters, or filters that do not fit the plan */
    PYCNN_ERROR_MEMORY = 13     /* out of memory */
} pycnn_status;

typedef enum pycnn_activation_choice {
    PYCNN_ACTIVATION_DEFAULT = 0,   /* none; relu in conv_relu_pool */
    PYCNN_ACTIVATION_NONE = 1,
    PYCNN_ACTIVATION_RELU = 2,
    PYCNN_ACTIVATION_LEAKY_RELU = 3
} pycnn_activation_choice;

typedef enum pycnn_precision_choice {
    PYCNN_PRECISION_HIGHEST = 0,
    PYCNN_PRECISION_HIGH = 1,
    PYCNN_PRECISION_MEDIUM = 2
} pycnn_precision_choice;

typedef enum pycnn_pool_choice {
    PYCNN_POOL_MAX = 0,
    PYCNN_POOL_AVG = 1
} pycnn_pool_choice;

/* In all params: set struct_size to sizeof and the rest to 0 first.  0 stands for the default, if
 * there is one.  Strides are bytes from one image, row, pixel, channel to the next, and may be
 * negative, or 0 in x; four zeros stand for C order. */

typedef struct pycnn_conv2d_params {
    size_t struct_size;
    ptrdiff_t images, height, width, channels;          /* images may be 0 */
    ptrdiff_t filters, kernel_height, kernel_width;
    ptrdiff_t stride_y, stride_x;                       /* default 1 */
    ptrdiff_t pad_top, pad_bottom, pad_left, pad_right;
    ptrdiff_t dilation_y, dilation_x;                   /* default 1 */
    ptrdiff_t groups;                                   /* default 1 */
    ptrdiff_t x_strides[4], out_strides[4];
    int activation, precision;
    double negative_slope;                              /* of leaky relu, default 0.01 */
    int num_threads;            /* the most of a call; default: pycnn's when the plan is made */
    /* conv_relu_pool only. */
    int pool;
    ptrdiff_t pool_height, pool_width;                  /* default 2 */
    ptrdiff_t pool_stride_y, pool_stride_x;             /* default: the window's size */
} pycnn_conv2d_params;

typedef struct pycnn_pool2d_params {
    size_t struct_size;
    ptrdiff_t images, height, width, channels;          /* images may be 0 */
    ptrdiff_t pool_height, pool_width;                  /* default 2 */
    ptrdiff_t stride_y, stride_x;                       /* default: the window's size */
    ptrdiff_t pad_top, pad_bottom, pad_left, pad_right; /* smaller than the window */
    ptrdiff_t dilation_y, dilation_x;                   /* max only; default 1 */
    ptrdiff_t x_strides[4], out_strides[4];
    int ceil_mode;                                      /* 1: keep a last window that hangs over */
    int count_include_pad;                              /* avg only; 1: divide by padding, too */
    int num_threads;
    int reserved;                                       /* 0 */
} pycnn_pool2d_params;

typedef struct pycnn_dense_params {
    size_t struct_size;
    ptrdiff_t vectors, inputs, outputs;                 /* vectors may be 0 */
    ptrdiff_t x_stride, out_stride;     /* bytes from vector to vector; default: no gaps */
    int activation;
    int num_threads;
    double negative_slope;
} pycnn_dense_params;

typedef struct pycnn_plan pycnn_plan;
typedef struct pycnn_filters pycnn_filters;

typedef struct pycnn_api {
    size_t struct_size;
    int major, minor;

    /* The name and the meaning of a status; never NULL. */
    const char *(*error_name)(int status);

    /* A plan: params checked, everything worked out that the numbers do not decide.  `plan` is set
     * to NULL on error.  Destroy every plan; NULL is fine. */
    int (*plan_conv2d_f32)(const pycnn_conv2d_params *params, pycnn_plan **plan);
    int (*plan_conv2d_f64)(const pycnn_conv2d_params *params, pycnn_plan **plan);
    int (*plan_conv_relu_pool_f32)(const pycnn_conv2d_params *params, pycnn_plan **plan);
    int (*plan_conv_relu_pool_f64)(const pycnn_conv2d_params *params, pycnn_plan **plan);
    int (*plan_max_pool2d_f32)(const pycnn_pool2d_params *params, pycnn_plan **plan);
    int (*plan_max_pool2d_f64)(const pycnn_pool2d_params *params, pycnn_plan **plan);
    int (*plan_avg_pool2d_f32)(const pycnn_pool2d_params *params, pycnn_plan **plan);
    int (*plan_avg_pool2d_f64)(const pycnn_pool2d_params *params, pycnn_plan **plan);
    int (*plan_dense_f32)(const pycnn_dense_params *params, pycnn_plan **plan);
    int (*plan_dense_f64)(const pycnn_dense_params *params, pycnn_plan **plan);
    int (*plan_shape)(const pycnn_plan *plan, ptrdiff_t shape[4]);  /* dense: vectors, 1, 1, outputs */
    int (*plan_workspace)(const pycnn_plan *plan, size_t *n_bytes);
    void (*plan_destroy)(pycnn_plan *plan);

    /* Filters, or a dense layer's weights (inputs, outputs), copied into the layout of a plan; for
     * every plan of the same type, filter shape, groups and precision that takes that layout. */
    int (*pack_f32)(const pycnn_plan *plan, const float *filters, pycnn_filters **packed);
    int (*pack_f64)(const pycnn_plan *plan, const double *filters, pycnn_filters **packed);
    void (*filters_destroy)(pycnn_filters *packed);

    /* One call.  `filters` is NULL for a pool; `bias` may be NULL.  With a workspace of
     * plan_workspace bytes, one for each call at a time, nothing is allocated; with NULL it is
     * allocated for the call. */
    int (*run_f32)(const pycnn_plan *plan, const pycnn_filters *filters, const float *x,
                   const float *bias, float *out, void *workspace, size_t workspace_bytes);
    int (*run_f64)(const pycnn_plan *plan, const pycnn_filters *filters, const double *x,
                   const double *bias, double *out, void *workspace, size_t workspace_bytes);

    /* Plan, pack and run at once, for a shape that is met once. */
    int (*conv2d_f32)(const pycnn_conv2d_params *params, const float *x, const float *filters,
                      const float *bias, float *out);
    int (*conv2d_f64)(const pycnn_conv2d_params *params, const double *x, const double *filters,
                      const double *bias, double *out);
    int (*conv_relu_pool_f32)(const pycnn_conv2d_params *params, const float *x,
                              const float *filters, const float *bias, float *out);
    int (*conv_relu_pool_f64)(const pycnn_conv2d_params *params, const double *x,
                              const double *filters, const double *bias, double *out);
    int (*max_pool2d_f32)(const pycnn_pool2d_params *params, const float *x, float *out);
    int (*max_pool2d_f64)(const pycnn_pool2d_params *params, const double *x, double *out);
    int (*avg_pool2d_f32)(const pycnn_pool2d_params *params, const float *x, float *out);
    int (*avg_pool2d_f64)(const pycnn_pool2d_params *params, const double *x, double *out);
    int (*dense_f32)(const pycnn_dense_params *params, const float *x, const float *weights,
                     const float *bias, float *out);
    int (*dense_f64)(const pycnn_dense_params *params, const double *x, const double *weights,
                     const double *bias, double *out);

    /* n elements; out may be x itself. */
    int (*relu_f32)(const float *x, float *out, ptrdiff_t n);
    int (*relu_f64)(const double *x, double *out, ptrdiff_t n);
    int (*leaky_relu_f32)(const float *x, double negative_slope, float *out, ptrdiff_t n);
    int (*leaky_relu_f64)(const double *x, double negative_slope, double *out, ptrdiff_t n);
} pycnn_api;

#ifdef Py_PYTHON_H
/* The functions of the pycnn that is installed; NULL, with a Python exception, when there is none
 * or it lacks what this header declares. */
#if defined(__GNUC__) || defined(__clang__)
__attribute__((unused))
#endif
static const pycnn_api *pycnn_import(void)
{
    PyObject *module = PyImport_ImportModule("pycnn.capi");
    const pycnn_api *api = NULL;
    if (module != NULL) {
        api = (const pycnn_api *) PyCapsule_Import(PYCNN_API_CAPSULE, 0);
        Py_DECREF(module);
    }
    if (api != NULL && (api->major != PYCNN_API_MAJOR || api->struct_size < sizeof(pycnn_api))) {
        PyErr_Format(PyExc_ImportError, "pycnn's C API is version %d.%d; %d.%d was compiled against",
                     api->major, api->minor, PYCNN_API_MAJOR, PYCNN_API_MINOR);
        return NULL;
    }
    return api;
}
#endif

#ifdef __cplusplus
}
#endif

#endif
