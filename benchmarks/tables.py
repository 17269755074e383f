#!/usr/bin/env python
"""Turn a run of `compare.py` into the table of the documentation's page on performance::

python benchmarks/compare.py --json run.json
python benchmarks/tables.py run.json > docs/measured/performance.rst
"""

import json
import sys
from pathlib import Path

from report import number, rst_table


def table(run):
    """Return what was measured, as reStructuredText."""
    machine = run["machine"]
    text = (
        f"Microseconds of {run['clock']} time a call; threads: {run['threads']}; precision: "
        f"{run['precision']}. {machine['cpu']}, {machine['cpus']} CPUs, {machine['system']}, "
        f"Python {machine['python']}; {'; '.join(dict.fromkeys(run['contenders'].values()))}.\n"
    )
    if machine["load"] is not None and machine["load"] > 0.5:
        text += (
            f"\nThe machine was busy (load {machine['load']:.1f}), so the numbers are unsteady.\n"
        )
    ratios = ("best", "direct", "torch")
    rows = []
    for layer in run["layers"]:
        times = {name: record.get("us") for name, record in layer["contenders"].items()}
        times_faster = [number(layer["ratio"].get(name)) for name in ratios]
        peer = layer["peer"]
        rows.append(
            [layer["name"], number(times["pycnn"]), number(times[peer]), peer, *times_faster]
        )
    means = [number(run["geometric_mean"].get(name)) for name in ratios]
    rows.append(["geometric mean", "", "", "", *means])
    heads = ["layer", "pycnn", "best peer", "which", "× best", "× direct", "× PyTorch"]
    return text + "\n" + rst_table(heads, rows)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    sys.stdout.write(table(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
