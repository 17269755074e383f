#!/usr/bin/env python
"""Say how far each layer of a run of `compare.py` is from what this machine can do at most::

    python benchmarks/compare.py --cpu-time --json run.json
    python benchmarks/limits.py run.json
    python benchmarks/limits.py run.json --rst > docs/measured/limits.rst

Run it on the machine, and under the load, of the run. It compiles `limits.c` with the C compiler in
CC, else `cc`, and measures on one core

- the multiply-adds of a second, in as many independent vectors as the registers hold: no direct
  sum of products can be faster;
- where there is a matrix unit, Intel AMX, its products of tiles: at the default precision six for
  16 x 16 outputs and 32 products of each, however many of them a layer fills;
- for each layer, one pass over its input, weights and output from wherever they lie when the layer
  is computed again and again, the caches or memory.

The multiply-adds or the unit's products, whichever take less, or the pass, if that takes more, are
a layer's limit, and ``most × best`` how many times faster than the best peer anyone could be who
sums products directly. What is left to pycnn is the cost of a call, loads that the products wait
for, and images that are read more than once.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from layers import Conv, Dense, all_layers, input_shapes, output_shape, terms
from report import number, rst_table


def compiled():
    """Return limits.c as a library."""
    source = Path(__file__).with_suffix(".c")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "limits.so")
        command = [os.environ.get("CC", "cc"), "-O3", "-march=native", "-shared", "-fPIC"]
        subprocess.run([*command, str(source), "-o", str(path)], check=True)
        library = ctypes.CDLL(str(path))
    for name in ("multiply_adds_float", "multiply_adds_double", "tile_products"):
        getattr(library, name).argtypes = [ctypes.c_long]
        getattr(library, name).restype = ctypes.c_double
    library.passes.argtypes = [ctypes.c_long, *[ctypes.c_void_p, ctypes.c_size_t] * 2]
    library.passes.restype = None
    return library


def best_seconds(run, seconds=0.2):
    """Least CPU time of a call."""
    run()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.process_time()
        run()
        run()
        best = min(best, (time.process_time() - start) / 2)
    return best


ROUNDS = 200_000


def rate(count):
    """How many a second are made of what `count` makes and counts; 0 where it makes none."""
    made = count(ROUNDS)
    return made and made / best_seconds(lambda: count(ROUNDS), 1.0)


def traffic(layer):
    """Bytes that a layer must read, and write."""
    shapes = [*input_shapes(layer), output_shape(layer.ops[-1], input_shapes(layer)[-1])]
    read = int(np.prod(shapes[0]))
    for op, shape in zip(layer.ops, shapes, strict=False):
        if isinstance(op, Conv):
            read += op.filters * op.size**2 * shape[-1] // op.groups
        elif isinstance(op, Dense):
            read += shape[-1] * op.units
    itemsize = np.dtype(layer.dtype).itemsize
    return read * itemsize, int(np.prod(shapes[-1])) * itemsize


def pass_seconds(library, read, written):
    """Time of one pass over so many bytes."""
    read, written = -(-read // 64) * 64, -(-written // 64) * 64
    block = np.zeros(read + written + 64, np.uint8)
    start = block.ctypes.data + -block.ctypes.data % 64
    times = 1 + 10_000_000 // (read + written)
    return best_seconds(lambda: library.passes(times, start, read, start + read, written)) / times


# For one product of tiles of float32.
TILE_PRODUCTS = {"highest": 6, "high": 3, "medium": 1}


def tiles(op, shape):
    """Products of tiles, of one part each: 16 pixels of an image x 16 filters x 32 terms."""
    groups = op.groups if isinstance(op, Conv) else 1
    out = output_shape(op, shape)
    pixels = [shape[0], int(np.prod(out[1:-1]))] if isinstance(op, Conv) else [1, shape[0]]
    return (
        groups * -(-terms(op, shape) // 32) * -(-out[-1] // groups // 16) * pixels[0]
        * -(-pixels[1] // 16)
    )  # fmt: skip


def computing_seconds(layer, rates, precision):
    """The least time of a layer's products, and whether all are best made by the matrix unit."""
    seconds, by_unit = 0, True
    for op, shape in zip(layer.ops, input_shapes(layer), strict=True):
        if not isinstance(op, Conv | Dense):
            continue
        sums = terms(op, shape) * int(np.prod(output_shape(op, shape)))
        direct = 2 * sums / rates[layer.dtype]
        unit = float("inf")
        if layer.dtype == "float32" and rates["tiles"]:
            unit = TILE_PRODUCTS[precision] * tiles(op, shape) / rates["tiles"]
        seconds += min(direct, unit)
        by_unit = by_unit and unit < direct
    return seconds, by_unit


def rows_of(run, library):
    """For each layer: name, microseconds, limits, which one counts, share, and the best peer's."""
    rates = {
        "float32": rate(library.multiply_adds_float),
        "float64": rate(library.multiply_adds_double),
        "tiles": rate(library.tile_products),
    }
    layers = {layer.name: layer for layer in all_layers()}
    rows = []
    for record in run["layers"]:
        layer = layers[record["name"]]
        us = record["contenders"]["pycnn"].get("us")
        if us is None:
            continue
        computing, by_unit = computing_seconds(layer, rates, run["precision"])
        computing *= 1e6
        moving = pass_seconds(library, *traffic(layer)) * 1e6
        limit = max(computing, moving)
        peer = record["contenders"].get(record["peer"], {}).get("us")
        rows.append(
            [
                record["name"],
                number(us),
                number(computing),
                number(moving),
                "passes" if moving > computing else "matrix unit" if by_unit else "multiply-adds",
                f"{limit / us:.0%}",
                f"{limit / peer:.0%}" if peer else "",
                f"{peer / limit:.3g}" if peer else "",
            ]
        )
    most = [float(row[-1]) for row in rows if row[-1]]
    rows.append(["geometric mean", *[""] * 6, number(float(np.exp(np.log(most).mean())))])
    return rates, rows


HEADS = [
    "layer", "pycnn", "products", "one pass", "limit", "pycnn is at", "the best peer at",
    "most × best",
]  # fmt: skip


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="what compare.py --json wrote")
    parser.add_argument("--rst", action="store_true", help="print reStructuredText")
    options = parser.parse_args()
    run = json.loads(options.run.read_text(encoding="utf-8"))
    rates, rows = rows_of(run, compiled())
    text = (
        f"{run['machine']['cpu']}, one core: {rates['float32'] / 1e9:.0f} GFLOP/s of multiply-adds "
        f"in float32, {rates['float64'] / 1e9:.0f} in float64"
    )
    if rates["tiles"]:
        full = rates["tiles"] / TILE_PRODUCTS[run["precision"]] * 2 * 16 * 16 * 32
        text += f", {full / 1e9:.0f} of float32 in full tiles of the matrix unit"
    text += ". Microseconds.\n"
    if options.rst:
        sys.stdout.write(text + "\n" + rst_table(HEADS, rows))
        return
    widths = [max(len(row[i]) for row in [HEADS, *rows]) for i in range(len(HEADS))]
    print(text)
    for row in [HEADS, *rows]:
        print(
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            sep="  ",
        )


if __name__ == "__main__":
    main()
