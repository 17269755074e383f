"""What does not change from call to call: geometry, algorithm, packed filters."""

from pycnn._engine cimport pycnn_amx_filters, pycnn_kernels
from pycnn._geometry cimport Geometry


cdef struct Weights:
    # Filters in the layout of a geometry; any number of threads may use them at once.
    char *data                      # NULL: the algorithm cannot take these filters
    pycnn_amx_filters amx
    const char *filters             # as given; what `direct` is packed from, on demand
    Weights *direct                 # for what the algorithm hands back


cdef int plan_geometry(Geometry *g, int type, int parts) noexcept nogil
cdef Geometry planned_directly(const Geometry *g) noexcept nogil
cdef void free_geometry(Geometry *g) noexcept nogil
cdef bint dots_fit(const pycnn_kernels *kernels, Py_ssize_t channels, double products,
                   Py_ssize_t filters) noexcept nogil
cdef Py_ssize_t dots_panel(Py_ssize_t filters) noexcept nogil
cdef int pack(const Geometry *g, const char *filters, Weights *weights) noexcept nogil
cdef Weights *direct_weights(Weights *weights, const Geometry *direct) noexcept nogil
cdef void free_weights(Weights *weights) noexcept nogil
