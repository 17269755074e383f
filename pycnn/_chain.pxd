"""Several layers in one call."""

cimport numpy as cnp

from pycnn._arrays cimport MOST_DIMENSIONS
from pycnn._conv cimport Packed
from pycnn._dense cimport Dense
from pycnn._driver cimport Plan
from pycnn._plan cimport Weights


cdef struct Link:
    Py_ssize_t n_in, n_out          # numbers, of all images
    const Plan *plan                # of a convolution; NULL: a dense layer
    Weights *packed
    Dense dense
    const char *weights             # of the dense layer, as `run_dense` takes them
    char *copied                    # the same where they are a copy
    const char *bias
    int activation
    double slope


cdef class Chain:
    cdef Link *links
    cdef Py_ssize_t n_links
    cdef Py_ssize_t buffer_bytes
    cdef cnp.dtype dtype
    cdef Py_ssize_t n_out           # numbers that it makes
    cdef int n_axes                 # of the result
    cdef cnp.npy_intp[MOST_DIMENSIONS] sizes
    cdef list kept                  # what the links point into

    cdef const char *keep(self, array, Py_ssize_t size) except? NULL
    cdef int place_convolution(self, Link *link, plan, Packed packed, bias) except -1
    cdef int place_dense(self, Link *link, Py_ssize_t images, weights, bias) except -1


cdef int run_links(Chain chain, x, result) except -1
