#!/usr/bin/env python
"""Measure what ``import pycnn`` adds to ``import numpy``.

Run it with pycnn installed, or with a checkout that is built in place on PYTHONPATH::

    python benchmarks/import_time.py
    python benchmarks/import_time.py --limit 15     # exit status 1 above 15 ms

Fresh processes that import NumPy alone, and NumPy and pycnn, take turns; the least time of each
counts.  Then come the modules that cost most, from ``python -X importtime``: of each the least of
many runs, so that their sum hardly changes on a busy machine.  The limit is one of that sum.
"""

import argparse
import os
import subprocess
import sys
import time
from math import inf

STATEMENTS = {"numpy": "import numpy", "numpy and pycnn": "import numpy, pycnn"}


def run(statement):
    """Return the CPU and the elapsed seconds of a process that runs one statement."""
    start = time.perf_counter()
    pid = os.posix_spawn(sys.executable, [sys.executable, "-c", statement], os.environ)
    _, status, usage = os.wait4(pid, 0)
    elapsed = time.perf_counter() - start
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"import_time.py: {statement!r} failed")
    return usage.ru_utime + usage.ru_stime, elapsed


def modules(rounds):
    """Return the least microseconds of each module's own code that pycnn's import runs."""
    least = {}
    for _ in range(rounds):
        child = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", STATEMENTS["numpy and pycnn"]],
            capture_output=True,
            text=True,
            check=True,
        )
        behind_numpy = False
        for line in child.stderr.splitlines():
            own, _, name = line.removeprefix("import time:").split("|")
            if behind_numpy:
                least[name.strip()] = min(least.get(name.strip(), inf), int(own))
            behind_numpy = behind_numpy or name == " numpy"
    return least


def main():
    """Measure, print, and compare with the limit; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40, metavar="N")
    parser.add_argument("--limit", type=float, default=inf, metavar="MS")
    options = parser.parse_args()
    # From a folder without a pycnn of its own, so that what is installed, or on PYTHONPATH, counts.
    paths = os.environ.get("PYTHONPATH")
    if paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, paths.split(os.pathsep)))
    # An installed package has its bytecode beside it.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.chdir("/")

    # The first run writes the bytecode, or brings it into memory.
    for statement in STATEMENTS.values():
        run(statement)
    least = dict.fromkeys(STATEMENTS, (inf, inf))
    for _ in range(options.rounds):
        for name, statement in STATEMENTS.items():
            least[name] = tuple(map(min, least[name], run(statement)))
    print(f"{'milliseconds':17}{'CPU':>8}{'elapsed':>10}")
    for name, (cpu, elapsed) in least.items():
        print(f"{name:17}{cpu * 1e3:8.1f}{elapsed * 1e3:10.1f}")
    alone, both = least.values()
    added, elapsed = (b - a for a, b in zip(alone, both, strict=True))
    print(f"{'pycnn adds':17}{added * 1e3:8.1f}{elapsed * 1e3:10.1f}\n")

    own = modules(options.rounds)
    print("microseconds of each module's own code, largest first")
    for name, microseconds in sorted(own.items(), key=lambda item: -item[1])[:12]:
        print(f"{microseconds:8}  {name}")
    total = sum(own.values())
    print(f"{total:8}  all {len(own)}")
    return int(total > options.limit * 1e3)


if __name__ == "__main__":
    sys.exit(main())
