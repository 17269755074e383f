#!/usr/bin/env python
"""Measure the errors of convolutions, here and in the peers, for the page on precision::

    python benchmarks/errors.py > docs/measured/errors.rst

Every answer is compared with one of float64; the unit is ``eps * sum|x||w|``, with eps = 2**-23.
pycnn is measured at each precision it has on this machine, the peers at their own default.
"""

import sys
from importlib.metadata import version
from pathlib import Path

import timing

LAYERS = ("tutorial 1", "resnet stem 7x7/2", "resnet 56x56x64 3x3", "resnet 14x14x256 3x3")


def contenders():
    """Yield each contender with its label."""
    from ours import PyCnn
    from peers import PEERS

    for precision in ("highest", "high", "medium"):
        yield f"pycnn, {precision}", PyCnn(1, precision)
    for kind in PEERS:
        try:
            yield kind.name, kind(1, "highest")
        except ImportError as error:
            print(f"without {kind.name}: {error}", file=sys.stderr)


def measure(contender, layer, data, judge):
    """Return the largest and the root mean square error as text, of the first form that works."""
    import numpy as np
    from report import number

    if not contender.applies(layer):
        return "-"
    form = next(iter(contender.forms(layer, data)))
    errors = judge.errors(np.asarray(form.result(form.run())))
    return f"{number(errors.max())} / {number(np.sqrt(np.mean(errors**2)))}"


def main():
    """Measure everything and print the table."""
    timing.limit_threads(1)
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from layers import Judge, all_layers, make_data
    from report import number, rst_table

    import pycnn

    layers = [layer for layer in all_layers() if layer.name in LAYERS]
    prepared = [(layer, data := make_data(layer), Judge(layer, data)) for layer in layers]
    rows = []
    versions = [f"NumPy {version('numpy')}"]
    for label, contender in contenders():
        versions.append(contender.versions())
        rows.append([label, *(measure(contender, *layer) for layer in prepared)])
    print(
        f"Largest / root mean square error in units of eps·Σ\\|x\\|\\|w\\|, at the level "
        f"``{pycnn.config.get_config()['cpu']['level']}``: {'; '.join(dict.fromkeys(versions))}.\n"
    )
    sys.stdout.write(rst_table(["", *LAYERS], rows))
    bounds = "; ".join(number(judge.direct_limit) for _, _, judge in prepared)
    print(f"\nThe bound of a direct sum, which ``highest`` promises, is {bounds} units.")


if __name__ == "__main__":
    main()
