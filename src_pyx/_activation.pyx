"""Element-wise activations over contiguous arrays."""

cimport numpy as cnp

from pycnn._engine cimport kernels_of, type_index

cnp.import_array()


def relu(x, out):
    """out = x where x > 0 or x is NaN, else 0; both C-contiguous, of one dtype with kernels."""
    cdef const char *x_data = cnp.PyArray_BYTES(x)
    cdef char *out_data = cnp.PyArray_BYTES(out)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x)
    cdef int index = type_index(cnp.PyArray_TYPE(x))
    with nogil:
        kernels_of(index).relu(x_data, out_data, n)


def leaky_relu(x, double slope, out):
    """out = x where x > 0 or x is NaN, else slope * x; both C-contiguous, float32 or float64."""
    cdef const char *x_data = cnp.PyArray_BYTES(x)
    cdef char *out_data = cnp.PyArray_BYTES(out)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(x)
    cdef int index = type_index(cnp.PyArray_TYPE(x))
    with nogil:
        kernels_of(index).leaky_relu(x_data, slope, out_data, n)
