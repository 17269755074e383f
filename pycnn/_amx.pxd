from pycnn._geometry cimport Block, Call, Geometry


cdef bint amx_plan(Geometry *g, int parts) noexcept nogil
cdef double amx_cycles(const Geometry *g, Py_ssize_t rows, Py_ssize_t panels) noexcept nogil
cdef bint amx_pays(const Geometry *g) noexcept nogil
cdef Py_ssize_t amx_scratch_bytes(const Geometry *g, Py_ssize_t columns) noexcept nogil
cdef bint amx_block(
    const Geometry *g, const Call *call, const char *image, const Block *block, char *out,
    Py_ssize_t out_row_step, char *scratch,
) noexcept nogil
