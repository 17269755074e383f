"""What a convolution will do: its algorithm, and its filters in the layout that it reads."""

from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from pycnn._amx cimport amx_pays, amx_plan
from pycnn._axis cimport cut
from pycnn._engine cimport (
    DONE, DOTS_FILTERS, NO_MEMORY, PYCNN_f32, aligned_alloc, aligned_free, amx_kernels, kernels_of,
    pycnn_kernels, pycnn_publish,
)
from pycnn._geometry cimport (
    AMX, DEPTHWISE, DIRECT, DOTS, PLANES, WINOGRAD, Geometry, ceil_div, hands_back,
    panel_width,
)
from pycnn._planes cimport planes_fit
from pycnn._winograd cimport winograd_pack, winograd_packed_bytes, winograd_plan

# Filters of a tile of the matrix unit; with fewer, tiles are too empty.
cdef Py_ssize_t AMX_PANEL = 16


# ---- geometry -----------------------------------------------------------------------------------

cdef int plan_geometry(Geometry *g, int type, int parts) noexcept nogil:
    """Completes a checked geometry of both axes, n, ic, oc and groups; an `Outcome`.

    `parts` are the bfloat16 numbers that stand for a float32; 0 leaves the algorithms that take
    any numbers, the others may hand an image or filters back to them.
    """
    cdef int outcome
    g.kernels = kernels_of(type)
    g.itemsize = 4 if type == PYCNN_f32 else 8
    # A stride that is never taken may be any number.
    if g.y.out == 1:
        g.y.stride = 1
    if g.x.out == 1:
        g.x.stride = 1
    g.group_ic = g.ic // g.groups
    g.group_oc = g.oc // g.groups
    g.products = g.y.kernel * g.x.kernel * g.group_ic
    g.x.spans = NULL
    outcome = cut(&g.y)
    if outcome == DONE:
        outcome = cut(&g.x)
    if outcome == DONE:
        choose(g, parts)
    else:
        free_geometry(g)
    return outcome


cdef Geometry planned_directly(const Geometry *g) noexcept nogil:
    """The same convolution by an algorithm that takes any numbers; it borrows the spans."""
    cdef Geometry direct = g[0]
    choose(&direct, 0)
    return direct


cdef void free_geometry(Geometry *g) noexcept nogil:
    free(g.y.spans)
    free(g.x.spans)
    g.y.spans = g.x.spans = NULL


cdef void choose(Geometry *g, int parts) noexcept nogil:
    """The algorithm, and the lanes and panels its packed filters take."""
    cdef Py_ssize_t lanes = g.kernels.lanes, full = g.group_oc // (2 * lanes) * (2 * lanes)
    cdef Py_ssize_t rest = g.group_oc - full
    g.group_lanes = full + (0 if rest == 0 else lanes if rest <= lanes else 2 * lanes)
    g.algorithm = DIRECT
    g.tile = 1
    g.panel = 2 * lanes
    if g.groups == g.ic == g.oc and g.oc >= lanes:
        g.algorithm = DEPTHWISE
        g.group_lanes = 1
    elif g.groups == 1 and g.x.out >= lanes and planes_fit(g):
        g.algorithm = PLANES
    elif parts and g.oc >= AMX_PANEL and amx_plan(g, parts) and amx_pays(g):
        g.algorithm = AMX
        g.panel = AMX_PANEL
        g.group_lanes = (g.oc + 15) & ~15
    elif 0 < parts < 3 and winograd_plan(g):
        g.algorithm = WINOGRAD
    elif dots_fit(g.kernels, g.group_ic, g.products, g.group_oc):
        g.algorithm = DOTS
        g.group_lanes = g.group_oc
        g.panel = dots_panel(g.group_oc)
    g.panels = g.groups * ceil_div(g.group_oc, g.panel)


cdef bint dots_fit(const pycnn_kernels *kernels, Py_ssize_t channels, double products,
                   Py_ssize_t filters) noexcept nogil:
    """Whether there are channels for a vector, and few enough filters.

    In multiply-adds for one pixel: direct takes whole vectors of filters, a third longer where
    tiles of one wait for each other; here each filter takes its products, and about six more for
    the lanes that are added up.
    """
    cdef Py_ssize_t lanes = kernels.lanes
    cdef double vectors = 2
    if channels < lanes or filters > 2 * lanes:
        return False
    if filters <= lanes:
        vectors = 4 / 3.0 if kernels.direct_pixels < 8 else 1
    return 2 * filters <= lanes or filters * (products / lanes + 6) <= vectors * products


cdef Py_ssize_t dots_panel(Py_ssize_t filters) noexcept nogil:
    """Filters of a panel; all are of almost equal size: five are 3 + 2."""
    return ceil_div(filters, ceil_div(filters, DOTS_FILTERS))


# ---- packed filters -----------------------------------------------------------------------------

cdef int pack(const Geometry *g, const char *filters, Weights *weights) noexcept nogil:
    """Fills `weights`, which borrow `filters` where `hands_back`. An `Outcome`."""
    cdef Py_ssize_t n_bytes = g.groups * g.group_lanes * g.products * g.itemsize
    cdef bint usable = True
    if g.algorithm == AMX:
        n_bytes = g.amx_filters.packed_bytes
        weights.amx = g.amx_filters
    elif g.algorithm == WINOGRAD:
        n_bytes = winograd_packed_bytes(g)
    elif g.algorithm == DEPTHWISE:
        n_bytes = depthwise_vectors(g) * g.kernels.lanes * g.products * g.itemsize
    weights.filters = filters if hands_back(g) else NULL
    weights.direct = NULL
    weights.data = <char *> aligned_alloc(n_bytes)
    if weights.data is NULL:
        return NO_MEMORY
    if g.algorithm == AMX:
        usable = amx_kernels().pack(&weights.amx, <const float *> filters, weights.data)
    elif g.algorithm == WINOGRAD:
        usable = winograd_pack(g, <const float *> filters, weights.data)
    else:
        pack_panels(g, filters, weights.data)
    if not usable:
        aligned_free(weights.data)
        weights.data = NULL
    return DONE


cdef Weights *direct_weights(Weights *weights, const Geometry *direct) noexcept nogil:
    """The same filters for `direct`, packed by whoever wants them first; NULL: out of memory."""
    cdef Weights *mine = <Weights *> pycnn_publish(<void **> &weights.direct, NULL)
    cdef Weights *shared
    if mine is not NULL:
        return mine
    mine = <Weights *> calloc(1, sizeof(Weights))
    if mine is NULL:
        return NULL
    if pack(direct, weights.filters, mine) != DONE:
        free(mine)
        return NULL
    shared = <Weights *> pycnn_publish(<void **> &weights.direct, mine)
    if shared is not mine:
        free_weights(mine)
        free(mine)
    return shared


cdef void free_weights(Weights *weights) noexcept nogil:
    aligned_free(weights.data)
    if weights.direct is not NULL:
        free_weights(weights.direct)
        free(weights.direct)


cdef inline Py_ssize_t depthwise_vectors(const Geometry *g) noexcept nogil:
    return (g.oc - 1) // g.kernels.lanes + 1


cdef void pack_panels(const Geometry *g, const char *filters, char *packed) noexcept nogil:
    """(F, KH, KW, C) to panels of [product][lane], zeros in the lanes behind the last filter.

    Dots: as they are. Depthwise: (C, KH, KW) to panels of one vector of channels, of which the last
    overlaps the one before.
    """
    cdef Py_ssize_t _group, f, width, used, row = g.products * g.itemsize
    cdef Py_ssize_t lanes = g.kernels.lanes, vector
    if g.algorithm == DOTS:
        memcpy(packed, filters, g.oc * row)
        return
    if g.algorithm == DEPTHWISE:
        for vector in range(depthwise_vectors(g)):
            f = min(vector * lanes, g.oc - lanes)
            g.kernels.transpose(filters + f * row, g.products, lanes, g.products,
                                packed + vector * lanes * row, lanes)
        return
    for _group in range(g.groups):
        f = 0
        while f < g.group_oc:
            width = panel_width(g, f)
            used = min(width, g.group_oc - f)
            if used < width:
                memset(packed, 0, width * row)
            g.kernels.transpose(filters, g.products, used, g.products, packed, width)
            packed += width * row
            filters += used * row
            f += used
