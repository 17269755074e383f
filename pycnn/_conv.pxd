"""The convolution loops, for the fused stage and the C API."""

from pycnn._engine cimport pycnn_amx_filters
from pycnn._geometry cimport Block, Call, Geometry


cdef class ConvPlan:
    cdef Geometry geometry
    cdef readonly object packing
    cdef ConvPlan direct        # the plan for what this one's algorithm cannot take


cdef class Packed:
    cdef char *data
    cdef pycnn_amx_filters amx
    cdef object filters
    cdef Packed direct_packed
    cdef Packed direct(self, ConvPlan plan)


cdef Packed packed_for(ConvPlan plan, filters)
cdef object carray(array, int type_num, Py_ssize_t size)
cdef void start_call(const Geometry *g, Packed packed, const char *bias, int activation,
                     double slope, char *padded_bias, Call *call) noexcept
cdef Py_ssize_t conv_scratch_bytes(const Geometry *g, Py_ssize_t columns) noexcept nogil
cdef Py_ssize_t bias_bytes(const Geometry *g) noexcept nogil
cdef int workers_for(double products, Py_ssize_t tasks) noexcept nogil
cdef bint conv_block(
    const Geometry *g, const Call *call, const char *image, const Block *block, char *out,
    Py_ssize_t out_row_step, Py_ssize_t out_plane_step, char *scratch,
) noexcept nogil
