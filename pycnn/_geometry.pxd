"""What the convolution loops share: a checked geometry, one call's arrays, one rectangle."""

from pycnn._axis cimport Axis, Span
from pycnn._engine cimport pycnn_amx_filters, pycnn_amx_image, pycnn_kernels


cdef enum Algorithm:
    DIRECT, PLANES, DOTS, DEPTHWISE, AMX, WINOGRAD


cdef struct Geometry:
    Axis y, x
    Py_ssize_t n, ic, oc, groups
    Py_ssize_t group_ic, group_oc   # channels and filters of one group
    Py_ssize_t products             # kh * kw * group_ic, the length of one output's sum
    Py_ssize_t group_lanes          # filters of a group, padded as the algorithm needs them
    # direct, dots, amx, winograd: filters of a panel, fewer in a group's last; panels of all groups
    Py_ssize_t panel, panels
    const pycnn_kernels *kernels
    Py_ssize_t itemsize
    Algorithm algorithm
    int tile                        # winograd: outputs are computed in squares; else 1
    pycnn_amx_filters amx_filters   # amx: as planned, not yet packed
    pycnn_amx_image amx_image


cdef struct Call:
    # What changes from call to call.
    const char *filters             # packed
    const pycnn_amx_filters *amx    # amx: what `filters` are
    const char *bias                # padded like the packed filters
    int activation
    double slope


cdef struct Block:
    # Output rows [top, bottom) and columns [left, right) of one image; direct, amx and winograd:
    # some panels of filters, counted over all groups. top and left are multiples of the tile.
    Py_ssize_t top, bottom, left, right
    Py_ssize_t first_panel, last_panel


cdef struct Rectangle:
    # Output pixels whose windows all cover the same taps.
    Span y, x
    const char *origin              # the first valid tap of the window at (y.first, x.first)
    Py_ssize_t y_step, x_step       # elements from one window to the next


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a - 1) // b + 1     # the sum of the two may be too large


cdef inline double total_products(const Geometry *g, Py_ssize_t images) noexcept nogil:
    """Multiply-adds of a direct sum."""
    return <double> images * g.y.out * g.x.out * g.oc * g.products


cdef inline bint hands_back(const Geometry *g) noexcept nogil:
    """Whether the algorithm may leave images or filters to be computed directly."""
    return g.algorithm == AMX or g.algorithm == WINOGRAD


cdef inline Py_ssize_t first_filter(const Geometry *g, Py_ssize_t panel) noexcept nogil:
    """Of a panel; behind the last panel, the number of filters."""
    cdef Py_ssize_t of_group = g.panels // g.groups
    return panel // of_group * g.group_oc + panel % of_group * g.panel


cdef inline Py_ssize_t panel_width(const Geometry *g, Py_ssize_t f) noexcept nogil:
    """Lanes of the panel that begins at filter `f` of its group: two vectors, or one at the end."""
    cdef Py_ssize_t lanes = g.kernels.lanes
    return lanes if g.group_oc - f <= lanes else 2 * lanes
