"""What the C API hands out: plans and packed filters, and the calls that take them.

A handle begins with a tag, so that one kind taken for the other, or memory that was never a handle,
is an error and not a crash.
"""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from pycnn._dense cimport dense_bytes, pack_weights, run_dense, use_once
from pycnn._driver cimport Plan, run, scratch_bytes
from pycnn._engine cimport DONE, aligned_alloc, aligned_free, padded
from pycnn._geometry cimport AMX, PLANES, WINOGRAD, Geometry
from pycnn._header cimport *
from pycnn._layout cimport Layout, gather, scatter
from pycnn._params cimport Layer, free_layer, read_conv2d, read_dense, read_pool2d
from pycnn._plan cimport Weights, direct_weights, free_weights, pack
from pycnn._pool cimport pooling_bytes, run_pooling

cdef size_t PLAN_TAG = 0x70796e6e
cdef size_t FILTERS_TAG = 0x66696c74


cdef struct Key:
    # What decides the layout of packed filters, and their values.
    Py_ssize_t type, algorithm, variant
    Py_ssize_t n_out, kernel_height, kernel_width, n_in, groups


cdef struct Handle:
    size_t tag
    Layer layer
    Key key                         # zeros where there are no filters
    # Parts of the workspace, each from one cache line to another.
    Py_ssize_t x_bytes              # x in C order, where it is not
    Py_ssize_t out_bytes            # likewise the result
    Py_ssize_t maps_bytes           # a convolution's result, where its pool is not fused
    Py_ssize_t scratch_bytes


cdef struct Filters:
    size_t tag
    Key key
    Weights weights
    bint borrowed                   # dense: the caller's own weights


# ---- plans --------------------------------------------------------------------------------------

cdef int start(Handle *h, Kind kind, int type, const void *params) noexcept nogil:
    """Fills in a handle whose layer must be freed, also after an error."""
    cdef Layer *layer = &h.layer
    cdef const Geometry *g = &layer.conv.geometry
    cdef Py_ssize_t scratch = 0
    cdef int status
    memset(h, 0, sizeof(Handle))
    h.tag = PLAN_TAG
    layer.type = type
    if kind == DENSE:
        status = read_dense(layer, <const pycnn_dense_params *> params)
    elif kind == MAX_POOL or kind == AVG_POOL:
        status = read_pool2d(layer, <const pycnn_pool2d_params *> params, kind == AVG_POOL)
    else:
        status = read_conv2d(layer, <const pycnn_conv2d_params *> params, kind == CONV_RELU_POOL)
    if status != PYCNN_OK:
        return status
    h.x_bytes = 0 if layer.x.dense else padded(layer.x.n_bytes)
    h.out_bytes = 0 if layer.out.dense else padded(layer.out.n_bytes)
    if layer.has_conv:
        set_conv_key(&h.key, layer)
        scratch = scratch_bytes(plan_of(layer), g.n)
        if layer.has_pool:
            h.maps_bytes = padded(g.n * layer.conv.plan.result_bytes)
    if layer.has_pool:
        scratch = -1 if scratch < 0 else max(scratch, pooling_bytes(&layer.pool))
    if layer.has_dense:
        set_dense_key(&h.key, layer)
        scratch = dense_bytes(&layer.dense)
    h.scratch_bytes = padded(scratch)
    return PYCNN_ERROR_OVERFLOW if scratch < 0 else PYCNN_OK


cdef inline const Plan *plan_of(const Layer *layer) noexcept nogil:
    return &layer.stage.plan if layer.has_stage else &layer.conv.plan


cdef void set_conv_key(Key *key, const Layer *layer) noexcept nogil:
    cdef const Geometry *g = &layer.conv.geometry
    key.type = layer.type
    key.algorithm = 0 if g.algorithm == PLANES else g.algorithm     # packed as if for direct
    key.variant = (g.amx_filters.parts if g.algorithm == AMX
                   else g.tile if g.algorithm == WINOGRAD else 0)
    key.n_out, key.kernel_height, key.kernel_width = g.oc, g.y.kernel, g.x.kernel
    key.n_in, key.groups = g.group_ic, g.groups


cdef void set_dense_key(Key *key, const Layer *layer) noexcept nogil:
    key.type = layer.type
    key.algorithm = -1
    key.n_out, key.n_in = layer.dense.n_out, layer.dense.n_in


cdef int create_plan(Kind kind, int type, const void *params, pycnn_plan **plan) noexcept nogil:
    cdef Handle *h
    cdef int status
    if plan is NULL:
        return PYCNN_ERROR_NULL
    plan[0] = NULL
    h = <Handle *> calloc(1, sizeof(Handle))
    if h is NULL:
        return PYCNN_ERROR_MEMORY
    status = start(h, kind, type, params)
    if status == PYCNN_OK:
        plan[0] = <pycnn_plan *> h
    else:
        destroy_plan(<pycnn_plan *> h)
    return status


cdef void destroy_plan(pycnn_plan *plan) noexcept nogil:
    cdef Handle *h = <Handle *> plan
    if h is not NULL and h.tag == PLAN_TAG:
        h.tag = 0
        free_layer(&h.layer)
        free(h)


cdef int check_plan(const pycnn_plan *plan) noexcept nogil:
    if plan is NULL:
        return PYCNN_ERROR_NULL
    return PYCNN_OK if (<const Handle *> plan).tag == PLAN_TAG else PYCNN_ERROR_HANDLE


cdef int shape_of(const pycnn_plan *plan, Py_ssize_t *shape) noexcept nogil:
    cdef const Handle *h = <const Handle *> plan
    cdef int status = check_plan(plan)
    if status == PYCNN_OK and shape is NULL:
        status = PYCNN_ERROR_NULL
    if status == PYCNN_OK:
        memcpy(shape, h.layer.out.shape, sizeof(h.layer.out.shape))
        if h.layer.empty:
            shape[0] = 0
    return status


cdef int workspace_of(const pycnn_plan *plan, size_t *n_bytes) noexcept nogil:
    cdef int status = check_plan(plan)
    if status == PYCNN_OK and n_bytes is NULL:
        status = PYCNN_ERROR_NULL
    if status == PYCNN_OK:
        n_bytes[0] = workspace_bytes_of(<const Handle *> plan)
    return status


cdef inline size_t workspace_bytes_of(const Handle *h) noexcept nogil:
    """With room to align it; a sum of four sizes below PTRDIFF_MAX / 4 each."""
    return (<size_t> h.x_bytes + <size_t> h.out_bytes + <size_t> h.maps_bytes
            + <size_t> h.scratch_bytes + 63)


# ---- filters ------------------------------------------------------------------------------------

cdef int start_filters(Filters *w, const Handle *h, const char *filters) noexcept nogil:
    """Filters for one call, which borrow the caller's; for `end_filters`, also after an error."""
    memset(w, 0, sizeof(Filters))
    w.tag = FILTERS_TAG
    w.key = h.key
    if filters is NULL:
        return PYCNN_ERROR_NULL
    if <uintptr_t> filters % <size_t> h.layer.x.itemsize != 0:
        return PYCNN_ERROR_ALIGNMENT
    if h.layer.has_conv:
        if pack(&h.layer.conv.geometry, filters, &w.weights) != DONE:
            return PYCNN_ERROR_MEMORY
    else:
        if pack_weights(&h.layer.dense, &filters, &w.weights.data) != DONE:
            return PYCNN_ERROR_MEMORY
        w.borrowed = w.weights.data is NULL
        w.weights.data = <char *> filters
    return PYCNN_OK


cdef int keep(Filters *w, const Handle *h) noexcept nogil:
    """Copies all that the filters still borrow, so that runs need no more memory."""
    cdef Py_ssize_t n_bytes = h.layer.dense.n_in * h.layer.dense.n_out * h.layer.x.itemsize
    cdef char *data
    if w.borrowed:
        data = <char *> aligned_alloc(n_bytes)
        if data is NULL:
            return PYCNN_ERROR_MEMORY
        memcpy(data, w.weights.data, n_bytes)
        w.weights.data = data
        w.borrowed = False
    if h.layer.conv.plan.direct is not NULL:
        if direct_weights(&w.weights, &h.layer.conv.direct_geometry) is NULL:
            return PYCNN_ERROR_MEMORY
        w.weights.filters = NULL
    return PYCNN_OK


cdef void end_filters(Filters *w) noexcept nogil:
    if not w.borrowed:
        free_weights(&w.weights)


cdef int create_filters(int type, const pycnn_plan *plan, const void *filters,
                        pycnn_filters **packed) noexcept nogil:
    cdef const Handle *h = <const Handle *> plan
    cdef Filters *w
    cdef int status
    if packed is NULL:
        return PYCNN_ERROR_NULL
    packed[0] = NULL
    status = check_plan(plan)
    if status != PYCNN_OK:
        return status
    if h.layer.type != type or not (h.layer.has_conv or h.layer.has_dense):
        return PYCNN_ERROR_HANDLE
    w = <Filters *> calloc(1, sizeof(Filters))
    if w is NULL:
        return PYCNN_ERROR_MEMORY
    status = start_filters(w, h, <const char *> filters)
    if status == PYCNN_OK:
        status = keep(w, h)
    if status == PYCNN_OK:
        packed[0] = <pycnn_filters *> w
    else:
        destroy_filters(<pycnn_filters *> w)
    return status


cdef void destroy_filters(pycnn_filters *packed) noexcept nogil:
    cdef Filters *w = <Filters *> packed
    if w is not NULL and w.tag == FILTERS_TAG:
        w.tag = 0
        end_filters(w)
        free(w)


# ---- calls --------------------------------------------------------------------------------------

cdef inline bint apart(const void *a, Py_ssize_t a_low, Py_ssize_t a_high, const void *b,
                       Py_ssize_t b_low, Py_ssize_t b_high) noexcept nogil:
    """Whether the bytes [low, high) from two addresses on are all different."""
    return (<uintptr_t> a + <size_t> a_high <= <uintptr_t> b + <size_t> b_low
            or <uintptr_t> b + <size_t> b_high <= <uintptr_t> a + <size_t> a_low)


cdef int check_arrays(const Handle *h, const char *x, const char *bias, const char *out,
                      const char *workspace, size_t workspace_bytes) noexcept nogil:
    cdef const Layout *of_x = &h.layer.x
    cdef const Layout *of_out = &h.layer.out
    cdef Py_ssize_t bias_bytes = of_out.shape[3] * of_out.itemsize
    if x is NULL or out is NULL:
        return PYCNN_ERROR_NULL
    if ((<uintptr_t> x | <uintptr_t> out | <uintptr_t> bias) & <size_t> (of_x.itemsize - 1)) != 0:
        return PYCNN_ERROR_ALIGNMENT
    if not apart(x, of_x.low, of_x.high, out, of_out.low, of_out.high):
        return PYCNN_ERROR_OVERLAP
    if bias is not NULL and not apart(bias, 0, bias_bytes, out, of_out.low, of_out.high):
        return PYCNN_ERROR_OVERLAP
    if workspace is NULL:
        return PYCNN_OK
    if workspace_bytes < workspace_bytes_of(h):
        return PYCNN_ERROR_WORKSPACE
    workspace_bytes = workspace_bytes_of(h)
    if not (apart(x, of_x.low, of_x.high, workspace, 0, workspace_bytes)
            and apart(out, of_out.low, of_out.high, workspace, 0, workspace_bytes)
            and (bias is NULL or apart(bias, 0, bias_bytes, workspace, 0, workspace_bytes))):
        return PYCNN_ERROR_OVERLAP
    return PYCNN_OK


cdef int run_plan(int type, const pycnn_plan *plan, const pycnn_filters *filters, const void *x,
                  const void *bias, void *out, void *workspace,
                  size_t workspace_bytes) noexcept nogil:
    cdef const Handle *h = <const Handle *> plan
    cdef const Filters *w = <const Filters *> filters
    cdef char *space = NULL
    cdef char *parts
    cdef int status
    status = check_plan(plan)
    if status != PYCNN_OK:
        return status
    if h.layer.type != type:
        return PYCNN_ERROR_HANDLE
    if h.layer.has_conv or h.layer.has_dense:
        if w is NULL:
            return PYCNN_ERROR_NULL
        if w.tag != FILTERS_TAG or memcmp(&w.key, &h.key, sizeof(Key)) != 0:
            return PYCNN_ERROR_HANDLE
    elif w is not NULL or bias is not NULL:
        return PYCNN_ERROR_HANDLE
    if h.layer.empty:
        return PYCNN_OK
    status = check_arrays(h, <const char *> x, <const char *> bias, <const char *> out,
                          <const char *> workspace, workspace_bytes)
    if status != PYCNN_OK:
        return status
    if workspace is NULL:
        workspace = space = <char *> aligned_alloc(workspace_bytes_of(h))
        if space is NULL:
            return PYCNN_ERROR_MEMORY
    parts = <char *> ((<uintptr_t> workspace + 63) & ~<uintptr_t> 63)
    status = run_strided(h, w, <const char *> x, <const char *> bias, <char *> out, parts)
    aligned_free(space)
    return status


cdef int run_strided(const Handle *h, const Filters *w, const char *x, const char *bias, char *out,
                     char *parts) noexcept nogil:
    """A checked call; the arrays may have gaps."""
    cdef char *result = out
    cdef int outcome
    if h.x_bytes:
        gather(&h.layer.x, x, parts)
        x = parts
        parts += h.x_bytes
    if h.out_bytes:
        result = parts
        parts += h.out_bytes
    outcome = run_layer(h, w, x, bias, result, parts)
    if h.out_bytes and outcome == DONE:
        scatter(&h.layer.out, result, out)
    return PYCNN_OK if outcome == DONE else PYCNN_ERROR_MEMORY


cdef int run_layer(const Handle *h, const Filters *w, const char *x, const char *bias, char *out,
                   char *parts) noexcept nogil:
    """Arrays in C order; an `Outcome`."""
    cdef const Layer *layer = &h.layer
    cdef char *maps = out
    cdef int outcome = DONE
    if layer.has_dense:
        return run_dense(&layer.dense, x, w.weights.data, bias, layer.activation, layer.slope, out,
                         parts)
    if layer.has_conv:
        if layer.has_pool:
            maps = parts
            parts += h.maps_bytes
        # Weights are shared; what is made on demand in them is published by compare-and-swap.
        outcome = run(plan_of(layer), <Weights *> &w.weights, x, bias, layer.activation,
                      layer.slope, maps, layer.conv.geometry.n, parts)
        x = maps
    if layer.has_pool and outcome == DONE:
        outcome = run_pooling(&layer.pool, x, out, parts)
    return outcome


cdef int run_once(Kind kind, int type, const void *params, const void *x, const void *filters,
                  const void *bias, void *out) noexcept nogil:
    cdef Handle h
    cdef Filters w
    cdef bint pool = kind == MAX_POOL or kind == AVG_POOL
    cdef int status = start(&h, kind, type, params)
    memset(&w, 0, sizeof(Filters))
    if status == PYCNN_OK and not pool:
        if h.layer.has_dense:
            use_once(&h.layer.dense)
        status = start_filters(&w, &h, <const char *> filters)
    if status == PYCNN_OK:
        status = run_plan(type, <pycnn_plan *> &h, NULL if pool else <pycnn_filters *> &w, x, bias,
                          out, NULL, 0)
    end_filters(&w)
    free_layer(&h.layer)
    return status
