"""What this build of pycnn is, what it uses on this machine, and how many threads.

The number of threads is that of the environment variable ``PYCNN_NUM_THREADS``, else the first of
``OMP_NUM_THREADS``, else the number of CPUs this process may use. Results are the same, bit for
bit, for every number.
"""

from __future__ import annotations

import os
import platform
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from pycnn import _checks, _cpus, _engine
from pycnn._version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, SupportsIndex


def get_config() -> dict[str, Any]:
    """The facts `show_config` prints.

    Returns
    -------
    dict
        ``version``; ``build`` with the compiler; ``cpu`` with the instruction set in use and all
        levels of this build mapped to whether this machine can run them; ``threads`` with the
        number that calls from this thread may use, the CPUs this process may use and whether this
        build has a thread pool; ``python`` with the versions of Python and NumPy.

    Examples
    --------
    >>> import pycnn
    >>> pycnn.config.get_config()["cpu"]["level"] in ("generic", "avx2", "avx512", "amx", "neon")
    True
    """
    return {
        "version": __version__,
        "build": {"compiler": _engine.compiler},
        "cpu": {
            "machine": platform.machine(),
            "level": _engine.level,
            "levels": _engine.level_names(),
        },
        "threads": {
            "num_threads": get_num_threads(),
            "cpus": _cpus.cpu_count(),
            "pool": _engine.has_threads,
        },
        "python": {"python": platform.python_version(), "numpy": np.__version__},
    }


def get_include() -> str:
    """The directory of the C header ``pycnn/pycnn.h``, for the compiler's include path.

    Returns
    -------
    str

    Examples
    --------
    >>> import os
    >>> import pycnn
    >>> os.listdir(os.path.join(pycnn.get_include(), "pycnn"))
    ['pycnn.h']
    """
    return os.path.join(os.path.dirname(__file__), "include")


def show_config() -> None:
    """Print version, build, instruction set, threads and library versions.

    The instruction set is the best this machine can run; the environment variable ``PYCNN_CPU``
    names another one (``generic``, ``avx2``, ``avx512``, ``amx``, ``neon``) before the import.

    Examples
    --------
    >>> import pycnn
    >>> pycnn.show_config()  # doctest: +ELLIPSIS
    pycnn ...
    """
    config = get_config()
    cpu, levels = config["cpu"], config["cpu"]["levels"]
    pool = config["threads"]
    missing = [name for name, available in levels.items() if not available]
    print(f"pycnn {config['version']}")
    print(f"  compiler         {config['build']['compiler']}")
    print(f"  machine          {cpu['machine']}")
    print(f"  instruction set  {cpu['level']}")
    print(
        f"  also available   "
        f"{', '.join(n for n, ok in levels.items() if ok and n != cpu['level']) or 'none'}"
    )
    if missing:
        print(f"  not on this CPU  {', '.join(missing)}")
    print(
        f"  threads          {pool['num_threads']}, CPUs {pool['cpus']}"
        f"{'' if pool['pool'] else ', this build has no thread pool'}"
    )
    print(f"  Python           {config['python']['python']}")
    print(f"  NumPy            {config['python']['numpy']}")


def get_num_threads() -> int:
    """The most threads that a call from this thread uses.

    Returns
    -------
    int
        The number of the innermost `threads` block around the call, else the process's.

    See Also
    --------
    set_num_threads : Sets the process's number.
    threads : Sets a number for some calls of one thread.

    Examples
    --------
    >>> import pycnn
    >>> with pycnn.config.threads(1):
    ...     pycnn.get_num_threads()
    1
    """
    return _engine.get_num_threads()


def set_num_threads(n: SupportsIndex) -> None:
    """Set the most threads that a call uses, for the whole process.

    Small calls use fewer. One call at a time uses several: a call that comes while another
    Python thread's is running does all its work in its own thread. After a fork the child
    makes threads of its own.

    Parameters
    ----------
    n : int
        From 1, which never starts a thread, to 256. It may exceed the number of CPUs, which
        does not make anything faster.

    See Also
    --------
    threads : Sets a number for some calls of one thread.

    Examples
    --------
    >>> import pycnn
    >>> before = pycnn.get_num_threads()
    >>> pycnn.set_num_threads(3)
    >>> pycnn.get_num_threads()
    3
    >>> pycnn.set_num_threads(before)
    """
    _engine.set_num_threads(_checked("set_num_threads", n))


@contextmanager
def threads(n: SupportsIndex) -> Iterator[None]:
    """Context manager and decorator that sets the most threads that a call inside uses.

    It holds for the calling thread alone, so that blocks in several threads do not disturb each
    other; threads started inside have the process's number. Blocks nest.

    Parameters
    ----------
    n : int
        From 1 to 256.

    See Also
    --------
    set_num_threads : Sets the number for the whole process.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> with pycnn.config.threads(1):
    ...     y = pycnn.conv2d(np.ones((8, 8)), np.ones((2, 3, 3)))
    """
    n = _checked("threads", n)
    outer = _engine.get_thread_limit()
    _engine.set_thread_limit(n)
    try:
        yield
    finally:
        _engine.set_thread_limit(outer)


def _checked(name: str, n: SupportsIndex) -> int:
    """`n` as an int, or the error that function `name` raises."""
    number = _checks.integer(n, name, "n", 1)
    if number > _engine.max_threads:
        raise ValueError(f"{name}: n={number} must be at most {_engine.max_threads}")
    return number


def _set_defaults() -> None:
    cpus = min(_cpus.cpu_count(), _engine.max_threads)
    _engine.set_cpu_count(cpus)
    _engine.set_num_threads(_cpus.count_from_environment(os.environ) or cpus)


_set_defaults()
