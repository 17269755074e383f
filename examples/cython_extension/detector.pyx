"""A sliding-window detector: its loop over windows calls pycnn's layers without the GIL.

Each window goes through convolution, ReLU and pooling, then through a dense layer that gives its
score. Windows are read from the image in place: a plan knows the strides of its input.
"""

from cython.view cimport array
from pycnn.capi cimport (
    PYCNN_OK, conv2d_params, dense_params, error_name, filters_destroy, pack_f32,
    plan_conv_relu_pool_f32, plan_dense_f32, plan_destroy, plan_shape, plan_workspace,
    pycnn_conv2d_params, pycnn_dense_params, pycnn_filters, pycnn_plan, run_f32,
)


cdef int check(int status) except -1:
    if status != PYCNN_OK:
        raise ValueError(error_name(status).decode())
    return 0


cdef class Detector:
    """Filters (F, KH, KW) and weights (n, 1) for the pooled maps of a window (height, width).

    The pool is 2x2, so n = ((height - KH + 1) // 2) * ((width - KW + 1) // 2) * F.
    """

    cdef pycnn_conv2d_params params
    cdef pycnn_filters *filters
    cdef pycnn_filters *weights
    cdef pycnn_plan *head
    cdef Py_ssize_t n_features

    def __cinit__(self, const float[:, :, ::1] filters, const float[:, ::1] weights, window):
        cdef pycnn_plan *stage
        cdef pycnn_dense_params head = dense_params()
        cdef Py_ssize_t shape[4]
        self.params = conv2d_params()
        self.params.images = self.params.channels = 1
        self.params.height, self.params.width = window
        self.params.filters = filters.shape[0]
        self.params.kernel_height, self.params.kernel_width = filters.shape[1], filters.shape[2]
        self.params.num_threads = 1         # a window is too small to share
        check(plan_conv_relu_pool_f32(&self.params, &stage))
        try:
            check(plan_shape(stage, shape))
            check(pack_f32(stage, &filters[0, 0, 0], &self.filters))
        finally:
            plan_destroy(stage)
        self.n_features = shape[1] * shape[2] * shape[3]
        if weights.shape[0] != self.n_features or weights.shape[1] != 1:
            raise ValueError(f"expected weights of shape {(self.n_features, 1)}")
        head.vectors = head.outputs = head.num_threads = 1
        head.inputs = self.n_features
        check(plan_dense_f32(&head, &self.head))
        check(pack_f32(self.head, &weights[0, 0], &self.weights))

    def __dealloc__(self):
        filters_destroy(self.filters)
        filters_destroy(self.weights)
        plan_destroy(self.head)

    def scores(self, const float[:, :] image, Py_ssize_t step=1):
        """The score of the window at every `step`-th row and column, as a memoryview."""
        cdef Py_ssize_t rows = (image.shape[0] - self.params.height) // step + 1
        cdef Py_ssize_t columns = (image.shape[1] - self.params.width) // step + 1
        cdef pycnn_conv2d_params params = self.params
        cdef pycnn_plan *stage
        cdef float[:, ::1] scores
        cdef float[::1] features
        cdef unsigned char[::1] space
        cdef size_t stage_bytes, head_bytes
        cdef int status = PYCNN_OK
        if image.shape[0] < params.height or image.shape[1] < params.width or step < 1:
            raise ValueError("the window does not fit the image, or the step is below 1")
        params.x_strides[1], params.x_strides[2] = image.strides[0], image.strides[1]
        params.x_strides[0] = params.x_strides[3] = sizeof(float)       # of one: any will do
        check(plan_conv_relu_pool_f32(&params, &stage))
        try:
            check(plan_workspace(stage, &stage_bytes))
            check(plan_workspace(self.head, &head_bytes))
            scores = array((rows, columns), sizeof(float), "f")
            space = array((max(stage_bytes, head_bytes),), 1, "B")
            features = array((self.n_features,), sizeof(float), "f")
            with nogil:
                status = self.slide(stage, image, step, scores, features, space)
        finally:
            plan_destroy(stage)
        check(status)
        return scores

    cdef int slide(self, const pycnn_plan *stage, const float[:, :] image, Py_ssize_t step,
                   float[:, ::1] scores, float[::1] features,
                   unsigned char[::1] space) noexcept nogil:
        cdef Py_ssize_t y, x
        cdef int status = PYCNN_OK
        for y in range(scores.shape[0]):
            for x in range(scores.shape[1]):
                status = run_f32(stage, self.filters, &image[y * step, x * step], NULL,
                                 &features[0], &space[0], space.shape[0])
                if status == PYCNN_OK:
                    status = run_f32(self.head, self.weights, &features[0], NULL, &scores[y, x],
                                     &space[0], space.shape[0])
                if status != PYCNN_OK:
                    return status
        return status
