"""A call like the last one, of packed filters or a network: its checks are good for this one too.

They take longer than what small images need.
"""

cimport numpy as cnp

from pycnn._arrays cimport MOST_DIMENSIONS, placed
from pycnn._chain cimport Chain, run_links
from pycnn._conv cimport Packed, execute
from pycnn._driver cimport Plan
from pycnn._stage cimport plan_within

cnp.import_array()


cdef class LastCall:
    """A call that was checked; never changed, so threads may share it."""

    cdef tuple options
    cdef int x_type, x_axes, n_axes             # of x, and of the result
    cdef cnp.npy_intp[MOST_DIMENSIONS] x_sizes, sizes
    cdef cnp.dtype dtype                        # of the result
    cdef Py_ssize_t n_bias                      # 0: takes none

    cdef int compute(self, x, bias, result) except -1:
        raise NotImplementedError


cdef class Convolution(LastCall):
    cdef object owner                           # of the plan
    cdef const Plan *plan
    cdef Packed packed
    cdef int activation
    cdef double slope

    cdef int compute(self, x, bias, result) except -1:
        return execute(self.plan, x, self.packed, bias, self.activation, self.slope, result)


cdef class Network(LastCall):
    cdef Chain chain

    cdef int compute(self, x, bias, result) except -1:
        return run_links(self.chain, x, result)


cdef int describe(LastCall last, tuple options, tuple x_shape, cnp.dtype x_dtype, tuple shape,
                  cnp.dtype dtype) except -1:
    cdef int axis
    last.options = options
    last.x_type, last.x_axes = x_dtype.num, len(x_shape)
    last.dtype, last.n_axes = dtype, len(shape)
    if max(last.x_axes, last.n_axes) > MOST_DIMENSIONS:
        raise ValueError(f"arrays of {last.x_axes} and {last.n_axes} dimensions")
    for axis in range(last.x_axes):
        last.x_sizes[axis] = x_shape[axis]
    for axis in range(last.n_axes):
        last.sizes[axis] = shape[axis]
    return 0


cdef bint is_fixed(option):
    """Whether the same object means the same the next time, as a list does not."""
    if type(option) is tuple:
        for item in option:
            if not is_fixed(item):
                return False
        return True
    return option is None or type(option) is int or type(option) is str


def remember(tuple options not None, tuple x_shape not None, cnp.dtype x_dtype not None,
             tuple shape not None, cnp.dtype dtype not None, plan, Packed packed not None,
             int activation, double slope):
    """A convolution; None where its options may change. They are all that its plan, a ConvPlan or
    StagePlan for these shapes, and the activation were made from."""
    cdef Convolution last
    if not is_fixed(options):
        return None
    last = Convolution.__new__(Convolution)
    describe(last, options, x_shape, x_dtype, shape, dtype)
    last.owner, last.plan = plan, plan_within(plan)
    last.packed = packed
    last.activation, last.slope = activation, slope
    last.n_bias = last.plan.geometry.oc
    return last


def remember_network(tuple options not None, tuple x_shape not None, cnp.dtype x_dtype not None,
                     Chain chain not None, bint one):
    """The chain of a network, for a batch or for `one` sample. The options stay as they are."""
    cdef Network last = Network.__new__(Network)
    shape = tuple(chain.sizes[axis] for axis in range(one, chain.n_axes))
    describe(last, options, x_shape, x_dtype, shape, chain.dtype)
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
            and cnp.PyArray_NDIM(bias) == 1 and cnp.PyArray_DIM(bias, 0) == last.n_bias):
        return None
    try:
        result = placed(out, last.n_axes, last.sizes, last.dtype, (x, bias), False)
    except MemoryError:     # which a call with checks says better
        return None
    if result is not None:
        last.compute(x, bias, result)
    return result
