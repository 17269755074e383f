"""Reading arrays of numbers in NumPy's ``.npy`` format from files that nobody vouches for.

`numpy.lib.format` evaluates the header as Python source, whose failures are a dozen kinds of
exceptions, and allocates whatever size it claims. NumPy writes the header of plain numbers in
one way only (NEP 1), so here it is matched, never evaluated, and no array is made before the
file has proved large enough to fill it.
"""

from __future__ import annotations

import math
import re
import sys
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from pycnn._disk import BadFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pycnn._typing import Shape

__all__ = ["CHUNK", "check_shape", "read_array"]

# How many bytes are read at once.
CHUNK = 2**20

# The most dimensions every supported NumPy can have.
MAX_NDIM = 32

_MAGIC = b"\x93NUMPY\x01\x00"

_HEADER = re.compile(
    rb"\{'descr': '([^']*)', 'fortran_order': (True|False), "
    rb"'shape': \(((?:\d{1,20}, )*\d{1,20},?|)\), \} *\n"
)

_CODES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
# By what NumPy writes for them: '<f4', '|u1' ...
_DTYPES = {dtype.str: dtype for dtype in map(np.dtype, [o + c for o in "<>" for c in _CODES])}


def check_shape(shape: Shape, itemsize: int) -> int:
    """How many bytes an array has; BadFile when there can be no such array."""
    if len(shape) > MAX_NDIM:
        raise BadFile(f"it has {len(shape)} dimensions; expected at most {MAX_NDIM}")
    # NumPy counts an empty dimension as 1 here.
    if math.prod(max(size, 1) for size in shape) * itemsize > sys.maxsize:
        raise BadFile(f"its shape {shape} is too large; expected at most {sys.maxsize} bytes")
    return math.prod(shape) * itemsize


def read_array(stream: IO[bytes], n_bytes: int) -> NDArray[Any]:
    """Read an array of real numbers from an ``.npy`` file.

    Parameters
    ----------
    stream : binary file
        Where the ``.npy`` file begins.
    n_bytes : int
        How long it is: what the disk says, not what the file says.

    Returns
    -------
    numpy.ndarray
        Contiguous in C order and native, whatever the file's orders.

    Raises
    ------
    BadFile
        If it does not hold one array of bool, integers, float16, float32 or float64 and
        nothing else.
    """
    magic, length = stream.read(len(_MAGIC)), int.from_bytes(stream.read(2), "little")
    if magic != _MAGIC:
        raise BadFile(f"it begins with {magic!r}; expected {_MAGIC!r}, as numpy.save writes")
    header = stream.read(length)
    match = _HEADER.fullmatch(header)
    if match is None:
        raise BadFile(
            f"its .npy header is {header[:60]!r}; expected dtype, order and shape of an array "
            "of numbers, as numpy.save writes them"
        )
    descr = match[1].decode("latin-1")
    if descr not in _DTYPES:
        raise BadFile(
            f"its dtype is {descr!r}; expected bool, integers, float16, float32 or float64"
        )
    dtype = _DTYPES[descr]
    shape = tuple(int(size) for size in match[3].split(b",") if size)
    n_expected = check_shape(shape, dtype.itemsize)
    n_data = n_bytes - len(_MAGIC) - 2 - length
    if n_data != n_expected:
        raise BadFile(
            f"it holds {max(n_data, 0)} bytes of numbers; expected {n_expected} for shape {shape} "
            f"and dtype {dtype}"
        )
    data = np.empty(n_data, np.uint8)
    for start in range(0, n_data, CHUNK):
        piece = data[start : start + CHUNK]
        read = stream.read(len(piece))
        if len(read) != len(piece):
            raise BadFile(f"it ends after {start + len(read)} of {n_data} bytes of numbers")
        piece[:] = np.frombuffer(read, np.uint8)
    flat = data.view(dtype)
    array = flat.reshape(shape[::-1]).T if match[2] == b"True" else flat.reshape(shape)
    return np.asarray(array, dtype.newbyteorder("="), order="C")
