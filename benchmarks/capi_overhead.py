"""What a call through the C API costs beside the sums: from Cython, from Numba, from Python.

    taskset -c 1 python benchmarks/capi_overhead.py

A 1x1 image with one 1x1 filter has one product, so the time of its call is overhead; the other
layers are the smallest that people use. Needs Cython, Numba and a C compiler.
"""

import ctypes
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numba import njit
from numba.extending import get_cython_function_address

import pycnn

CALLS, ROUNDS = 20_000, 15
LAYERS = [(1, 1, 1, 1, 1), (1, 1, 16, 16, 1), (3, 3, 1, 1, 3), (8, 8, 1, 1, 3), (28, 28, 1, 6, 5)]

CYTHON = """
from libc.stdlib cimport free, malloc
from pycnn.capi cimport *

def calls(params, const float[::1] x, const float[::1] filters, float[::1] out, Py_ssize_t n):
    '''A function that makes n planned calls, and one that makes n calls at once.'''
    cdef pycnn_conv2d_params p = conv2d_params()
    cdef pycnn_plan *plan
    cdef pycnn_filters *packed
    cdef size_t n_bytes
    p.images = p.num_threads = 1
    p.height, p.width, p.channels, p.filters = params[:4]
    p.kernel_height = p.kernel_width = params[4]
    assert plan_conv2d_f32(&p, &plan) == 0 and pack_f32(plan, &filters[0], &packed) == 0
    plan_workspace(plan, &n_bytes)
    cdef void *workspace = malloc(n_bytes)

    def planned():
        cdef Py_ssize_t i
        cdef int status = 0
        with nogil:
            for i in range(n):
                status |= run_f32(plan, packed, &x[0], NULL, &out[0], workspace, n_bytes)
        assert status == 0

    def at_once():
        cdef Py_ssize_t i
        cdef int status = 0
        with nogil:
            for i in range(n):
                status |= conv2d_f32(&p, &x[0], &filters[0], NULL, &out[0])
        assert status == 0

    return planned, at_once, <size_t> plan, <size_t> packed, <size_t> workspace, n_bytes
"""


def compiled():
    """The Cython code above as a module, built against the pycnn that is imported."""
    folder = tempfile.mkdtemp()
    (Path(folder) / "overhead.pyx").write_text(CYTHON, encoding="utf-8")
    setup = (
        "from setuptools import Extension, setup\nfrom Cython.Build import cythonize\n"
        "import pycnn\nsetup(ext_modules=cythonize([Extension('overhead', ['overhead.pyx'],"
        "include_dirs=[pycnn.get_include()])], language_level=3))"
    )
    command = [sys.executable, "-c", setup, "build_ext", "--inplace"]
    env = {"PYTHONPATH": str(Path(pycnn.__file__).parents[1]), "PATH": "/usr/bin:/bin"}
    subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)
    sys.path.insert(0, folder)
    import overhead

    return overhead.calls


pointer = ctypes.c_void_p
run = ctypes.CFUNCTYPE(ctypes.c_int, *[pointer] * 6, ctypes.c_size_t)(
    get_cython_function_address("pycnn.capi", "run_f32")
)


@njit
def from_numba(n, plan, filters, x, out, workspace, n_bytes):
    status = 0
    for _ in range(n):
        status |= run(plan, filters, x, 0, out, workspace, n_bytes)
    return status


def nanoseconds(function, n):
    """The best time of one of n calls."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best / n * 1e9


def main():
    calls = compiled()
    print(
        f"{'layer (H, W, C -> F, k)':28s}{'cimport':>9s}{'Numba':>9s}{'at once':>9s}{'Python':>9s}"
    )
    for height, width, channels, n_filters, k in LAYERS:
        x = np.ones((height, width, channels), np.float32)
        filters = np.ones((n_filters, k, k, channels), np.float32)
        out = np.empty((height - k + 1, width - k + 1, n_filters), np.float32)
        layer = (height, width, channels, n_filters, k)
        planned, at_once, *handles, workspace, n_bytes = calls(
            layer, x.ravel(), filters.ravel(), out.ravel(), CALLS
        )
        arguments = (*handles, x.ctypes.data, out.ctypes.data, workspace, n_bytes)
        from_numba(1, *arguments)
        packed = pycnn.PackedFilters(filters)

        def in_python(x=x, packed=packed, out=out):
            for _ in range(CALLS // 10):
                pycnn.conv2d(x, packed, out=out)

        times = [
            nanoseconds(planned, CALLS),
            nanoseconds(lambda a=arguments: from_numba(CALLS, *a), CALLS),
            nanoseconds(at_once, CALLS),
            nanoseconds(in_python, CALLS // 10),
        ]
        name = f"{height}x{width}x{channels} -> {n_filters}, {k}x{k}"
        print(f"{name:28s}" + "".join(f"{t:6.0f} ns" for t in times))


if __name__ == "__main__":
    main()
