"""A C caller's params, checked, as plans."""

from pycnn._dense cimport Dense
from pycnn._driver cimport Convolution
from pycnn._header cimport (
    pycnn_conv2d_params, pycnn_dense_params, pycnn_pool2d_params,
)
from pycnn._layout cimport Layout
from pycnn._pool cimport Pooling
from pycnn._stage cimport Stage


cdef struct Layer:
    # What params describe; the parts that a kind of layer lacks are zeros.
    int type
    Convolution conv
    Stage stage, direct_stage       # a convolution and its pool in one pass ...
    Pooling pool                    # ... or a pool of all of its maps; or of x
    Dense dense
    bint has_conv, has_stage, has_pool, has_dense
    bint empty                      # no images: nothing to compute
    int activation
    double slope
    Layout x, out


cdef int read_conv2d(Layer *layer, const pycnn_conv2d_params *params, bint pooled) noexcept nogil
cdef int read_pool2d(Layer *layer, const pycnn_pool2d_params *params, bint mean) noexcept nogil
cdef int read_dense(Layer *layer, const pycnn_dense_params *params) noexcept nogil
cdef void free_layer(Layer *layer) noexcept nogil
