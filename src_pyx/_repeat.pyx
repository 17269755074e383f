"""A call like the last one, of packed filters or a network: its checks are good for this one too.

They take longer than what small images need.
"""

cimport numpy as cnp

from pycnn._arrays cimport MOST_DIMENSIONS, placed
from pycnn._chain cimport Chain, run_links
from pycnn._conv cimport Packed, execute
from pycnn._driver cimport Plan
from pycnn._stage cimport plan_of

cnp.import_array()


cdef class LastCall:
    """A call that was checked; never changed, so threads may share it."""

    cdef tuple options
    cdef Chain chain                # what computes it; None: the plan
    cdef object owner               # of the plan
    cdef const Plan *plan
    cdef Packed packed
    cdef int activation
    cdef double slope
    cdef int x_type
    cdef int x_axes, n_axes         # of x and of the result
    cdef cnp.npy_intp[MOST_DIMENSIONS] x_sizes, sizes
    cdef cnp.dtype dtype            # of the result


cdef LastCall call_of(tuple options, x, result):
    cdef LastCall last = LastCall.__new__(LastCall)
    cdef int axis
    last.options = options
    last.x_type, last.x_axes = cnp.PyArray_TYPE(x), cnp.PyArray_NDIM(x)
    last.n_axes, last.dtype = cnp.PyArray_NDIM(result), result.dtype
    for axis in range(last.x_axes):
        last.x_sizes[axis] = cnp.PyArray_DIM(x, axis)
    for axis in range(last.n_axes):
        last.sizes[axis] = cnp.PyArray_DIM(result, axis)
    return last


def remember(tuple options not None, x, result, plan, Packed packed not None, int activation,
             double slope):
    """A convolution; None where the same options could mean something else the next time, as a list.

    `x` and `result` are arrays, `plan` a ConvPlan or StagePlan for them, `options` all that it and
    the activation were made from.
    """
    cdef LastCall last
    for option in options:
        if not (option is None or type(option) is int or type(option) is str):
            return None
    last = call_of(options, x, result)
    last.owner = plan
    last.plan = plan_of(plan)
    last.packed = packed
    last.activation, last.slope = activation, slope
    return last


def remember_chain(tuple options not None, x, result, Chain chain not None):
    """A network, of one image or a batch. The `options` never mean something else."""
    cdef LastCall last = call_of(options, x, result)
    last.chain = chain
    return last


def repeat(LastCall last, tuple options not None, x, bias, out):
    """The result of a call like the last one; None for any other."""
    cdef int axis
    if last is None or not cnp.PyArray_CheckExact(x) or not (
            cnp.PyArray_TYPE(x) == last.x_type and cnp.PyArray_NDIM(x) == last.x_axes):
        return None
    for axis in range(last.x_axes):
        if cnp.PyArray_DIM(x, axis) != last.x_sizes[axis]:
            return None
    # Of equal objects some are refused: True is no stride.
    if len(options) != len(last.options):
        return None
    for axis in range(len(options)):
        if options[axis] is not last.options[axis]:
            return None
    if bias is not None and not (
            cnp.PyArray_CheckExact(bias) and cnp.PyArray_TYPE(bias) == last.dtype.num
            and cnp.PyArray_NDIM(bias) == 1
            and cnp.PyArray_DIM(bias, 0) == last.plan.geometry.oc):
        return None
    result = placed(out, last.n_axes, last.sizes, last.dtype, (x, bias), False)
    if result is None:
        return None
    if last.chain is not None:
        run_links(last.chain, x, result)
    else:
        execute(last.plan, x, last.packed, bias, last.activation, last.slope, result)
    return result
