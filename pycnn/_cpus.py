"""How many threads calls may use, as the environment and the machine have it."""

from __future__ import annotations

import math
import os  # and not pathlib, which costs half the time of importing pycnn
from typing import TYPE_CHECKING

from pycnn import _engine

if TYPE_CHECKING:
    from collections.abc import Mapping


def count_from_environment(environ: Mapping[str, str]) -> int | None:
    """The number of threads that the environment asks for, or None.

    ``PYCNN_NUM_THREADS`` is ours: what it says must make sense.  ``OMP_NUM_THREADS`` belongs to
    OpenMP, where it may be a list with one number for each level of nesting; it is a wish.
    """
    largest = _engine.max_threads
    text = environ.get("PYCNN_NUM_THREADS", "").strip()
    if text:
        n = _whole_number(text)
        if n is None or not 1 <= n <= largest:
            raise ImportError(
                f"PYCNN_NUM_THREADS={text}: must be a whole number from 1 to {largest}"
            )
        return n
    n = _whole_number(environ.get("OMP_NUM_THREADS", "").split(",")[0].strip())
    return min(n, largest) if n else None


def _whole_number(text: str) -> int | None:
    """A number in plain digits, None for any other text and for more digits than make sense."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None


def cpu_count(quota: float | None = None) -> int:
    """CPUs that this process may run on, or fewer where control groups grant less time."""
    affinity = getattr(os, "sched_getaffinity", None)
    cpus = len(affinity(0)) if affinity is not None else _engine.affinity_cpus()
    cpus = cpus or os.cpu_count() or 1
    quota = cgroup_quota() if quota is None else quota
    return max(1, cpus if quota >= cpus else math.ceil(quota))


def cgroup_quota(
    membership: str | os.PathLike[str] = "/proc/self/cgroup",
    root: str | os.PathLike[str] = "/sys/fs/cgroup",
) -> float:
    """CPU time in CPUs that Linux control groups grant this process, infinity without a limit.

    A limit may be set on any group above the process's own.  In a container the path of the
    group may be the host's, with the group itself mounted at the root.
    """
    quota = math.inf
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, files = os.fspath(root), ["cpu.max"]
        elif "cpu" in controllers.split(","):
            base, files = os.path.join(root, "cpu"), ["cpu.cfs_quota_us", "cpu.cfs_period_us"]
        else:
            continue
        group = os.path.join(base, path.strip("/"))
        while len(group) >= len(base):
            words = " ".join(_read(os.path.join(group, name)) for name in files).split()
            if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
                quota = min(quota, int(words[0]) / max(int(words[1]), 1))
            group = os.path.dirname(group)
    return quota


def _read(path: str | os.PathLike[str]) -> str:
    """The text of a file, nothing where there is none or the process may not look."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
