from pycnn._geometry cimport Call, Geometry, Rectangle


cdef bint planes_fit(const Geometry *g) noexcept nogil
cdef bint planes_pool_squares(const Geometry *g) noexcept nogil
cdef Py_ssize_t planes_taps_bytes(const Geometry *g) noexcept nogil
cdef Py_ssize_t planes_bytes(const Geometry *g) noexcept nogil
cdef void planes_rectangle(
    const Geometry *g, const Call *call, const Rectangle *r, char *out, Py_ssize_t out_row_step,
    bint pool, Py_ssize_t *taps, char *scratch,
) noexcept nogil
