"""One block of one image, by any algorithm."""

from pycnn._geometry cimport Block, Call, Geometry


cdef Py_ssize_t conv_scratch_bytes(const Geometry *g, Py_ssize_t columns) noexcept nogil
cdef bint conv_block(
    const Geometry *g, const Call *call, const char *image, const Block *block, char *out,
    Py_ssize_t out_row_step, bint pool, char *scratch,
) noexcept nogil
