"""The arrays of a call: inputs as the loops read them, where the result goes, and its memory."""

import os

cimport numpy as cnp
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport uintptr_t
from libc.string cimport memcpy, memmove, memset, strcpy

from pycnn._engine cimport CACHE_LINE, LINE_ROOM, begin_line, block_of, line_in
from pycnn._header cimport PYCNN_OK
from pycnn._layout cimport Layout, gather, has_planes, lay_out, scatter

cnp.import_array()


# ---- memory -------------------------------------------------------------------------------------
#
# NumPy's memory starts 16 bytes behind a cache line as a rule, so that every second vector of 32
# bytes, and every one of 64, is stored into two lines. Large results are NumPy's memory from the
# next line on, by a handler of its NEP 49: they own it, as any array. Those that find room in the
# region of kernels/region.h take that instead.

cdef extern from "numpy/arrayobject.h":
    ctypedef struct Allocator "PyDataMemAllocator":
        void *ctx
        void *(*malloc)(void *ctx, size_t size) noexcept
        void *(*calloc)(void *ctx, size_t n, size_t size) noexcept
        void *(*realloc)(void *ctx, void *line, size_t size) noexcept
        void (*free)(void *ctx, void *line, size_t size) noexcept
    ctypedef struct Handler "PyDataMem_Handler":
        char name[127]
        unsigned char version
        Allocator allocator
    PyObject *PyDataMem_DefaultHandler
    object PyDataMem_GetHandler()
    object PyDataMem_SetHandler(object handler)

cdef Allocator numpys = (
    <Handler *> PyCapsule_GetPointer(<object> PyDataMem_DefaultHandler, "mem_handler")).allocator


cdef extern from "region.h" nogil:
    enum:
        LARGE_BYTES "PYCNN_UNIT"    # below, to ask for such memory takes longer than it saves
    ctypedef struct pycnn_region:
        pass
    void *pycnn_take(pycnn_region *region, size_t size)
    bint pycnn_is_within(const pycnn_region *region, const void *memory)
    size_t pycnn_room(pycnn_region *region, void *result)
    void pycnn_give_back(pycnn_region *region, void *result)
    void pycnn_drop_free_units(pycnn_region *region)

cdef pycnn_region region


def drop_freed():
    """Give the memory that only freed results had back to the system."""
    pycnn_drop_free_units(&region)


# Parent and child would copy what nobody reads, a page at a time, as soon as one writes to it.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=drop_freed)


cdef void *line_malloc(void *ctx, size_t size) noexcept:
    cdef void *line = pycnn_take(&region, size)
    if line is NULL:
        line = begin_line(<char *> numpys.malloc(numpys.ctx, size + LINE_ROOM))
    return line


cdef void *line_calloc(void *ctx, size_t n, size_t size) noexcept:
    cdef void *line
    if size > 0 and n > (<size_t> -1 - LINE_ROOM) // size:
        return NULL
    line = pycnn_take(&region, n * size)
    if line is NULL:
        return begin_line(<char *> numpys.calloc(numpys.ctx, n * size + LINE_ROOM, 1))
    return memset(line, 0, n * size)


cdef void *line_realloc(void *ctx, void *line, size_t size) noexcept:
    cdef char *block
    cdef void *moved
    cdef size_t before, room
    if line is NULL:
        return line_malloc(ctx, size)
    if pycnn_is_within(&region, line):
        room = pycnn_room(&region, line)
        if room // 2 < size <= room:
            return line
        moved = line_malloc(ctx, size)
        if moved is not NULL:
            memcpy(moved, line, min(room, size))
            pycnn_give_back(&region, line)
        return moved
    before = <char *> line - block_of(line)
    block = <char *> numpys.realloc(numpys.ctx, block_of(line), size + LINE_ROOM)
    if block is not NULL:
        memmove(line_in(block), block + before, size)
    return begin_line(block)


cdef void line_free(void *ctx, void *line, size_t size) noexcept:
    if pycnn_is_within(&region, line):
        pycnn_give_back(&region, line)
    elif line is not NULL:
        numpys.free(numpys.ctx, block_of(line), size + LINE_ROOM)


cdef Handler handler
strcpy(handler.name, "pycnn_cache_lines")
handler.version = 1
handler.allocator.ctx = NULL
handler.allocator.malloc = line_malloc
handler.allocator.calloc = line_calloc
handler.allocator.realloc = line_realloc
handler.allocator.free = line_free
cdef object on_cache_lines = PyCapsule_New(&handler, "mem_handler", NULL)


# ---- inputs -------------------------------------------------------------------------------------

cdef object carray(array, int type_num, Py_ssize_t size):
    """`array` in C order, aligned, in native bytes and of this type; itself when it already is.

    Its size is compared with the plan's: another thread may have changed the array since.
    """
    if cnp.PyArray_TYPE(array) != type_num or not cnp.PyArray_ISCARRAY_RO(array):
        array = copied(array, type_num)
    if cnp.PyArray_SIZE(array) != size:
        raise ValueError(
            f"an array of {cnp.PyArray_SIZE(array)} elements where {size} were checked")
    return array


cdef object copied(array, int type_num):
    cdef Layout layout
    cdef char *planes
    cdef char *pixels
    if cnp.PyArray_TYPE(array) != type_num or not is_of_planes(array, &layout):
        return cnp.PyArray_FROMANY(array, type_num, 0, 0,
                                   cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_ENSUREARRAY
                                   | cnp.NPY_ARRAY_FORCECAST)
    result = empty(cnp.PyArray_NDIM(array), cnp.PyArray_DIMS(array),
                   cnp.PyArray_DescrFromType(type_num))
    # Memory was asked for, and that may run anything.
    if not is_of_planes(array, &layout) or layout.n_bytes != cnp.PyArray_NBYTES(result):
        raise ValueError("an array that changed while it was copied")
    planes, pixels = <char *> cnp.PyArray_DATA(array), <char *> cnp.PyArray_DATA(result)
    with nogil:
        gather(&layout, planes, pixels)
    return result


cdef bint is_of_planes(array, Layout *layout) noexcept:
    """Whether it is a view of planes, as images of other libraries are; NumPy copies the others."""
    cdef Py_ssize_t strides[4]
    cdef int missing = 4 - cnp.PyArray_NDIM(array), i
    if missing < 0 or cnp.PyArray_SIZE(array) == 0 or not cnp.PyArray_ISBEHAVED_RO(array):
        return False
    for i in range(4):
        layout.shape[i] = cnp.PyArray_DIM(array, i - missing) if i >= missing else 1
        strides[i] = cnp.PyArray_STRIDE(array, i - missing) if i >= missing else 0
    layout.itemsize = cnp.PyArray_ITEMSIZE(array)
    return lay_out(layout, strides, False) == PYCNN_OK and has_planes(layout)


# ---- results ------------------------------------------------------------------------------------

def result_for(out, tuple shape not None, cnp.dtype dtype not None, tuple inputs not None,
               bint elementwise=False):
    """A new array of this shape and dtype, in native bytes, or `out` where that can be written to.

    None for any other `out`: one that breaks the rules, has gaps, is a subclass, or may have memory
    in common with an array among the inputs. An `elementwise` result may have all of an input's
    memory, each element that of the one it is computed from.
    """
    cdef cnp.npy_intp sizes[MOST_DIMENSIONS]
    cdef int n_axes = len(shape), axis
    if n_axes > MOST_DIMENSIONS:
        raise ValueError(f"a result of {n_axes} dimensions")
    for axis in range(n_axes):
        sizes[axis] = shape[axis]
    return placed(out, n_axes, sizes, dtype, inputs, elementwise)


def copy_out(cnp.ndarray result not None, cnp.ndarray out not None):
    """`out[...] = result`, which is in C order.

    `out` was checked, but another thread may have changed it since.
    """
    cdef Layout layout
    cdef char *planes
    cdef char *pixels
    if (cnp.PyArray_CheckExact(out) and cnp.PyArray_ISWRITEABLE(out)
            and cnp.PyArray_TYPE(out) == cnp.PyArray_TYPE(result)
            and cnp.PyArray_SAMESHAPE(out, result) and is_of_planes(out, &layout)):
        planes, pixels = <char *> cnp.PyArray_DATA(out), <char *> cnp.PyArray_DATA(result)
        with nogil:
            scatter(&layout, pixels, planes)
    else:
        out[...] = result


cdef object placed(out, int n_axes, const cnp.npy_intp *sizes, cnp.dtype dtype, tuple inputs,
                   bint elementwise):
    """`result_for`, with a shape that C can read."""
    cdef int axis
    if out is None and elementwise and not begins_line(inputs[0]):
        # As likely as not it lies as its input does: then neither's vectors cross a line.
        return cnp.PyArray_EMPTY(n_axes, sizes, dtype.num, False)
    if out is None:
        return empty(n_axes, sizes, dtype)
    if not (cnp.PyArray_CheckExact(out) and cnp.PyArray_ISCARRAY(out)
            and cnp.PyArray_TYPE(out) == dtype.num and cnp.PyArray_NDIM(out) == n_axes):
        return None
    for axis in range(n_axes):
        if cnp.PyArray_DIM(out, axis) != sizes[axis]:
            return None
    for x in inputs:
        if (cnp.PyArray_Check(x) and may_share_memory(x, out)
                and not (elementwise and is_same_memory(x, out))):
            return None
    return out


cdef object empty(int n_axes, const cnp.npy_intp *sizes, cnp.dtype dtype):
    """A new array; a large one begins a cache line, unless the caller has a memory handler."""
    cdef double n_bytes = dtype.itemsize
    cdef int axis
    for axis in range(n_axes):
        n_bytes *= sizes[axis]
    if n_bytes < LARGE_BYTES or PyDataMem_GetHandler() is not <object> PyDataMem_DefaultHandler:
        return cnp.PyArray_EMPTY(n_axes, sizes, dtype.num, False)
    theirs = PyDataMem_SetHandler(on_cache_lines)
    try:
        return cnp.PyArray_EMPTY(n_axes, sizes, dtype.num, False)
    finally:
        PyDataMem_SetHandler(theirs)


cdef bint begins_line(x) noexcept:
    return not cnp.PyArray_Check(x) or <uintptr_t> cnp.PyArray_DATA(x) % CACHE_LINE == 0


cdef bint is_same_memory(x, out) noexcept:
    """Whether `x` has all of its elements where `out`, which has C order, has the same ones."""
    return (cnp.PyArray_DATA(x) == cnp.PyArray_DATA(out)
            and cnp.PyArray_SIZE(x) == cnp.PyArray_SIZE(out)
            and cnp.PyArray_TYPE(x) == cnp.PyArray_TYPE(out) and cnp.PyArray_ISCARRAY_RO(x))


cdef bint may_share_memory(x, out) noexcept:
    """Whether bytes of `out`, which has no gaps, lie between the first and the last of `x`."""
    cdef uintptr_t start = <uintptr_t> cnp.PyArray_DATA(out)
    cdef uintptr_t end = start + <uintptr_t> cnp.PyArray_NBYTES(out)
    cdef uintptr_t low = <uintptr_t> cnp.PyArray_DATA(x)
    cdef uintptr_t high = low + <uintptr_t> cnp.PyArray_ITEMSIZE(x), reach
    cdef int axis
    for axis in range(cnp.PyArray_NDIM(x)):
        if cnp.PyArray_DIM(x, axis) == 0:
            return False
        reach = <uintptr_t> (cnp.PyArray_DIM(x, axis) - 1) * <uintptr_t> cnp.PyArray_STRIDE(x, axis)
        if cnp.PyArray_STRIDE(x, axis) < 0:
            low += reach
        else:
            high += reach
    return low < end and start < high
