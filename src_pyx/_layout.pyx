"""Images in a caller's memory: their strides checked, copied to C order and back.

The loops read C order only. A copy costs a pass over memory that the sums over windows then find in
the cache; that of planes, as other libraries have them, some tenths of a nanosecond a number.
"""

from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.string cimport memcpy, memset

from pycnn._engine cimport PYCNN_f32, PYCNN_f64, kernels_of, pycnn_kernels
from pycnn._header cimport PYCNN_ERROR_OVERFLOW, PYCNN_ERROR_STRIDES, PYCNN_OK

# Internal sizes (padded bands, packed panels) are a few times those of the arrays.
cdef Py_ssize_t LARGEST_BYTES = PY_SSIZE_T_MAX // 16


cdef int lay_out(Layout *layout, const Py_ssize_t *strides, bint distinct) noexcept nogil:
    """Completes a layout of a checked shape and itemsize; four zeros, or NULL, stand for C order.

    `distinct`: elements must not share memory.
    """
    cdef Py_ssize_t n_bytes = layout.itemsize, extent
    cdef bint given = False
    cdef int i
    for i in range(3, -1, -1):
        layout.natural[i] = n_bytes
        if layout.shape[i] > LARGEST_BYTES // n_bytes:
            return PYCNN_ERROR_OVERFLOW
        n_bytes *= layout.shape[i]
        given |= strides is not NULL and strides[i] != 0
    layout.n_bytes = n_bytes
    layout.low, layout.high = 0, layout.itemsize
    layout.dense = True
    for i in range(4):
        layout.strides[i] = strides[i] if given else layout.natural[i]
        if layout.strides[i] % layout.itemsize != 0:
            return PYCNN_ERROR_STRIDES
        if layout.shape[i] == 1:    # a stride that is never taken may be any number
            layout.strides[i] = layout.natural[i]
        extent = layout.strides[i]
        if not -LARGEST_BYTES // layout.shape[i] < extent < LARGEST_BYTES // layout.shape[i]:
            return PYCNN_ERROR_OVERFLOW
        extent *= layout.shape[i] - 1
        layout.low += min(extent, 0)
        layout.high += max(extent, 0)
        layout.dense &= layout.strides[i] == layout.natural[i]
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


# ---- copies -------------------------------------------------------------------------------------
#
# An image is copied in pieces of some of its axes, which the other axes lead through: elements that
# lie together, or planes of them whose pixels shall have one of each.

cdef struct Piece:
    bint within[4]                  # the axes of a piece
    Py_ssize_t n_bytes              # of elements that lie together; 0: planes
    Py_ssize_t planes, pixels
    Py_ssize_t plane_step           # in elements: from plane to plane, whose pixels lie together,
    Py_ssize_t pixel_step           # and from pixel to pixel in C order
    const pycnn_kernels *kernels


cdef bint has_planes(const Layout *layout) noexcept nogil:
    """Whether elements of one channel, not of one pixel, lie together, and can be copied so."""
    cdef Piece piece
    return find_planes(layout, &piece)


cdef bint find_planes(const Layout *layout, Piece *piece) noexcept nogil:
    cdef int channel = 3, pixel, i
    if layout.itemsize != 4 and layout.itemsize != 8:
        return False
    while channel > 0 and layout.shape[channel] == 1:
        channel -= 1
    pixel = channel - 1
    while pixel >= 0 and (layout.shape[pixel] == 1 or layout.strides[pixel] != layout.itemsize):
        pixel -= 1
    if pixel < 0 or layout.strides[channel] == layout.itemsize:
        return False
    # The bits of any type of this size are moved as those of a float.
    piece.kernels = kernels_of(PYCNN_f32 if layout.itemsize == 4 else PYCNN_f64)
    piece.n_bytes = 0
    piece.planes, piece.pixels = layout.shape[channel], layout.shape[pixel]
    piece.plane_step = layout.strides[channel] // layout.itemsize
    piece.pixel_step = layout.natural[pixel] // layout.itemsize
    for i in range(4):
        piece.within[i] = i == pixel or i == channel
    while pixel > 0 and (layout.shape[pixel - 1] == 1
                         or layout.strides[pixel - 1] == piece.pixels * layout.itemsize):
        pixel -= 1
        piece.within[pixel] = True
        piece.pixels *= layout.shape[pixel]
    # Many small pieces take longer than their elements one by one.
    return piece.pixel_step == piece.planes or piece.pixels >= piece.kernels.lanes


cdef void find_run(const Layout *layout, Piece *piece) noexcept nogil:
    cdef int i
    piece.n_bytes = layout.itemsize
    piece.within[0] = piece.within[1] = piece.within[2] = piece.within[3] = False
    for i in range(3, -1, -1):
        if layout.strides[i] != piece.n_bytes:
            break
        piece.within[i] = True
        piece.n_bytes *= layout.shape[i]


cdef inline void copy_run(const char *source, char *target, Py_ssize_t n_bytes) noexcept nogil:
    if n_bytes == 4:
        memcpy(target, source, 4)
    elif n_bytes == 8:
        memcpy(target, source, 8)
    else:
        memcpy(target, source, n_bytes)


cdef inline void gather_piece(const Piece *p, const char *image, char *dense) noexcept nogil:
    if p.n_bytes > 0:
        copy_run(image, dense, p.n_bytes)
    elif p.pixel_step == p.planes:
        p.kernels.interleave(image, p.planes, p.pixels, dense, p.plane_step)
    else:
        p.kernels.transpose(image, p.plane_step, p.planes, p.pixels, dense, p.pixel_step)


cdef inline void scatter_piece(const Piece *p, const char *dense, char *image) noexcept nogil:
    if p.n_bytes > 0:
        copy_run(dense, image, p.n_bytes)
    elif p.pixel_step == p.planes:
        p.kernels.split(dense, p.planes, p.planes * p.pixels, image, p.plane_step)
    else:
        p.kernels.transpose(dense, p.pixel_step, p.pixels, p.planes, image, p.plane_step)


cdef void copy_pieces(const Layout *layout, char *image, char *dense, bint gathers) noexcept nogil:
    cdef Piece piece
    cdef Py_ssize_t index[4]
    cdef int i
    memset(&piece, 0, sizeof(Piece))
    if not find_planes(layout, &piece):
        find_run(layout, &piece)
    index[0] = index[1] = index[2] = index[3] = 0
    while True:
        if gathers:
            gather_piece(&piece, image, dense)
        else:
            scatter_piece(&piece, dense, image)
        for i in range(3, -1, -1):
            if piece.within[i]:
                continue
            image += layout.strides[i]
            dense += layout.natural[i]
            index[i] += 1
            if index[i] < layout.shape[i]:
                break
            image -= layout.shape[i] * layout.strides[i]
            dense -= layout.shape[i] * layout.natural[i]
            index[i] = 0
        else:
            return


cdef void gather(const Layout *layout, const char *image, char *dense) noexcept nogil:
    copy_pieces(layout, <char *> image, dense, True)


cdef void scatter(const Layout *layout, const char *dense, char *image) noexcept nogil:
    copy_pieces(layout, image, <char *> dense, False)
