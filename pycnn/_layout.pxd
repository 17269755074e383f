"""Images in a caller's memory, with gaps or without."""


cdef struct Layout:
    Py_ssize_t shape[4]             # image, row, pixel, channel
    Py_ssize_t strides[4]           # in bytes
    Py_ssize_t natural[4]           # those of C order
    Py_ssize_t itemsize, n_bytes    # of the elements alone
    Py_ssize_t low, high            # the bytes it lies in, from the first element on
    bint dense                      # in C order


cdef int lay_out(Layout *layout, const Py_ssize_t *strides, bint distinct) noexcept nogil
cdef bint has_planes(const Layout *layout) noexcept nogil
cdef void gather(const Layout *layout, const char *image, char *dense) noexcept nogil
cdef void scatter(const Layout *layout, const char *dense, char *image) noexcept nogil
