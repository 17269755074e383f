from pycnn._geometry cimport Block, Call, Geometry


cdef bint winograd_plan(Geometry *g) noexcept nogil
cdef Py_ssize_t winograd_packed_bytes(const Geometry *g) noexcept nogil
cdef bint winograd_pack(const Geometry *g, const float *filters, char *packed) noexcept nogil
cdef Py_ssize_t winograd_scratch_bytes(const Geometry *g) noexcept nogil
cdef Py_ssize_t tile_rows(const Geometry *g) noexcept nogil
cdef Py_ssize_t tile_columns(const Geometry *g) noexcept nogil
cdef bint winograd_block(
    const Geometry *g, const Call *call, const char *image, const Block *block, char *out,
    Py_ssize_t out_row_step, char *scratch,
) noexcept nogil
cdef void winograd_rows(
    const Geometry *g, const Call *call, const char *images, Py_ssize_t first_row,
    Py_ssize_t last_row, Py_ssize_t first_panel, Py_ssize_t last_panel, char *out, char *scratch,
    unsigned char *retry,
) noexcept nogil
