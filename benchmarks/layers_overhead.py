#!/usr/bin/env python
"""Time what a network costs above the fused calls it makes, on the tutorial's three stages.

The image is the tutorial's and one so small that little but the calls is left::

    python benchmarks/layers_overhead.py

``above`` is the network's time minus that of `conv_relu_pool` three times, with filters packed.
"""

import argparse
import sys
from pathlib import Path

import timing
import tutorial


def runs_for(image, stages):
    """The stages as calls and as a network of nine layers, on one image."""
    import pycnn

    packed = [pycnn.PackedFilters(filters) for filters in stages]
    layers = []
    for filters in stages:
        layers += [pycnn.Conv2D.from_arrays(filters), pycnn.ReLU(), pycnn.MaxPool2D()]
    network = pycnn.Sequential(layers)

    def calls():
        maps = image
        for filters in packed:
            maps = pycnn.conv_relu_pool(maps, filters)
        return maps

    return {"calls": calls, "network": lambda: network(image)}


def main(arguments=None):
    """Time both ways on each image and print a row for it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--seconds", type=float, default=5, help="for each row")
    options = parser.parse_args(arguments)
    timing.limit_threads(1)
    # Behind everything installed: a checkout built in place serves where pycnn is not installed.
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import numpy as np

    image, name = tutorial.load_image(options.dtype)
    stages = tutorial.make_filters(options.dtype)
    print(f"{'three stages':24}{'calls us':>12}{'network us':>12}{'above us':>10}")
    for title, x in {name: image, "its corner 46x46": image[:46, :46].copy()}.items():
        runs = runs_for(x, stages)
        np.testing.assert_array_equal(runs["network"](), runs["calls"]())
        best = timing.race(runs, options.seconds)
        calls, network = best["calls"] * 1e6, best["network"] * 1e6
        print(f"{title:24}{calls:12.1f}{network:12.1f}{network - calls:10.1f}")


if __name__ == "__main__":
    main()
