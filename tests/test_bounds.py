"""Nothing is read or written past either end of an array.

Run as a script it is the child process: image, filters, bias and result lie flush against pages
that may not be touched, first at their ends, then at their starts. One byte too far ends it.
"""

import ctypes
import itertools
import mmap
import signal
import sys

import numpy as np
from children import run, run_well

import pycnn

PAGE = mmap.PAGESIZE


class Fence:
    """Memory whose first and last page may be neither read nor written."""

    def __init__(self, n_bytes):
        self.n_bytes = -(-max(n_bytes, 1) // PAGE) * PAGE
        self.map = mmap.mmap(-1, self.n_bytes + 2 * PAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for page in (self.address, self.address + PAGE + self.n_bytes):
            if libc.mprotect(page, PAGE, 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")

    def place(self, shape, dtype, at_end):
        """Return an array that touches the last, or the first, forbidden page."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape))
        offset = PAGE + (self.n_bytes - size * dtype.itemsize if at_end else 0)
        return np.frombuffer(self.map, dtype, size, offset).reshape(shape)


FENCES = {}


def fenced(values, name, at_end):
    """Copy `values` to the fence called `name`."""
    fence = FENCES.get(name)
    if fence is None or fence.n_bytes < values.nbytes:
        fence = FENCES[name] = Fence(max(values.nbytes, 64 * PAGE))
    array = fence.place(values.shape, values.dtype, at_end)
    array[...] = values
    return array


def check(function, arguments, **kwargs):
    """Compare a call between fences with the same call on common memory."""
    expected = function(*arguments, **kwargs)
    for at_end in (True, False):
        placed = [
            fenced(a, f"input {i}", at_end) if isinstance(a, np.ndarray) else a
            for i, a in enumerate(arguments)
        ]
        out = fenced(np.full(expected.shape, 113, expected.dtype), "out", at_end)
        function(*placed, **kwargs, out=out)
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(function(*placed, **kwargs), expected)
    return 1


def convolutions():
    rng = np.random.default_rng(5)

    def array(shape, dtype):
        return rng.integers(-9, 10, shape).astype(dtype)

    calls = 0
    sizes = [1, 2, 3, 4, 5, 7, 8, 9, 13, 15, 16, 17, 24, 31, 32, 33, 40, 47, 63, 64, 65]
    for dtype in ("float32", "float64"):
        for n in sizes:
            bias = array((n,), dtype)
            for channels in (1, 3, 8, 17):
                image, filters = array((4, 18, channels), dtype), array((n, 3, 3, channels), dtype)
                calls += check(pycnn.conv2d, (image, filters, bias))
                padding = ((3, 0), (1, 3))  # too much for the matrix unit, not for Winograd's tiles
                high = {"padding": padding, "precision": "high"}
                calls += check(pycnn.conv2d, (image, filters, bias), **high)
                calls += check(pycnn.conv_relu_pool, (image, filters, bias), **high)
            for few in (1, 2, 3, 5):
                image, filters = array((3, 17, n), dtype), array((few, 1, 1, n), dtype)
                calls += check(pycnn.conv2d, (image, filters, None))
            image, filters = array((3, 17, n), dtype), array((33, 2, 3, n), dtype)
            calls += check(pycnn.conv2d, (image, filters, None), padding=1, stride=2)
            image, filters = array((4, 9, n), dtype), array((n, 3, 3, 1), dtype)
            calls += check(pycnn.conv2d, (image, filters, bias), groups=n, activation="relu")
            if n % 2 == 0:
                filters = array((6, 3, 3, n // 2), dtype)
                calls += check(pycnn.conv2d, (image, filters, None), groups=2, padding="same")
        for width in range(3, 70):
            image = array((4, width), dtype)
            for n in (1, 2, 9):
                calls += check(pycnn.conv2d, (image, array((n, 3, 3), dtype), None))
            image, filters = array((3, width, 4), dtype), array((6, 3, 3, 4), dtype)
            calls += check(pycnn.conv2d, (image, filters, None), dilation=(1, 2), padding=2)
    return calls


def others():
    rng = np.random.default_rng(6)
    calls = 0
    dtypes = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
    for dtype in [*dtypes, "float16", "float32", "float64"]:
        for n in [*range(1, 20), 31, 32, 33, 63, 64, 65]:
            flat = rng.integers(0, 99, n).astype(dtype)
            calls += check(pycnn.relu, (flat,)) + check(pycnn.leaky_relu, (flat,))
            calls += check(pycnn.sigmoid, (flat,)) + check(pycnn.softmax, (flat,))
            for shape in [(5, n + 2), (4, 5, n)]:
                image = rng.integers(0, 99, shape).astype(dtype)
                calls += check(pycnn.max_pool2d, (image, 3, 2), padding=1)
                calls += check(pycnn.max_pool2d, (image, 2, 1), dilation=2)
                calls += check(pycnn.avg_pool2d, (image, 3, 1))
            for shape in [(n, 7), (n, n), (5, n)]:
                weights = rng.integers(0, 9, shape).astype(dtype)
                rows = rng.integers(0, 9, (3, shape[0])).astype(dtype)
                calls += check(pycnn.dense, (rows, weights, weights[0].copy()))
                calls += check(pycnn.dense, (rows[0], weights.T.copy().T))
    return calls


def views_of_planes():
    """Copied to pixels for the loops, and results back to planes."""
    rng = np.random.default_rng(7)
    calls = 0
    sizes = [*range(2, 20), 31, 32, 33]
    for dtype, n, pixels, at_end in itertools.product("fd", sizes, sizes, (True, False)):
        for shape, order in [
            ((n, 1, pixels), (1, 2, 0)),  # rows of pixels
            ((n, 3, pixels), (2, 1, 0)),  # columns of them
        ]:
            planes = rng.integers(-9, 10, shape).astype(dtype)
            image = fenced(planes, "input 0", at_end).transpose(order)
            out = fenced(np.full(shape, 113, dtype), "out", at_end)
            pycnn.max_pool2d(image, 1, out=out.transpose(order))
            np.testing.assert_array_equal(out, planes)
            calls += not image.flags.c_contiguous
    return calls


def touch():
    """Read one byte too far, to show that the fence is there."""
    array = fenced(np.zeros(8), "touched", at_end=True)
    print("before", flush=True)
    ctypes.string_at(array.ctypes.data, array.nbytes + 1)
    print("after", flush=True)


def test_the_fence_stops_a_process():
    child = run(__file__, "touch")
    assert child.returncode == -signal.SIGSEGV
    assert child.stdout == "before\n"


def test_convolutions_stay_inside_their_arrays():
    assert int(run_well(__file__, "convolutions")) > 700


def test_pools_and_activations_stay_inside_their_arrays():
    assert int(run_well(__file__, "others")) > 2000


def test_copies_of_planes_stay_inside_their_arrays():
    assert int(run_well(__file__, "views_of_planes")) > 3000


if __name__ == "__main__":
    functions = (touch, convolutions, others, views_of_planes)
    print({function.__name__: function for function in functions}[sys.argv[1]]())
