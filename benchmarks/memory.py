"""Measure how much memory one call of the largest layer needs, in a process of its own.

``python benchmarks/memory.py NAME`` prints one line of JSON; `compare.py` runs it for each
contender.  It reads ``/proc``, so it needs Linux.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import timing


def measure(name, threads, precision):
    """Run this file for one contender.

    Returns
    -------
    dict
        ``scratch_bytes``, ``output_bytes`` and ``form``; or ``message`` when it cannot be measured.
    """
    if not Path("/proc/self/clear_refs").exists():
        return {"message": "needs Linux"}
    command = [sys.executable, __file__, name, "--threads", str(threads), "--precision", precision]
    # Fixes the size from which glibc maps blocks of their own, and so gives them back when they
    # are freed: otherwise a call could use memory that its preparation left behind.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    child = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if child.returncode != 0:
        last = (child.stderr.strip() or f"exit status {child.returncode}").splitlines()[-1]
        return {"message": last}
    return json.loads(child.stdout.splitlines()[-1])


def _resident(field):
    """Bytes of a field of ``/proc/self/status``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def largest_layer():
    """Layer whose memory use is measured."""
    from layers import LARGEST, all_layers

    return next(layer for layer in all_layers() if layer.name == LARGEST)


def _measure_here(name, threads, precision):
    import dataclasses

    import numpy as np
    from layers import make_data, output_shape
    from ours import OURS
    from peers import PEERS

    contender = next(kind for kind in (*OURS, *PEERS) if kind.name == name)(threads, precision)
    layer = largest_layer()
    # The code that runs is loaded by a small image, with the same number of channels.
    small = dataclasses.replace(layer, shape=(1, 16, 16, layer.shape[-1]))
    form = next(contender.forms(small, make_data(small)))
    form.result(form.run())
    form = next(contender.forms(layer, make_data(layer)))
    Path("/proc/self/clear_refs").write_text("5")
    before = _resident("VmRSS")
    form.run()
    output = int(np.prod(output_shape(layer.ops[-1], layer.shape))) * 4
    growth = _resident("VmHWM") - before
    return {"scratch_bytes": growth - output, "output_bytes": output, "form": form.name}


def main():
    """Measure one contender and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="highest")
    options = parser.parse_args()
    timing.limit_threads(options.threads)
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    print(json.dumps(_measure_here(options.name, options.threads, options.precision)))


if __name__ == "__main__":
    main()
