"""The params of C callers: every number checked as hostile input before a plan is made from it.

The rules are those of pycnn/_checks.py, in numbers that wrap instead of growing.
"""

from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.math cimport fabs
from libc.string cimport memcpy, memset

from pycnn._axis cimport Axis
from pycnn._dense cimport plan_dense
from pycnn._driver cimport free_convolution, plan_convolution
from pycnn._engine cimport (
    DONE, PYCNN_LEAKY_RELU, PYCNN_LINEAR, PYCNN_MAX_THREADS, PYCNN_RELU, PYCNN_f32, num_threads,
)
from pycnn._geometry cimport Geometry
from pycnn._header cimport *
from pycnn._layout cimport Layout, lay_out
from pycnn._pool cimport Pooling, free_pooling, plan_pooling
from pycnn._stage cimport plan_stage, stage_fits

# Params of later versions are not that much larger; more is a struct_size that was never set.
cdef size_t LARGEST_STRUCT = 4096
# Packed panels and lists of taps take up to so many times the bytes of the filters.
cdef Py_ssize_t PACKING = 128
cdef double SLOPE = 0.01


# ---- numbers ------------------------------------------------------------------------------------

cdef int read(void *known, size_t size, const void *given) noexcept nogil:
    """Copies params of any version: what theirs lacks is 0, what ours lacks must be."""
    cdef size_t given_size, i
    if given is NULL:
        return PYCNN_ERROR_NULL
    given_size = (<const size_t *> given)[0]
    if not sizeof(size_t) <= given_size <= LARGEST_STRUCT:
        return PYCNN_ERROR_STRUCT
    for i in range(size, given_size):
        if (<const char *> given)[i] != 0:
            return PYCNN_ERROR_STRUCT
    memset(known, 0, size)
    memcpy(known, given, min(size, given_size))
    return PYCNN_OK


cdef int read_axis(Axis *axis, Py_ssize_t size, Py_ssize_t kernel, Py_ssize_t stride,
                   Py_ssize_t dilation, Py_ssize_t before, Py_ssize_t after,
                   bint ceil_mode) noexcept nogil:
    """One axis of a sliding window; sets its number of outputs."""
    cdef Py_ssize_t reach, slack, out
    dilation = dilation or 1
    if size < 1 or kernel < 1 or stride < 1 or dilation < 1 or before < 0 or after < 0:
        return PYCNN_ERROR_SIZE
    if kernel - 1 > (PY_SSIZE_T_MAX - 1) // dilation:
        return PYCNN_ERROR_OVERFLOW
    if before > PY_SSIZE_T_MAX - size or after > PY_SSIZE_T_MAX - size - before:
        return PYCNN_ERROR_OVERFLOW
    reach = (kernel - 1) * dilation + 1
    slack = size + before + after - reach
    out = slack // stride + 1 if slack >= 0 else 0
    if ceil_mode:
        if slack % stride != 0 if slack >= 0 else slack > -stride:
            out += 1
        if out - 1 > (size + before - 1) // stride:     # it would start in the padding behind
            out -= 1
    if out < 1:
        return PYCNN_ERROR_WINDOW
    axis.size, axis.kernel, axis.stride, axis.dilation = size, kernel, stride, dilation
    axis.before, axis.out = before, out
    return PYCNN_OK


cdef int read_image(Layout *layout, Py_ssize_t itemsize, Py_ssize_t n, Py_ssize_t height,
                    Py_ssize_t width, Py_ssize_t channels, const Py_ssize_t *strides,
                    bint distinct) noexcept nogil:
    if n < 0 or height < 1 or width < 1 or channels < 1:
        return PYCNN_ERROR_SIZE
    layout.shape[0], layout.shape[1], layout.shape[2], layout.shape[3] = (
        max(n, 1), height, width, channels)
    layout.itemsize = itemsize
    return lay_out(layout, strides, distinct)


cdef int read_activation(Layer *layer, int choice, double slope, bint relu) noexcept nogil:
    if choice == PYCNN_ACTIVATION_DEFAULT:
        choice = PYCNN_ACTIVATION_RELU if relu else PYCNN_ACTIVATION_NONE
    if choice == PYCNN_ACTIVATION_NONE:
        layer.activation = PYCNN_LINEAR
    elif choice == PYCNN_ACTIVATION_RELU:
        layer.activation = PYCNN_RELU
    elif choice == PYCNN_ACTIVATION_LEAKY_RELU:
        layer.activation = PYCNN_LEAKY_RELU
    else:
        return PYCNN_ERROR_CHOICE
    layer.slope = slope or SLOPE
    if not fabs(layer.slope) <= (3.4028234663852886e38 if layer.type == PYCNN_f32
                                 else 1.7976931348623157e308):
        return PYCNN_ERROR_SIZE
    return PYCNN_OK


cdef int read_threads(int *threads, int given) noexcept nogil:
    if given < 0:
        return PYCNN_ERROR_SIZE
    threads[0] = min(given or num_threads(), <int> PYCNN_MAX_THREADS)
    return PYCNN_OK


cdef inline int status_of(int outcome) noexcept nogil:
    return PYCNN_OK if outcome == DONE else PYCNN_ERROR_MEMORY


cdef inline Py_ssize_t itemsize_of(const Layer *layer) noexcept nogil:
    return 4 if layer.type == PYCNN_f32 else 8


cdef bint product_fits(Py_ssize_t a, Py_ssize_t b, Py_ssize_t c, Py_ssize_t d) noexcept nogil:
    """Whether a product of numbers of at least 1 can be bytes, panels and taps of filters."""
    cdef Py_ssize_t limit = PY_SSIZE_T_MAX // PACKING
    return a <= limit // b and a * b <= limit // c and a * b * c <= limit // d


# ---- convolution --------------------------------------------------------------------------------

cdef int read_conv2d(Layer *layer, const pycnn_conv2d_params *params, bint pooled) noexcept nogil:
    """Params as a layer that `free_layer` frees, also after an error; its `type` is set."""
    cdef pycnn_conv2d_params p
    cdef Geometry *g = &layer.conv.geometry
    cdef Py_ssize_t groups
    cdef int status = read(&p, sizeof(p), params), threads = 0
    if status == PYCNN_OK:
        status = read_threads(&threads, p.num_threads)
    if status == PYCNN_OK:
        status = read_activation(layer, p.activation, p.negative_slope, pooled)
    if status == PYCNN_OK:
        status = read_image(&layer.x, itemsize_of(layer), p.images, p.height, p.width, p.channels,
                            p.x_strides, False)
    if status == PYCNN_OK:
        status = read_axis(&g.y, p.height, p.kernel_height, p.stride_y or 1, p.dilation_y,
                           p.pad_top, p.pad_bottom, False)
    if status == PYCNN_OK:
        status = read_axis(&g.x, p.width, p.kernel_width, p.stride_x or 1, p.dilation_x,
                           p.pad_left, p.pad_right, False)
    if status != PYCNN_OK:
        return status
    groups = p.groups or 1
    if p.filters < 1 or groups < 1:
        return PYCNN_ERROR_SIZE
    if p.channels % groups != 0 or p.filters % groups != 0:
        return PYCNN_ERROR_GROUPS
    if not 0 <= p.precision <= PYCNN_PRECISION_MEDIUM:
        return PYCNN_ERROR_CHOICE
    if not product_fits(p.filters, p.kernel_height, p.kernel_width,
                        p.channels // groups * layer.x.itemsize):
        return PYCNN_ERROR_OVERFLOW
    # The maps, which a pool may need in full.
    status = read_image(&layer.out, layer.x.itemsize, p.images, g.y.out, g.x.out, p.filters,
                        NULL, True)
    if status != PYCNN_OK:
        return status
    g.n, g.ic, g.oc, g.groups = layer.x.shape[0], p.channels, p.filters, groups
    layer.empty = p.images == 0
    layer.has_conv = True
    status = status_of(plan_convolution(&layer.conv, layer.type, 3 - p.precision))
    if status != PYCNN_OK:
        return status
    layer.conv.plan.threads = layer.conv.direct_plan.threads = threads
    if pooled:
        return read_stage(layer, &p, threads)
    if p.pool or p.pool_height or p.pool_width or p.pool_stride_y or p.pool_stride_x:
        return PYCNN_ERROR_CHOICE
    return read_image(&layer.out, layer.x.itemsize, p.images, g.y.out, g.x.out, p.filters,
                      p.out_strides, True)


cdef int read_stage(Layer *layer, const pycnn_conv2d_params *p, int threads) noexcept nogil:
    """The pool behind a planned convolution: fused where that pays, else over all of its maps."""
    cdef const Geometry *g = &layer.conv.geometry
    cdef Pooling *pool = &layer.pool
    cdef Py_ssize_t height = p.pool_height or 2, width = p.pool_width or 2
    cdef int status
    if not 0 <= p.pool <= PYCNN_POOL_AVG:
        return PYCNN_ERROR_CHOICE
    status = read_axis(&pool.y, g.y.out, height, p.pool_stride_y or height, 1, 0, 0, False)
    if status == PYCNN_OK:
        status = read_axis(&pool.x, g.x.out, width, p.pool_stride_x or width, 1, 0, 0, False)
    if status == PYCNN_OK:
        status = read_image(&layer.out, g.itemsize, p.images, pool.y.out, pool.x.out, g.oc,
                            p.out_strides, True)
    if status != PYCNN_OK:
        return status
    set_windows(layer, pool)
    layer.direct_stage.y, layer.direct_stage.x = layer.stage.y, layer.stage.x
    layer.has_stage = True
    if layer.conv.plan.direct is not NULL:
        status = status_of(plan_stage(&layer.direct_stage, layer.conv.plan.direct, NULL,
                                      p.pool == PYCNN_POOL_AVG))
    if status == PYCNN_OK:
        status = status_of(plan_stage(
            &layer.stage, &layer.conv.plan,
            NULL if layer.conv.plan.direct is NULL else &layer.direct_stage.plan,
            p.pool == PYCNN_POOL_AVG))
    if status != PYCNN_OK or stage_fits(&layer.stage):
        return status
    free_stages(layer)
    return plan_pool(layer, g.n, g.oc, p.pool == PYCNN_POOL_AVG, threads)


cdef void set_windows(Layer *layer, const Pooling *pool) noexcept nogil:
    layer.stage.y.kernel, layer.stage.x.kernel = pool.y.kernel, pool.x.kernel
    layer.stage.y.stride, layer.stage.x.stride = pool.y.stride, pool.x.stride
    layer.stage.y.out, layer.stage.x.out = pool.y.out, pool.x.out


# ---- pool ---------------------------------------------------------------------------------------

cdef int plan_pool(Layer *layer, Py_ssize_t n, Py_ssize_t channels, bint mean,
                   int threads) noexcept nogil:
    """Completes a pool with both axes."""
    cdef Pooling *g = &layer.pool
    g.n, g.channels, g.mean, g.threads = n, channels, mean, threads
    g.itemsize = itemsize_of(layer)
    layer.has_pool = True
    return status_of(plan_pooling(g, layer.type, g.x.out))


cdef int read_pool2d(Layer *layer, const pycnn_pool2d_params *params, bint mean) noexcept nogil:
    """As `read_conv2d`."""
    cdef pycnn_pool2d_params p
    cdef Pooling *g = &layer.pool
    cdef Py_ssize_t height, width
    cdef int status = read(&p, sizeof(p), params), threads = 0
    if status != PYCNN_OK:
        return status
    height, width = p.pool_height or 2, p.pool_width or 2
    if p.reserved != 0:
        return PYCNN_ERROR_STRUCT
    if not 0 <= p.ceil_mode <= 1 or not 0 <= p.count_include_pad <= mean:
        return PYCNN_ERROR_CHOICE
    if mean and (p.dilation_y > 1 or p.dilation_x > 1):
        return PYCNN_ERROR_CHOICE
    status = read_threads(&threads, p.num_threads)
    if status == PYCNN_OK:
        status = read_image(&layer.x, itemsize_of(layer), p.images, p.height, p.width, p.channels,
                            p.x_strides, False)
    if status == PYCNN_OK:
        status = read_axis(&g.y, p.height, height, p.stride_y or height, p.dilation_y, p.pad_top,
                           p.pad_bottom, p.ceil_mode)
    if status == PYCNN_OK:
        status = read_axis(&g.x, p.width, width, p.stride_x or width, p.dilation_x, p.pad_left,
                           p.pad_right, p.ceil_mode)
    if status == PYCNN_OK:
        status = read_image(&layer.out, layer.x.itemsize, p.images, g.y.out, g.x.out, p.channels,
                            p.out_strides, True)
    if status != PYCNN_OK:
        return status
    if not (pads_within_window(&g.y, p.pad_bottom) and pads_within_window(&g.x, p.pad_right)):
        return PYCNN_ERROR_WINDOW
    g.count_padding = p.count_include_pad
    g.y_end, g.x_end = g.y.size + p.pad_bottom, g.x.size + p.pad_right
    layer.empty = p.images == 0
    status = plan_pool(layer, layer.x.shape[0], p.channels, mean, threads)
    if status == PYCNN_OK and not (windows_hold_pixels(&g.y) and windows_hold_pixels(&g.x)):
        return PYCNN_ERROR_WINDOW
    return status


cdef bint pads_within_window(const Axis *axis, Py_ssize_t after) noexcept nogil:
    cdef Py_ssize_t reach = (axis.kernel - 1) * axis.dilation
    return axis.before <= reach and after <= reach


cdef bint windows_hold_pixels(const Axis *axis) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(axis.n_spans):
        if axis.spans[i].tap_last == 0:
            return False
    return True


# ---- dense --------------------------------------------------------------------------------------

cdef int read_dense(Layer *layer, const pycnn_dense_params *params) noexcept nogil:
    """As `read_conv2d`."""
    cdef pycnn_dense_params p
    cdef Dense *d = &layer.dense
    cdef int status = read(&p, sizeof(p), params)
    if status == PYCNN_OK:
        status = read_threads(&d.threads, p.num_threads)
    if status == PYCNN_OK:
        status = read_activation(layer, p.activation, p.negative_slope, False)
    if status == PYCNN_OK:
        status = read_vectors(&layer.x, itemsize_of(layer), p.vectors, p.inputs, p.x_stride, False)
    if status == PYCNN_OK:
        status = read_vectors(&layer.out, layer.x.itemsize, p.vectors, p.outputs, p.out_stride,
                              True)
    if status != PYCNN_OK:
        return status
    if not product_fits(p.inputs, p.outputs, layer.x.itemsize, 1):
        return PYCNN_ERROR_OVERFLOW
    d.n, d.n_in, d.n_out = layer.x.shape[0], p.inputs, p.outputs
    layer.empty = p.vectors == 0
    layer.has_dense = True
    plan_dense(d, layer.type)
    return PYCNN_OK


cdef int read_vectors(Layout *layout, Py_ssize_t itemsize, Py_ssize_t n, Py_ssize_t length,
                      Py_ssize_t stride, bint distinct) noexcept nogil:
    cdef Py_ssize_t strides[4]
    strides[0] = strides[1] = strides[2] = stride
    strides[3] = itemsize if stride != 0 else 0
    return read_image(layout, itemsize, n, 1, 1, length, strides, distinct)


# ---- the end ------------------------------------------------------------------------------------

cdef void free_stages(Layer *layer) noexcept nogil:
    free_pooling(&layer.stage.pool)
    free_pooling(&layer.direct_stage.pool)
    layer.has_stage = False


cdef void free_layer(Layer *layer) noexcept nogil:
    free_stages(layer)
    free_convolution(&layer.conv)
    free_pooling(&layer.pool)
