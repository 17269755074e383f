"""The arrays of a call: inputs as the loops read them, and where the result goes."""

cimport numpy as cnp
from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.stdint cimport uintptr_t

cnp.import_array()

cdef enum:
    CACHE_LINE = 64
    SMALL_BYTES = 16384             # takes longer to align than stores across lines cost


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
    return cnp.PyArray_FROMANY(array, type_num, 0, 0,
                               cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_ENSUREARRAY
                               | cnp.NPY_ARRAY_FORCECAST)


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


cdef object empty(int n_axes, cnp.npy_intp *sizes, cnp.dtype dtype):
    """A new array from the start of a cache line, so that no store of a vector crosses one.

    NumPy's own memory starts 16 bytes behind one as a rule. A large array is a view of it.
    """
    cdef cnp.npy_intp n_bytes = dtype.itemsize, room, offset
    cdef int axis
    for axis in range(n_axes):
        if sizes[axis] != 0 and n_bytes > PY_SSIZE_T_MAX // 2 // sizes[axis]:
            n_bytes = 0                         # too many to address, as NumPy says below
        n_bytes *= sizes[axis]
    if n_bytes < SMALL_BYTES:
        return cnp.PyArray_EMPTY(n_axes, sizes, dtype.num, False)
    room = n_bytes + CACHE_LINE - 1
    memory = cnp.PyArray_EMPTY(1, &room, cnp.NPY_UINT8, False)
    offset = -<uintptr_t> cnp.PyArray_DATA(memory) & (CACHE_LINE - 1)
    array = cnp.PyArray_SimpleNewFromData(n_axes, sizes, dtype.num,
                                          cnp.PyArray_BYTES(memory) + offset)
    cnp.set_array_base(array, memory)
    return array


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
