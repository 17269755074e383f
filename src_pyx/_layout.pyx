"""Images in a caller's memory: their strides checked, copied to C order and back.

The loops read C order only. A copy costs a pass over memory that the sums over windows then find in
the cache.
"""

from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.string cimport memcpy

from pycnn._header cimport PYCNN_ERROR_OVERFLOW, PYCNN_ERROR_STRIDES, PYCNN_OK

# Internal sizes (padded bands, packed panels) are a few times those of the arrays.
cdef Py_ssize_t LARGEST_BYTES = PY_SSIZE_T_MAX // 16


cdef int lay_out(Layout *layout, const Py_ssize_t *strides, bint distinct) noexcept nogil:
    """Completes a layout of a checked shape and itemsize; four zeros, or NULL, stand for C order.

    `distinct`: elements must not share memory.
    """
    cdef Py_ssize_t natural[4]
    cdef Py_ssize_t n_bytes = layout.itemsize, extent
    cdef bint given = False
    cdef int i
    for i in range(3, -1, -1):
        natural[i] = n_bytes
        if layout.shape[i] > LARGEST_BYTES // n_bytes:
            return PYCNN_ERROR_OVERFLOW
        n_bytes *= layout.shape[i]
        given |= strides is not NULL and strides[i] != 0
    layout.n_bytes = n_bytes
    layout.low, layout.high = 0, layout.itemsize
    layout.dense = True
    for i in range(4):
        layout.strides[i] = strides[i] if given else natural[i]
        if layout.strides[i] % layout.itemsize != 0:
            return PYCNN_ERROR_STRIDES
        if layout.shape[i] == 1:    # a stride that is never taken may be any number
            layout.strides[i] = natural[i]
        extent = layout.strides[i]
        if not -LARGEST_BYTES // layout.shape[i] < extent < LARGEST_BYTES // layout.shape[i]:
            return PYCNN_ERROR_OVERFLOW
        extent *= layout.shape[i] - 1
        layout.low += min(extent, 0)
        layout.high += max(extent, 0)
        layout.dense &= layout.strides[i] == natural[i]
    return PYCNN_ERROR_STRIDES if distinct and not are_distinct(layout) else PYCNN_OK


cdef bint are_distinct(const Layout *layout) noexcept nogil:
    """Whether each stride steps over all that the smaller ones reach."""
    cdef Py_ssize_t reach = layout.itemsize, smallest, stride
    cdef bint seen[4]
    cdef int i, best, _
    seen[0] = seen[1] = seen[2] = seen[3] = False
    for _ in range(4):
        best = -1
        smallest = PY_SSIZE_T_MAX
        for i in range(4):
            stride = max(layout.strides[i], -layout.strides[i])
            if not seen[i] and stride < smallest:
                smallest, best = stride, i
        seen[best] = True
        if layout.shape[best] > 1 and smallest < reach:
            return False
        reach += smallest * (layout.shape[best] - 1)
    return True


cdef int walked_axes(const Layout *layout, Py_ssize_t *run) noexcept nogil:
    """How many axes lead from one run of bytes that lie together to the next."""
    cdef int axes = 4
    run[0] = layout.itemsize
    while axes > 0 and layout.strides[axes - 1] == run[0]:
        axes -= 1
        run[0] *= layout.shape[axes]
    return axes


cdef inline void copy_run(const char *source, char *target, Py_ssize_t n_bytes) noexcept nogil:
    if n_bytes == 4:
        memcpy(target, source, 4)
    elif n_bytes == 8:
        memcpy(target, source, 8)
    else:
        memcpy(target, source, n_bytes)


cdef void copy_runs(const Layout *layout, char *image, char *dense, bint gathers) noexcept nogil:
    cdef Py_ssize_t index[4]
    cdef Py_ssize_t run, _run
    cdef int axes = walked_axes(layout, &run), axis
    index[0] = index[1] = index[2] = index[3] = 0
    for _run in range(layout.n_bytes // run):
        if gathers:
            copy_run(image, dense, run)
        else:
            copy_run(dense, image, run)
        dense += run
        for axis in range(axes - 1, -1, -1):
            image += layout.strides[axis]
            index[axis] += 1
            if index[axis] < layout.shape[axis]:
                break
            image -= layout.shape[axis] * layout.strides[axis]
            index[axis] = 0


cdef void gather(const Layout *layout, const char *image, char *dense) noexcept nogil:
    copy_runs(layout, <char *> image, dense, True)


cdef void scatter(const Layout *layout, const char *dense, char *image) noexcept nogil:
    copy_runs(layout, image, <char *> dense, False)
