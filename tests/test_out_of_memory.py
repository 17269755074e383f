"""Each allocation of a call fails in turn: an error that says so, no crash, nothing kept."""

import ctypes
import os
import platform
import subprocess
import sys
from ctypes import byref, c_void_p
from functools import partial
from pathlib import Path

import c_api
import numpy as np
import pytest
from c_api import API, params
from children import run_well

import pycnn

SHIM = Path(__file__).parent / "native" / "failing_malloc.c"
FLOAT, DOUBLE = np.float32, np.float64


pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the shim takes the place of glibc's malloc"
)


@pytest.fixture(scope="module")
def preload(tmp_path_factory):
    """Return what LD_PRELOAD names, with the shim behind what is there."""
    library = tmp_path_factory.mktemp("shim") / "failing_malloc.so"
    command = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, str(SHIM), "-o", str(library), "-ldl"], check=True)
    return ":".join(filter(None, [os.environ.get("LD_PRELOAD"), str(library)]))


@pytest.mark.parametrize("kind", ["c_api", "python", "threads", "region"])
def test_allocations_that_fail(preload, kind):
    printed = run_well(__file__, kind, LD_PRELOAD=preload, PYCNN_NUM_THREADS="1")
    assert printed == "clean\n"


# ---- in the process with the shim ---------------------------------------------------------------


class Shim:
    """The preloaded library: how many allocations there were, and which one fails."""

    def __init__(self):
        library = ctypes.CDLL(None)
        self._failing, self._made, self._outstanding = (
            ctypes.c_long.in_dll(library, name) for name in ("failing", "made", "outstanding")
        )

    @property
    def made(self):
        """How many allocations the last attempt made, with the one that failed."""
        return self._made.value

    @property
    def outstanding(self):
        """How many of pycnn's blocks are not freed."""
        return self._outstanding.value

    def attempt(self, number, call):
        """Return what a call gives whose allocation of that number fails, none for None."""
        self._made.value = 0
        self._failing.value = -1 if number is None else number
        try:
            return call()
        finally:
            self._failing.value = -1


def fail_each(shim, name, call, forget=lambda: None):
    """Let each allocation of a call fail; return how many there are.

    The call returns the name of a status; `forget` empties the caches that it fills.
    """
    forget()
    before = shim.outstanding
    expected = shim.attempt(None, call)
    assert expected == "PYCNN_OK", f"{name}: {expected}"
    made = shim.made
    for number in range(made):
        forget()
        status = shim.attempt(number, call)
        assert status == "PYCNN_ERROR_MEMORY", f"{name}, allocation {number}: {status}"
        forget()
        kept = shim.outstanding - before
        assert kept == 0, f"{name}, allocation {number}: {kept} blocks are kept"
    assert shim.attempt(None, call) == "PYCNN_OK", f"{name}: not after an error"
    forget()
    assert shim.outstanding == before, f"{name}: keeps what it allocates"
    return made


def layers():
    """Yield (name, params, x, filters) of every kind of layer and algorithm of the C API."""
    rng = np.random.default_rng(6)

    def conv(shape, n_filters, kernel=3, dtype=FLOAT, name="conv2d", **members):
        x = rng.random(shape, FLOAT).astype(dtype)
        groups = members.get("groups", 1)
        filters = rng.random((n_filters, kernel, kernel, shape[3] // groups), FLOAT).astype(dtype)
        members |= dict(zip(("images", "height", "width", "channels"), shape))
        members |= dict(zip(("filters", "kernel_height", "kernel_width"), filters.shape))
        return name, params(name, **members), x, filters

    def infinite(layer):
        layer[2][..., 0] = np.inf
        return layer

    for dtype in (FLOAT, DOUBLE):
        yield conv((1, 30, 40, 1), 2, dtype=dtype)
        yield conv((2, 9, 9, 32), 40, dtype=dtype, pad_top=1)
        yield conv((1, 9, 9, 32), 32, dtype=dtype, groups=32)
        yield conv((1, 30, 40, 3), 8, dtype=dtype, name="conv_relu_pool")
        yield conv((1, 300, 20, 3), 70, dtype=dtype, name="conv_relu_pool", pool_height=290)
        yield (
            "dense",
            params("dense", vectors=2, inputs=30, outputs=7),
            *(rng.random(shape).astype(dtype) for shape in ((2, 30), (30, 7))),
        )
        for name in ("max_pool2d", "avg_pool2d"):
            image = {"images": 1, "height": 9, "width": 9, "channels": 3}
            yield name, params(name, **image), rng.random((1, 9, 9, 3)).astype(dtype), None
    for precision in (1, 2):
        yield conv((1, 16, 16, 32), 32, precision=precision)
        yield infinite(conv((1, 16, 16, 32), 32, precision=precision))
        yield infinite(conv((2, 16, 16, 32), 32, name="conv_relu_pool", precision=precision))
    # Images with gaps, which are copied into the workspace.
    name, given, x, filters = conv((1, 9, 9, 4), 4, x_strides=(0, 2 * 9 * 16, 16, 4))
    yield name, given, np.repeat(x, 2, axis=1)[:, ::2], filters


def status_of(code):
    return c_api.status_name(code)


def fail_in_c(shim):
    """Every function of the C API that allocates."""
    total = 0
    for index, (name, given, x, filters) in enumerate(layers()):
        where = f"layer {index}, {name}"
        plan_function = c_api.function(f"plan_{name}", x.dtype)

        def plan(plan_function=plan_function, given=given):
            handle = c_void_p(1)
            status = status_of(plan_function(byref(given), byref(handle)))
            assert bool(handle.value) == (status == "PYCNN_OK")
            API.plan_destroy(handle)
            return status

        total += fail_each(shim, f"{where}: plan", plan)
        with c_api.plan(name, x.dtype, given) as handle:

            def pack(handle=handle, filters=filters):
                packed = c_void_p(1)
                pack_function = c_api.function("pack", filters.dtype)
                status = status_of(pack_function(handle, filters.ctypes.data, byref(packed)))
                assert bool(packed.value) == (status == "PYCNN_OK")
                API.filters_destroy(packed)
                return status

            if filters is not None:
                total += fail_each(shim, f"{where}: pack", pack)
            out = np.empty(c_api.shape_of(handle), x.dtype)
            workspace = c_api.workspace_of(handle)
            with c_api.packed(handle, filters) as packed:

                def run(workspace=None, handle=handle, packed=packed, x=x, out=out):
                    return status_of(c_api.run(handle, packed, x, None, out, workspace))

                made = fail_each(shim, f"{where}: run", partial(run, workspace))
                assert made == 0, f"{where}: allocates in spite of a workspace"
                planned = out.copy()
                assert fail_each(shim, f"{where}: run without", run) == 1
        arrays = [x.ctypes.data, out.ctypes.data]
        if filters is not None:
            arrays[1:1] = [filters.ctypes.data, None]
        once_function = c_api.function(name, x.dtype)

        def once(once_function=once_function, given=given, arrays=arrays):
            return status_of(once_function(byref(given), *arrays))

        total += fail_each(shim, f"{where}: once", once)
        np.testing.assert_array_equal(out, planned)
    assert total > 100, total


def fail_in_python(shim):
    """The functions of Python: MemoryError, and right the next time."""
    rng = np.random.default_rng(7)
    x, grey = rng.random((16, 16, 32), FLOAT), rng.random((60, 50))
    spotted = np.where(x > 0.99, np.inf, x)
    filters = rng.random((32, 3, 3, 32), FLOAT)
    matrix = rng.random((7 * 7 * 32, 7), FLOAT)

    def twice(function, *args):  # the second time without checks
        return [function(*args) for _ in range(2)]

    calls = [
        lambda: pycnn.conv2d(x, filters),
        lambda: twice(pycnn.conv2d, x, pycnn.PackedFilters(filters)),
        lambda: twice(pycnn.conv_relu_pool, x, pycnn.PackedFilters(filters)),
        lambda: twice(pycnn.Sequential([pycnn.Conv2D.from_arrays(filters), pycnn.Conv2D(2, 1)]), x),
        lambda: pycnn.conv2d(grey, rng.random((2, 3, 3))),
        lambda: pycnn.conv2d(x, filters, precision="high"),
        lambda: pycnn.conv2d(spotted, filters, precision="medium"),
        lambda: pycnn.conv_relu_pool(x, filters),
        lambda: pycnn.max_pool2d(x, 3, padding=1),
        lambda: pycnn.avg_pool2d(grey, 2),
        lambda: pycnn.dense(grey, grey.T),
        lambda: pycnn.Conv2D.from_arrays(filters, precision="high")(spotted),
        lambda: pycnn.Sequential([pycnn.Conv2D.from_arrays(filters), pycnn.ReLU()])(x),
        lambda: pycnn.Sequential(
            [
                pycnn.Conv2D.from_arrays(filters, precision="high"),
                pycnn.MaxPool2D(),
                pycnn.Flatten(),
                pycnn.Dense.from_arrays(matrix),
                pycnn.Dense.from_arrays(matrix[: matrix.shape[1]]),
            ]
        )(np.stack([x, spotted])),
    ]
    plans = (pycnn.convolution._conv_plan, pycnn.pool._plan, pycnn.stage._stage_plan)

    def forget():
        for plan in plans:
            plan.cache_clear()

    total = 0
    for index, call in enumerate(calls):

        def status(call=call):
            try:
                call()
            except MemoryError as error:
                assert str(error), "no sentence"
                return "PYCNN_ERROR_MEMORY"
            return "PYCNN_OK"

        total += fail_each(shim, f"call {index}", status, forget)
    assert total > 20, total


def fail_in_threads(shim):
    """Without memory for the threads' pool a call computes alone; later ones share the work."""
    rng = np.random.default_rng(8)
    x, filters = rng.random((64, 64, 32), FLOAT), rng.random((32, 3, 3, 32), FLOAT)
    plan = params(
        "conv2d",
        **dict(zip(("images", "height", "width", "channels"), (1, *x.shape))),
        **dict(zip(("filters", "kernel_height", "kernel_width"), filters.shape)),
        num_threads=4,
    )
    with c_api.plan("conv2d", FLOAT, plan) as handle, c_api.packed(handle, filters) as packed:
        out = [np.empty(c_api.shape_of(handle), FLOAT) for _ in range(2)]
        workspace = c_api.workspace_of(handle)
        for number, result in zip((0, None), out):
            call = partial(c_api.run, handle, packed, x, None, result, workspace)
            status = shim.attempt(number, call)
            assert (status, shim.made) == (0, 1), (status, shim.made)
    np.testing.assert_array_equal(*out)


def fail_to_reserve(_):
    """Where there is no room for the region of results, each has its own memory."""
    import resource

    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + 24 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    x = np.arange(2**18, dtype=FLOAT).reshape(2**9, 2**9, 1)
    for _ in range(20):
        np.testing.assert_array_equal(pycnn.max_pool2d(x, 1), x)


if __name__ == "__main__":
    checks = {
        "c_api": fail_in_c,
        "python": fail_in_python,
        "threads": fail_in_threads,
        "region": fail_to_reserve,
    }
    checks[sys.argv[1]](Shim())
    print("clean")
