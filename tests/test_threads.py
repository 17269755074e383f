"""The thread pool: every task once, the same bits for every number of threads, forks, exits.

tests/native/threads_stress.c does the same to the pool alone, for the thread sanitizer.
"""

import multiprocessing
import os
import sys
import threading
import time

import numpy as np
import pytest
from children import run_well
from comparing import assert_same_bits

import pycnn
from pycnn import _engine, config

LONG = 20_000_000  # steps of a task, some 10 ms: enough for another thread to come

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def available(workers):
    """The number of workers that a call for `workers` gets in this build."""
    return workers if _engine.has_threads else 1


# ---- the pool alone -----------------------------------------------------------------------------


@pytest.mark.parametrize("max_workers", [1, 2, 3, 7, 40, 256, 1000])
@pytest.mark.parametrize("n_tasks", [0, 1, 2, 3, 64, 1000])
def test_every_task_runs_once(n_tasks, max_workers):
    workers, who, counts = _engine.claims(n_tasks, max_workers)
    assert workers == available(min(max(n_tasks, 1), max_workers, 256))
    assert counts == [1] * n_tasks
    assert all(0 <= worker < workers for worker in who)


def test_tasks_are_shared_between_threads():
    """The system may keep a worker waiting, but not for ever."""
    seen, everyone = set(), set(range(available(3)))
    end = time.monotonic() + 60
    while seen != everyone:
        assert time.monotonic() < end, f"only {seen} came"
        seen.update(_engine.claims(60, 3, LONG // 100)[1])


def test_a_call_that_finds_the_pool_busy_runs_alone():
    """Again and again until the long call is under way when the short one comes."""
    end = time.monotonic() + 60
    workers = 0
    while workers != 1:
        assert time.monotonic() < end, "no call ran alone"
        long_call = threading.Thread(target=_engine.claims, args=(2, 2, LONG))
        long_call.start()
        time.sleep(0.005)
        workers, who, counts = _engine.claims(50, 2)
        assert counts == [1] * 50
        assert set(who) <= set(range(workers))
        long_call.join()
    assert _engine.claims(50, 2)[0] == available(2)


def test_a_thread_that_ends_leaves_the_pool_to_others():
    for _ in range(20):
        thread = threading.Thread(target=_engine.claims, args=(50, 3))
        thread.start()
        thread.join()
    assert _engine.claims(50, 3)[0] == available(3)


# ---- the public functions -----------------------------------------------------------------------


def jobs(seed):
    """Return calls of all kinds, each with data of its own, as functions without arguments."""
    rng = np.random.default_rng(seed)

    def conv(shape, filters, dtype, **kwargs):
        x = rng.standard_normal(shape).astype(dtype)
        w = rng.standard_normal(filters).astype(dtype)
        bias = rng.standard_normal(filters[0]).astype(dtype)
        return lambda: pycnn.conv2d(x, w, bias, **kwargs)

    def pool(function, shape, *args, **kwargs):
        x = rng.standard_normal(shape).astype(np.float32)
        return lambda: function(x, *args, **kwargs)

    return [
        conv((61, 83), (2, 3, 3), "float32"),
        conv((61, 83), (3, 5, 5), "float64", padding="same", activation="relu"),
        conv((4, 30, 30, 3), (16, 3, 3, 3), "float32", stride=2, padding=1),
        conv((40, 40, 64), (64, 3, 3, 64), "float32", padding="same"),
        conv((7, 7, 128), (128, 3, 3, 128), "float32", padding=1),
        conv((2, 20, 21, 32), (48, 1, 1, 32), "float64", activation="leaky_relu"),
        conv((33, 35, 32), (32, 3, 3, 1), "float32", groups=32, padding=1),
        conv((24, 24, 16), (32, 3, 3, 4), "float32", groups=4, dilation=2),
        pool(pycnn.max_pool2d, (3, 60, 60, 32), 2),
        pool(pycnn.max_pool2d, (61, 63), 3, 2, padding=1),
        pool(pycnn.avg_pool2d, (2, 40, 41, 16), 3, 1, padding=1),
        pool(pycnn.global_avg_pool2d, (4, 30, 30, 8)),
        pool(pycnn.relu, (2, 100, 100, 8)),
        pool(pycnn.leaky_relu, (3, 101, 1001)),
    ]


@pytest.mark.parametrize("n", [2, 3, 7])
def test_any_number_of_threads_gives_the_same_bits(n):
    for job in jobs(1):
        with config.threads(1):
            expected = job()
        with config.threads(n):
            for _ in range(3):
                assert_same_bits(job(), expected)


@pytest.mark.parametrize("start", [0, 1, 5])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [*(("relu", d) for d in ("int8", "int32", "float32", "float64")), ("leaky_relu", "float32")],
)
def test_activations_of_arrays_that_begin_and_end_anywhere(rng, name, dtype, start):
    """They are cut where cache lines end."""
    function = getattr(pycnn, name)
    n_elements = 3 * 2**20 // np.dtype(dtype).itemsize + 77
    memory = rng.integers(-100, 100, n_elements).astype(dtype)
    part = slice(start, n_elements - 7 * start)
    expected = memory.copy()
    with config.threads(1):
        expected[part] = function(memory[part])
    for n in (2, 3, 7):
        overwritten = memory.copy()
        with config.threads(n):
            assert_same_bits(function(memory[part]), expected[part])
            function(overwritten[part], out=overwritten[part])
        assert_same_bits(overwritten, expected)


def test_python_threads_get_the_bits_of_serial_calls():
    n_threads, rounds = 8, 4
    work = [jobs(seed) for seed in range(n_threads)]
    with config.threads(1):
        expected = [[job() for job in own] for own in work]
    start = threading.Barrier(n_threads)
    finished = []

    def run(i):
        start.wait()
        for r in range(rounds):
            with config.threads(1 + (i + r) % 4):
                for k in range(len(work[i])):
                    k = (k + i) % len(work[i])  # every thread another order
                    assert_same_bits(work[i][k](), expected[i][k])
        finished.append(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(finished) == list(range(n_threads))


def test_python_threads_share_one_input():
    rng = np.random.default_rng(5)
    x = rng.standard_normal((50, 50, 16)).astype(np.float32)
    filters = rng.standard_normal((32, 3, 3, 16)).astype(np.float32)
    expected = pycnn.conv2d(x, filters)
    results = [None] * 8

    def run(i):
        results[i] = [pycnn.conv2d(x, filters) for _ in range(5)]

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for own in results:
        for actual in own:
            assert_same_bits(actual, expected)


# ---- forks, new processes and exits -------------------------------------------------------------
# In processes of their own, which a hang cannot keep from ending: children.run has a time limit.

PRELUDE = """
import os, sys, threading, time
import numpy as np
import pycnn
from pycnn import _engine

rng = np.random.default_rng(7)
x = rng.standard_normal((50, 50, 32)).astype(np.float32)
filters = rng.standard_normal((32, 3, 3, 32)).astype(np.float32)
with pycnn.config.threads(1):
    expected = pycnn.conv2d(x, filters), pycnn.max_pool2d(x, 2)
pycnn.set_num_threads(3)

def check():
    # The pool has all its threads, each comes sooner or later, and the functions have their bits.
    seen, everyone = set(), set(range(3 if _engine.has_threads else 1))
    end, spins = time.monotonic() + 60, 20000
    while seen != everyone:
        workers, who, counts = _engine.claims(100, 3, spins)
        # On a busy machine only a long call lasts until a thread gets a CPU.
        spins = min(2 * spins, 2000000)
        assert workers == len(everyone), workers
        assert counts == [1] * 100
        assert time.monotonic() < end, seen
        seen.update(who)
    actual = pycnn.conv2d(x, filters), pycnn.max_pool2d(x, 2)
    assert all(np.array_equal(a, e) for a, e in zip(actual, expected))

def fork(child):
    # Run child() in a forked child that must succeed.
    pid = os.fork()
    if pid == 0:
        try:
            child()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


@needs_fork
@pytest.mark.parametrize("parent_first", [True, False])
def test_fork(parent_first):
    script = PRELUDE + ("check()\n" if parent_first else "") + "fork(check)\ncheck()\nprint('end')"
    assert run_well("-c", script) == "end\n"


@needs_fork
def test_fork_of_a_fork():
    script = """
def descend(depth):
    check()
    if depth:
        fork(lambda: descend(depth - 1))
    check()

descend(4)
print("end")
"""
    assert run_well("-c", PRELUDE + script) == "end\n"


@needs_fork
@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="without the GIL a fork may catch a dictionary or cache that another thread has locked",
)
def test_fork_while_other_threads_use_the_pool():
    script = """
stop = False

def use():
    while not stop:
        _engine.claims(20, 3, 20000)
        # It asks for memory without the GIL: gcc's address sanitizer leaves its allocator's lock to
        # the child as it was, and the child waits for it without end.
        if "ASAN_OPTIONS" not in os.environ:
            pycnn.conv2d(x, filters)
        time.sleep(0.001)  # leaves the children some of the processor

threads = [threading.Thread(target=use) for _ in range(3)]
for thread in threads:
    thread.start()
try:
    for _ in range(15):
        fork(check)
finally:
    stop = True
for thread in threads:
    thread.join()
check()
print("end")
"""
    # On a busy machine every child waits long for its turn.
    assert run_well("-c", PRELUDE + script, timeout=600) == "end\n"


def conv_sum(seed):
    """The sum of a convolution, in a process that multiprocessing has started."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-9, 10, (40, 40, 16)).astype(np.float32)
    filters = rng.integers(-9, 10, (16, 3, 3, 16)).astype(np.float32)
    with config.threads(3):
        workers, _, counts = _engine.claims(100, 3)
        assert workers == available(3)
        assert counts == [1] * 100
        return float(pycnn.conv2d(x, filters).sum())


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_multiprocessing(method):
    script = f"""
import multiprocessing
from test_threads import conv_sum

if __name__ == "__main__":
    expected = [conv_sum(seed) for seed in range(8)]
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        assert pool.map(conv_sum, range(8)) == expected
    print("end")
"""
    assert run_well("-c", script) == "end\n"


def test_exit_with_idle_workers():
    assert run_well("-c", PRELUDE + "check(); print('end')") == "end\n"


@pytest.mark.parametrize("use", ["_engine.claims(20, 3, 100000)", "pycnn.conv2d(x, filters)"])
def test_exit_while_daemon_threads_compute(use):
    script = f"""
def compute():
    while True:
        {use}

for _ in range(8):
    threading.Thread(target=compute, daemon=True).start()
time.sleep(0.2)
print("end")
"""
    for _ in range(3):
        assert run_well("-c", PRELUDE + script) == "end\n"


def test_exit_in_the_middle_of_a_task():
    """The interpreter ends while a worker and a daemon thread are far from done."""
    script = f"""
threading.Thread(target=_engine.claims, args=(3, 3, {LONG} * 1000), daemon=True).start()
time.sleep(0.2)
print("end")
"""
    assert run_well("-c", PRELUDE + script, timeout=30) == "end\n"
