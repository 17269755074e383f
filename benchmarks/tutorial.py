#!/usr/bin/env python
"""Time the tutorial's three stages on a real image: pycnn, PyTorch, and loops in Python.

Each stage is a convolution, a ReLU and a 2x2 maximum pooling; the image is scikit-image's grey
chelsea (300 x 451), or random numbers of that shape where scikit-image is not installed::

    python benchmarks/tutorial.py              # pycnn and, where installed, PyTorch
    python benchmarks/tutorial.py --naive      # and the loops, which take seconds

All results are compared with each other before anything is printed.  ``ratio`` is how many times
faster pycnn's plain functions are than the row.
"""

import argparse
import sys
from pathlib import Path

import timing


def load_image(dtype):
    """Grey chelsea with values from 0 to 1, and what it is called."""
    import numpy as np

    try:
        from skimage import color, data
    except ImportError:
        return np.random.default_rng(0).random((300, 451)).astype(dtype), "random 300x451"
    return color.rgb2gray(data.chelsea()).astype(dtype), "chelsea 300x451"


def make_filters(dtype):
    """Filters of the three stages: two edge detectors, then random ones."""
    import numpy as np

    rng = np.random.default_rng(0)
    edges = [[[-1, 0, 1]] * 3, [[1, 1, 1], [0, 0, 0], [-1, -1, -1]]]
    stages = [np.array(edges), rng.random((3, 5, 5, 2)), rng.random((1, 7, 7, 3))]
    return [filters.astype(dtype) for filters in stages]


def naive_stages(image, stages):
    """Compute the three stages with a Python loop over every pixel, as the tutorial does."""
    import numpy as np

    maps = image[..., None]
    for filters in stages:
        filters = filters.reshape(*filters.shape[:3], -1)
        count, size = filters.shape[:2]
        height, width = (n - size + 1 for n in maps.shape[:2])
        convolved = np.zeros((height, width, count), image.dtype)
        for f in range(count):
            for channel in range(maps.shape[2]):
                kernel = filters[f, :, :, channel]
                for row in range(height):
                    for column in range(width):
                        region = maps[row : row + size, column : column + size, channel]
                        convolved[row, column, f] += np.sum(region * kernel)
        for f in range(count):
            for row in range(height):
                for column in range(width):
                    convolved[row, column, f] = max(convolved[row, column, f], 0)
        maps = np.zeros((height // 2, width // 2, count), image.dtype)
        for f in range(count):
            for row in range(height // 2):
                for column in range(width // 2):
                    region = convolved[2 * row : 2 * row + 2, 2 * column : 2 * column + 2, f]
                    maps[row, column, f] = np.max(region)
    return maps


def torch_stages(image, stages, threads, memory_format):
    """Return a callable that computes the stages in PyTorch, or None when it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    functional = torch.nn.functional
    torch.set_num_threads(threads)
    layout = getattr(torch, memory_format)
    x = torch.from_numpy(image)[None, None].contiguous(memory_format=layout)
    weights = []
    for filters in stages:
        filters = filters.reshape(*filters.shape[:3], -1).transpose(0, 3, 1, 2)
        weights.append(torch.from_numpy(filters).contiguous(memory_format=layout))

    def run():
        with torch.inference_mode():
            maps = x
            for w in weights:
                maps = functional.max_pool2d(torch.relu(functional.conv2d(maps, w)), 2)
        return maps[0].permute(1, 2, 0).numpy()

    return run


def pycnn_stages(image, stages, threads):
    """Return callables that compute the stages in pycnn, by the heading of their rows."""
    import pycnn

    if hasattr(pycnn, "set_num_threads"):
        pycnn.set_num_threads(threads)

    packed = [pycnn.PackedFilters(filters) for filters in stages]

    def plain():
        maps = image
        for filters in stages:
            maps = pycnn.pooling(pycnn.relu(pycnn.conv(maps, filters)))
        return maps

    def fused():
        maps = image
        for filters in packed:
            maps = pycnn.conv_relu_pool(maps, filters)
        return maps

    return {"pycnn": plain, "pycnn, fused": fused}


def main(arguments=None):
    """Time every way that is there and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--naive", action="store_true", help="time loops in Python as well")
    options = parser.parse_args(arguments)
    timing.limit_threads(options.threads)
    # Behind everything installed: a checkout built in place serves where pycnn is not installed.
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import numpy as np

    image, name = load_image(options.dtype)
    stages = make_filters(options.dtype)
    runs = pycnn_stages(image, stages, options.threads)
    layouts = {"PyTorch": "contiguous_format", "PyTorch, channels-last": "channels_last"}
    for title, layout in layouts.items():
        run = torch_stages(image, stages, options.threads, layout)
        if run is not None:
            runs[title] = run

    right = runs["pycnn"]()
    # All sums of the stages are sums of a few hundred products at most.
    rtol = 1e3 * np.finfo(options.dtype).eps
    for title, run in runs.items():
        np.testing.assert_allclose(run(), right, rtol, err_msg=title)
    pause = 0.025 if options.threads > 1 else 0.0
    best = timing.race(runs, seconds=3, pause=pause)
    if options.naive:
        best["loops in Python"], loops = timing.time_once(lambda: naive_stages(image, stages))
        np.testing.assert_allclose(loops, right, rtol, err_msg="loops in Python")

    shapes = " ".join(str(filters.shape) for filters in stages)
    print(f"{name} {options.dtype}, filters {shapes}, threads: {options.threads}")
    print(f"{'three stages':24}{'ms':>12}{'ratio':>10}")
    for title, seconds in best.items():
        print(f"{title:24}{seconds * 1e3:12.3f}{seconds / best['pycnn']:10.2f}")


if __name__ == "__main__":
    main()
