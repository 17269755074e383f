"""The arrays of a call: inputs as the loops read them, and new ones for results."""

cimport numpy as cnp


cdef enum:
    MOST_DIMENSIONS = 64            # of NumPy 2; 32 before it


cdef object carray(array, int type_num, Py_ssize_t size)
cdef object empty(int n_axes, const cnp.npy_intp *sizes, cnp.dtype dtype)
cdef object placed(out, int n_axes, const cnp.npy_intp *sizes, cnp.dtype dtype, tuple inputs,
                   bint elementwise)
