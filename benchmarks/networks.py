#!/usr/bin/env python
"""Time two whole networks, SqueezeNet 1.1 and ResNet-18, in pycnn and in PyTorch channels-last.

Both get the same weights and images, and must give the same results before anything is timed::

    python benchmarks/networks.py                  # batches of 1 and 16 images, one thread
    python benchmarks/networks.py --layers         # and every layer on its own, batch of 1

``ratio`` is PyTorch's time over pycnn's: above 1, pycnn is faster.
"""

import argparse
import sys
from pathlib import Path

import timing

ROOT = Path(__file__).resolve().parents[1]


def torch_call(module, x):
    """Return a callable that runs a module on channels-last images, as NumPy arrays in and out."""
    import torch

    module = module.to(memory_format=torch.channels_last)
    tensor = torch.from_numpy(x)
    if x.ndim == 4:
        tensor = tensor.permute(0, 3, 1, 2)

    def run():
        with torch.inference_mode():
            return module(tensor).numpy()

    return run


def whole(name, module, network, batch, seconds):
    """Time a network on one batch; return a row."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, 224, 224, 3)).astype(np.float32)
    runs = {"pycnn": (lambda: network.predict(x, batch)), "PyTorch": torch_call(module, x)}
    right = runs["PyTorch"]()
    np.testing.assert_allclose(runs["pycnn"](), right, atol=1e-5 * np.abs(right).max())
    best = timing.race(runs, seconds)
    return name, batch, best


def layers(module, network, seconds):
    """Time each part of a network, as it runs there, on one image; yield rows."""
    import numpy as np
    import torch

    import pycnn

    parts = []
    for child, layer in zip(module, network, strict=True):
        follows = layer.kind in ("batch_norm", "relu", "max_pool2d")
        if not (follows and parts and parts[-1][0][1].kind == "conv2d"):
            parts.append([])
        parts[-1].append((child, layer))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 224, 224, 3)).astype(np.float32)
    for part in parts:
        children, ours = zip(*part, strict=True)
        run = pycnn.Sequential(ours)
        call = torch_call(torch.nn.Sequential(*children), x)
        best = timing.race({"pycnn": lambda run=run, x=x: run(x), "PyTorch": call}, seconds)
        yield " ".join(layer.kind for layer in ours), x.shape[1:], best
        x = run(x)


def main(arguments=None):
    """Time both networks and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--seconds", type=float, default=5, help="for each row")
    parser.add_argument("--layers", action="store_true", help="time every layer, too")
    options = parser.parse_args(arguments)
    timing.limit_threads(options.threads)
    # Behind everything installed: a checkout built in place serves where pycnn is not installed.
    sys.path += [str(ROOT), str(ROOT / "tests")]
    import torch
    import torch_networks

    import pycnn

    torch.set_num_threads(options.threads)
    pycnn.set_num_threads(options.threads)
    head = f"{'':40}{'batch':>8}{'pycnn ms':>12}{'PyTorch ms':>12}{'ratio':>8}"
    print(f"float32, 224x224x3, threads: {options.threads}\n{head}")
    networks = {
        "SqueezeNet 1.1": torch_networks.trained(torch_networks.squeezenet()),
        "ResNet-18": torch_networks.trained(torch_networks.resnet()),
    }
    for name, module in networks.items():
        network = torch_networks.layer_of(module)
        for batch in (1, 16):
            show(*whole(name, module, network, batch, options.seconds))
        if options.layers:
            for kinds, shape, best in layers(module, network, options.seconds / 10):
                show(f"  {kinds} {'x'.join(map(str, shape))}", 1, best)


def show(name, batch, best):
    """Print a row."""
    ours, theirs = best["pycnn"], best["PyTorch"]
    print(f"{name:40}{batch:8}{ours * 1e3:12.3f}{theirs * 1e3:12.3f}{theirs / ours:8.2f}")


if __name__ == "__main__":
    main()
