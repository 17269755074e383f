"""Convolution plans as Python objects, for the fused stage."""

from pycnn._driver cimport Convolution, Plan
from pycnn._plan cimport Weights


cdef class ConvPlan:
    cdef Convolution conv
    cdef readonly object packing


cdef class Packed:
    cdef Weights weights
    cdef object filters


cdef int execute(const Plan *plan, x, filters, bias, int activation, double slope,
                 out) except -1
