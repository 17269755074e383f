"""Element-wise activations over contiguous arrays."""

cimport numpy as cnp

from pycnn._arrays cimport carray
from pycnn._engine cimport kernels_of, type_index

cnp.import_array()


def relu(x, out):
    """out = x where x > 0 or x is NaN, else 0.

    `out` has C order and a dtype with kernels; `x` as many elements, in the same memory or none of
    it.
    """
    cdef int type_num = cnp.PyArray_TYPE(out), index = type_index(type_num)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(out)
    cdef char *out_data = cnp.PyArray_BYTES(out)
    cdef const char *x_data
    x = carray(x, type_num, n)
    x_data = cnp.PyArray_BYTES(x)
    with nogil:
        kernels_of(index).relu(x_data, out_data, n)


def leaky_relu(x, double slope, out):
    """out = x where x > 0 or x is NaN, else slope * x; as `relu`, in float32 or float64."""
    cdef int type_num = cnp.PyArray_TYPE(out), index = type_index(type_num)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(out)
    cdef char *out_data = cnp.PyArray_BYTES(out)
    cdef const char *x_data
    x = carray(x, type_num, n)
    x_data = cnp.PyArray_BYTES(x)
    with nogil:
        kernels_of(index).leaky_relu(x_data, slope, out_data, n)
