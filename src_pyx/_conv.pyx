"""Convolution as Python sees it: plans, packed filters, and one call over arrays."""

cimport numpy as cnp

from pycnn._arrays cimport carray
from pycnn._driver cimport Plan, free_convolution, plan_convolution, run
from pycnn._engine cimport DONE, check, type_index
from pycnn._geometry cimport Geometry, hands_back
from pycnn._plan cimport Weights, free_weights, pack

cnp.import_array()

# The bfloat16 numbers that a float32 is split into on the matrix unit, at each precision.
PARTS = {"highest": 3, "high": 2, "medium": 1}


cdef class ConvPlan:
    """A checked geometry with its algorithm, made once per shape and used by many calls.

    `precision` None stands for the algorithms that take any numbers; the others may hand an image
    or filters back to them. `packing` names the layout of packed filters the plan takes.
    """

    def __cinit__(self, int type_num, x_shape, filters_shape, out_shape, stride, before, dilation,
                  groups, precision="highest"):
        cdef Geometry *g = &self.conv.geometry
        g.n, g.y.size, g.x.size, g.ic = x_shape
        g.oc, g.y.kernel, g.x.kernel, _ = filters_shape
        g.y.out, g.x.out = out_shape
        g.y.stride, g.x.stride = stride
        g.y.before, g.x.before = before
        g.y.dilation, g.x.dilation = dilation
        g.groups = groups
        parts = PARTS[precision] if precision is not None else 0
        check(plan_convolution(&self.conv, type_index(type_num), parts))
        layout = ("panels", "panels", "filters", "vectors", f"amx{parts}", f"winograd{g.tile}")[
            <int> g.algorithm]
        self.packing = (type_num, layout, g.groups)

    def __dealloc__(self):
        free_convolution(&self.conv)

    def pack(self, filters):
        """A `Packed` of the filters that any plan with the same `packing` takes."""
        cdef const Geometry *g = &self.conv.geometry
        cdef Packed packed = Packed.__new__(Packed)
        cdef const char *data
        cdef int outcome
        filters = carray(filters, cnp.NPY_FLOAT if g.itemsize == 4 else cnp.NPY_DOUBLE,
                         g.oc * g.products)
        data = cnp.PyArray_BYTES(filters)
        packed.filters = filters if hands_back(g) else None
        with nogil:
            outcome = pack(g, data, &packed.weights)
        check(outcome)
        return packed

    @property
    def algorithm(self):
        return ("direct", "planes", "dots", "depthwise", "amx", "winograd")[
            <int> self.conv.geometry.algorithm]


cdef class Packed:
    """Filters in the layout of a plan; threads may share it."""

    def __dealloc__(self):
        free_weights(&self.weights)


cdef int execute(const Plan *plan, x, filters, bias, int activation, double slope,
                 out) except -1:
    """Runs a plan: arrays of its shapes and any dtype, `filters` packed or not, into `out`.

    `out` has the plan's dtype, C order, and no memory in common with the inputs.
    """
    cdef const Geometry *g = plan.geometry
    cdef int type_num = cnp.PyArray_TYPE(out), outcome = DONE
    cdef bint packed = type(filters) is Packed
    cdef const char *filters_data = NULL
    cdef const char *bias_data = NULL
    cdef const char *x_data
    cdef char *out_data = cnp.PyArray_BYTES(out)
    cdef Weights own
    cdef Weights *weights = &own
    if packed:
        weights = &(<Packed> filters).weights
    else:
        filters = carray(filters, type_num, g.oc * g.products)
        filters_data = cnp.PyArray_BYTES(filters)
    x = carray(x, type_num, g.n * g.y.size * g.x.size * g.ic)
    x_data = cnp.PyArray_BYTES(x)
    if bias is not None:
        bias = carray(bias, type_num, g.oc)
        bias_data = cnp.PyArray_BYTES(bias)
    with nogil:
        if not packed:
            outcome = pack(g, filters_data, weights)
        if outcome == DONE:
            outcome = run(plan, weights, x_data, bias_data, activation, slope, out_data, g.n,
                          NULL)
            if not packed:
                free_weights(weights)
    return check(outcome)


def conv2d(ConvPlan plan not None, x, filters, bias, int activation, double slope, out):
    """`execute` for a convolution."""
    execute(&plan.conv.plan, x, filters, bias, activation, slope, out)
