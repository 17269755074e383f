"""The activations' loop, for the C API."""


cdef void rectify(int type, Py_ssize_t itemsize, const char *x, const double *slope, char *out,
                  Py_ssize_t n) noexcept nogil
