"""Memory does not grow over hundreds of calls, right or refused."""

import gc
import mmap
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from children import run, run_well

import pycnn
from pycnn import _arrays

CALLS = 400
ROUNDS = 4
ALLOWED = 2 * 2**20  # bytes; one leaked result of 100 kB a call would be 40 MB


def right_calls():
    """Yield calls that give a result, each with a result or scratch of about 100 kB."""
    rng = np.random.default_rng(1)
    x = rng.random((40, 40, 16), np.float32)
    filters = rng.random((16, 3, 3, 16), np.float32)
    bias = rng.random(16, np.float32)
    grey, wide = rng.random((150, 200)), rng.random((160, 160))
    yield lambda: pycnn.conv2d(x, filters, bias, padding=1)
    yield lambda: pycnn.conv2d(x, filters, activation="softmax", stride=2)
    yield lambda: pycnn.conv2d(grey, rng.random((2, 3, 3)))
    yield lambda: pycnn.conv2d(x[::-1, :, ::-1], filters[..., ::-1].astype(">f8"))
    yield lambda: pycnn.conv2d(x, rng.random((16, 3, 3, 1), np.float32), groups=16)
    yield lambda: pycnn.conv2d(x.astype(np.int8), filters, out=np.empty((38, 38, 16), "f4"))
    yield lambda: pycnn.max_pool2d(x, 3, 1, padding=1)
    yield lambda: pycnn.max_pool2d(x.astype(np.float16), 3, 1, dilation=2)
    yield lambda: pycnn.avg_pool2d(grey, 2, 1, ceil_mode=True)
    yield lambda: pycnn.global_avg_pool2d(x[np.newaxis])
    yield lambda: pycnn.dense(wide, wide)
    for name in ("relu", "leaky_relu", "sigmoid", "softmax"):
        yield lambda name=name: getattr(pycnn, name)(wide)
    yield lambda: pycnn.random_filters(32, 16, 8)


def refused_calls():
    """Yield calls that fail at different depths."""
    x = np.ones((40, 40, 16), np.float32)
    filters = np.ones((16, 3, 3, 16), np.float32)
    sizes = count(3)
    yield lambda: pycnn.conv2d(x, filters[..., :-1])
    yield lambda: pycnn.conv2d(x, filters, bias=np.ones(15))
    yield lambda: pycnn.conv2d(x, filters, padding=2**62)
    yield lambda: pycnn.conv2d(x, filters, dilation=next(sizes) + 20)
    yield lambda: pycnn.conv2d(x, filters, out=np.empty((38, 38, 15), "f4"))
    yield lambda: pycnn.conv2d(x.astype(complex), filters)
    yield lambda: pycnn.conv2d(x, filters, stride=1.5)
    yield lambda: pycnn.conv2d(x, filters, activation="tanh")
    yield lambda: pycnn.max_pool2d(x, 3, padding=next(sizes))
    yield lambda: pycnn.max_pool2d(np.ma.masked_array(x))
    yield lambda: pycnn.avg_pool2d(x, next(sizes) + 40)
    yield lambda: pycnn.softmax(x, axis=next(sizes))
    yield lambda: pycnn.relu(x, out=x[:-1])
    yield lambda: pycnn.dense(x, x)
    yield lambda: pycnn.random_filters(2**40, 2**40)


def leaking_calls():
    """Yield a call that keeps what it makes; measuring it must fail."""
    kept = []
    yield lambda: kept.append(np.ones(int(sys.argv[2]), np.uint8))


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * mmap.PAGESIZE


def freed_results():
    """Fail if more than what may be is kept of results, whichever is freed first."""
    image = np.ones((2**23, 1, 1), np.float32)
    before = resident_bytes()
    for order in (1, -1):
        sizes = [n * 2**20 for n in (1, 12, 2, 1, 16, 3, 1, 17, 1)] * 4
        results = [pycnn.max_pool2d(image[: n // 4], 1) for n in sizes]
        assert resident_bytes() - before > sum(sizes) * 0.9
        for i in range(len(results))[::order]:
            results[i] = None
        kept = resident_bytes() - before
        assert kept < 32 * 2**20 + ALLOWED, f"{kept} bytes are kept"
        _arrays.drop_freed()
        kept = resident_bytes() - before
        assert kept < ALLOWED, f"{kept} bytes are kept in spite of all"
    print("clean")


def page_faults():
    """Fail if the system has to find new memory for every result."""
    import resource

    def faults():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    def stages():
        for _ in range(20):
            maps = pycnn.conv2d(image, filters)
            pycnn.max_pool2d(pycnn.relu(maps))
        return maps

    image, filters = np.ones((300, 451), np.float32), np.ones((2, 3, 3), np.float32)
    stages()
    before = faults()
    maps = stages()
    allowed = maps.nbytes // mmap.PAGESIZE // 4  # of the pages of one result
    assert faults() - before < 20 * allowed, f"{(faults() - before) / 20} page faults a call"
    print("clean")


def child(kind):
    """Fail if one call, made again and again, keeps memory or Python objects."""
    calls = {"right": right_calls, "refused": refused_calls, "leaking": leaking_calls}[kind]()
    resident_bytes()  # so that what its first call sets up is not counted
    for number, call in enumerate(calls):

        def repeat(times, call=call):
            for _ in range(times):
                if kind != "refused":
                    call()
                    continue
                try:
                    call()
                except (ValueError, TypeError, MemoryError):
                    continue
                raise AssertionError("the call was not refused")
            gc.collect()

        # What the interpreter keeps for itself is not kept again in every round; a leak is.
        repeat(CALLS // 2)
        n_bytes, n_objects = [], []
        for _ in range(ROUNDS):
            objects, resident = sys.getallocatedblocks(), resident_bytes()
            repeat(CALLS)
            n_bytes.append(resident_bytes() - resident)
            n_objects.append(sys.getallocatedblocks() - objects)
            if n_bytes[-1] < ALLOWED and n_objects[-1] < CALLS // 4:
                break
        else:
            kept = f"{min(n_bytes) // CALLS} bytes a call or {min(n_objects)} Python objects"
            raise AssertionError(f"{kind} call {number} keeps {kept} in {CALLS} calls")
    print("clean")


@pytest.mark.parametrize("kind", ["right", "refused"])
def test_memory_does_not_grow(kind):
    assert run_well(__file__, kind, timeout=300) == "clean\n"


def test_what_is_kept_of_freed_results_is_limited():
    # The C library keeps nothing of arrays that are mapped one by one.
    options = {"MALLOC_MMAP_THRESHOLD_": "65536"}
    assert run_well(__file__, "freed_results", **options) == "clean\n"


def test_freed_results_serve_the_next_calls():
    assert run_well(__file__, "page_faults") == "clean\n"


@pytest.mark.parametrize("n_bytes", [1, 20_000])
def test_the_measurement_sees_a_leak(n_bytes):
    leaky = run(__file__, "leaking", str(n_bytes))
    assert leaky.returncode == 1
    assert "AssertionError: leaking call 0 keeps" in leaky.stderr


if __name__ == "__main__":
    checks = {"freed_results": freed_results, "page_faults": page_faults}
    checks.get(sys.argv[1], lambda: child(sys.argv[1]))()
