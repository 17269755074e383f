"""Time several callables side by side, so that a change in the machine's speed meets all of them.

This module imports only the standard library: `limit_threads` must run before NumPy is imported.
"""

import gc
import os
import time
from math import inf

_THREAD_VARIABLES = (
    "PYCNN_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
)

# A third-level cache that many cores share keeps what one of them writes, or reads, only when it
# does so twice: there the second call still waits for memory.
WARMING = 2


def limit_threads(threads):
    """Set the variables that numerical libraries read when they are loaded."""
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)


def seconds_per_call(run, at_least=0.001):
    """Return the time of one call, and how many calls take at least this many seconds."""
    calls = 1
    while True:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        spent = time.perf_counter() - start
        if spent >= at_least:
            return spent / calls, calls
        calls = min(calls * 10, int(calls * at_least / max(spent, 1e-9) * 1.2) + 1)


def fastest(runs):
    """Index of the callable that takes the least time, in a short trial."""
    if len(runs) == 1:
        return 0
    best = race({str(index): run for index, run in enumerate(runs)}, seconds=0.05 * len(runs))
    return min(range(len(runs)), key=lambda index: best[str(index)])


def race(runs, seconds, pause=0.0, clock=time.perf_counter):
    """Time callables in turns and return the best time of each.

    Each turn is `WARMING` calls that warm the caches and then a block of calls of about a
    millisecond; a block counts as its mean.  After five rounds only those within six times of the
    best go on.

    Parameters
    ----------
    runs : dict of str to callable
    seconds : float
        Time for all of them together; five rounds are made however long they take.
    pause : float, optional
        Seconds to wait before each turn, for the idle threads of the one before to fall asleep.
    clock : callable, optional
        Returns seconds; what is minimised.

    Returns
    -------
    dict of str to float
        Seconds a call.
    """
    calls = {name: seconds_per_call(run)[1] for name, run in runs.items()}
    best = dict.fromkeys(runs, inf)
    collecting = gc.isenabled()
    gc.disable()
    try:
        rounds, end = 0, time.perf_counter() + seconds
        while runs and (rounds < 5 or time.perf_counter() < end):
            leader = min(best.values(), default=inf)
            for name, run in runs.items():
                if rounds >= 5 and best[name] > 6 * leader:
                    continue
                if pause:
                    time.sleep(pause)
                for _ in range(WARMING):
                    run()
                start = clock()
                for _ in range(calls[name]):
                    run()
                best[name] = min(best[name], (clock() - start) / calls[name])
            rounds += 1
    finally:
        if collecting:
            gc.enable()
    return best


def time_once(run):
    """Return the seconds that one call takes, and what it returns."""
    start = time.perf_counter()
    value = run()
    return time.perf_counter() - start, value
