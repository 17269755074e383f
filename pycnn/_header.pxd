"""What include/pycnn/pycnn.h declares."""

cdef extern from "pycnn/pycnn.h" nogil:
    enum:
        PYCNN_API_MAJOR
        PYCNN_API_MINOR

    const char *PYCNN_API_CAPSULE

    enum:
        PYCNN_OK
        PYCNN_ERROR_NULL
        PYCNN_ERROR_STRUCT
        PYCNN_ERROR_SIZE
        PYCNN_ERROR_OVERFLOW
        PYCNN_ERROR_WINDOW
        PYCNN_ERROR_GROUPS
        PYCNN_ERROR_CHOICE
        PYCNN_ERROR_STRIDES
        PYCNN_ERROR_ALIGNMENT
        PYCNN_ERROR_OVERLAP
        PYCNN_ERROR_WORKSPACE
        PYCNN_ERROR_HANDLE
        PYCNN_ERROR_MEMORY

    enum:
        PYCNN_ACTIVATION_DEFAULT
        PYCNN_ACTIVATION_NONE
        PYCNN_ACTIVATION_RELU
        PYCNN_ACTIVATION_LEAKY_RELU

    enum:
        PYCNN_PRECISION_HIGHEST
        PYCNN_PRECISION_HIGH
        PYCNN_PRECISION_MEDIUM

    enum:
        PYCNN_POOL_MAX
        PYCNN_POOL_AVG

    ctypedef struct pycnn_conv2d_params:
        size_t struct_size
        Py_ssize_t images, height, width, channels
        Py_ssize_t filters, kernel_height, kernel_width
        Py_ssize_t stride_y, stride_x
        Py_ssize_t pad_top, pad_bottom, pad_left, pad_right
        Py_ssize_t dilation_y, dilation_x
        Py_ssize_t groups
        Py_ssize_t x_strides[4]
        Py_ssize_t out_strides[4]
        int activation, precision
        double negative_slope
        int num_threads
        int pool
        Py_ssize_t pool_height, pool_width
        Py_ssize_t pool_stride_y, pool_stride_x

    ctypedef struct pycnn_pool2d_params:
        size_t struct_size
        Py_ssize_t images, height, width, channels
        Py_ssize_t pool_height, pool_width
        Py_ssize_t stride_y, stride_x
        Py_ssize_t pad_top, pad_bottom, pad_left, pad_right
        Py_ssize_t dilation_y, dilation_x
        Py_ssize_t x_strides[4]
        Py_ssize_t out_strides[4]
        int ceil_mode, count_include_pad, num_threads, reserved

    ctypedef struct pycnn_dense_params:
        size_t struct_size
        Py_ssize_t vectors, inputs, outputs
        Py_ssize_t x_stride, out_stride
        int activation, num_threads
        double negative_slope

    ctypedef struct pycnn_plan
    ctypedef struct pycnn_filters
