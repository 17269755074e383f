"""A convolution with a pool behind it, in one pass over the image."""

from pycnn._conv cimport ConvPlan
from pycnn._driver cimport Plan
from pycnn._pool cimport Pooling


cdef struct Windows:
    # Pooled outputs along one axis, cut into blocks of `block` outputs made from `band` pixels.
    # The last block also computes the `rest` behind its windows; `room` is the most that any does.
    Py_ssize_t kernel, stride, out, block, n_blocks, band, rest, room


cdef struct Stage:
    Plan plan                       # first, so that a task finds its stage there
    Windows y, x
    Pooling pool                    # of one block
    bint pooled                     # by the convolution's kernel, before anything is stored
    bint by_panels                  # panels of filters may be pooled apart


cdef int plan_stage(Stage *s, const Plan *conv, const Plan *direct, bint mean) noexcept nogil
cdef bint stage_fits(const Stage *s) noexcept nogil


cdef class StagePlan:
    cdef ConvPlan conv
    cdef Stage stage, direct


cdef const Plan *plan_within(plan) except NULL
