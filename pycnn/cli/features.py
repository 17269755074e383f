"""``pycnn features``: convolution features of an image, as pictures and arrays."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from pycnn import _files, viz
from pycnn._files import Problem
from pycnn.cli._common import (
    check_amount,
    check_name,
    in_thread,
    need,
    png_of,
    say,
    whole,
    write_bytes,
)
from pycnn.numpycnn import conv, pooling, random_filters, relu

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["add_parser", "tutorial_filters"]


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "features",
        help="convolution features of an image, as pictures and arrays",
        description="Run an image through convolution, ReLU and 2x2 max pooling, and draw what "
        "comes out. Without --filters or --random there are three stages: the first has two "
        "3x3 edge filters, the others random ones.",
    )
    parser.add_argument(
        "image",
        metavar="IMAGE",
        nargs="?",
        help="a PNG, JPEG, TIFF or other picture (default: chelsea, the cat of scikit-image)",
    )
    parser.add_argument("--rgb", action="store_true", help="keep the colours (default: grey)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--filters",
        metavar="FILE.npy",
        help="one stage with these filters: (F, KH, KW), or (F, KH, KW, 3) with --rgb",
    )
    which.add_argument(
        "--random",
        nargs=2,
        type=whole(1),
        metavar=("N", "SIZE"),
        help="one stage with N random filters of SIZE x SIZE",
    )
    parser.add_argument(
        "--seed", type=whole(0), metavar="S", help="seed of the random filters (default: 0)"
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="features",
        help="folder for the pictures stage1.png, stage2.png ... (default: %(default)s)",
    )
    parser.add_argument("--npz", metavar="FILE", help="also write all arrays to this file")
    parser.set_defaults(command=_run)


def tutorial_filters(seed: int = 0, *, channels: int | None = None) -> list[NDArray[np.float32]]:
    """Make the filters of the tutorial's three stages.

    Parameters
    ----------
    seed : int, default 0
        Seed of the random filters of the second and third stage.
    channels : int, optional
        Channels of the image. By default it is grey, of shape (H, W).

    Returns
    -------
    list of numpy.ndarray
        Filters of shape (2, 3, 3), (3, 5, 5, 2) and (1, 7, 7, 3). The first, with `channels`,
        has shape (2, 3, 3, channels) and finds the edges of the channels' mean.
    """
    edges = np.array(
        [
            [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]],
            [[1, 1, 1], [0, 0, 0], [-1, -1, -1]],
        ],
        dtype=np.float32,
    )
    if channels is not None:
        edges = np.repeat(edges[..., np.newaxis] / np.float32(channels), channels, axis=-1)
    rng = np.random.default_rng(seed)
    second, third = rng.random((3, 5, 5, 2)), rng.random((1, 7, 7, 3))
    return [edges, second.astype(np.float32), third.astype(np.float32)]


def _run(arguments: argparse.Namespace) -> int:
    if arguments.filters is not None and arguments.seed is not None:
        raise Problem("--seed has no effect together with --filters")
    need("images", "to read and draw images", "matplotlib.figure", "skimage.io")
    for path, what in (
        (arguments.image, "the picture"),
        (arguments.filters, "--filters"),
        (arguments.npz, "--npz"),
        (arguments.out, "--out"),
    ):
        if path is not None:
            check_name(path, what)
    image_path = _chelsea() if arguments.image is None else Path(arguments.image)
    filters_path = None if arguments.filters is None else Path(arguments.filters)
    archive = None if arguments.npz is None else Path(arguments.npz)
    channels = 3 if arguments.rgb else None

    start = time.perf_counter()
    image = _files.read_image(image_path, rgb=arguments.rgb)
    _report("image", "read", repr(image_path.name), image.shape, time.perf_counter() - start)
    stages = _stages(arguments, filters_path, channels)

    pictures = [Path(arguments.out, f"stage{i}.png") for i in range(1, len(stages) + 1)]
    _files.check_targets(
        [*pictures, *([archive] if archive else [])],
        [image_path, *([filters_path] if filters_path else [])],
    )

    writers: dict[Path, Callable[[BinaryIO], object]] = {}
    arrays: dict[str, NDArray[Any]] = {"image": image}
    x: NDArray[Any] = image
    for i, (filters, picture) in enumerate(zip(stages, pictures, strict=True), start=1):
        maps = _run_stage(f"stage {i}", x, filters)
        start = time.perf_counter()
        rgb = arguments.rgb and i == 1
        png = png_of(viz.plot_stage, x, *maps, filters=filters, title=f"Stage {i}", rgb=rgb)
        _report(f"stage {i}", "picture", "", None, time.perf_counter() - start)
        writers[picture] = partial(write_bytes, png)
        if archive:
            names = [f"stage{i}_{step}" for step in ("filters", "conv", "relu", "pooling")]
            arrays.update(zip(names, (filters, *maps), strict=True))
        x = maps[-1]
    if archive:
        writers[archive] = partial(_write_arrays, arrays)

    _files.publish(writers)
    for path in writers:
        say(f"wrote    {path}")
    return 0


def _chelsea() -> Path:
    # The file itself, because skimage.data may reach for the network and writes a cache.
    import skimage

    return Path(skimage.__file__).parent / "data" / "chelsea.png"


def _stages(
    arguments: argparse.Namespace, filters_path: Path | None, channels: int | None
) -> list[NDArray[Any]]:
    seed = arguments.seed or 0
    if filters_path is not None:
        return [_files.read_filters(filters_path, channels=channels)]
    if arguments.random is not None:
        n, size = arguments.random
        check_amount("the random filters", n * size * size * (channels or 1))
        return [random_filters(n, size, channels, seed=seed)]
    return list(tutorial_filters(seed, channels=channels))


def _run_stage(
    name: str, x: NDArray[Any], filters: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Run convolution, ReLU and 2x2 pooling, and print a line for each."""
    check_amount(f"{name}: the maps", x.shape[0] * x.shape[1] * filters.shape[0])
    n, height, width = filters.shape[:3]
    what = f"{n} filter{'' if n == 1 else 's'}, {height} x {width}"
    steps: list[tuple[str, str, Callable[[NDArray[Any]], NDArray[Any]]]] = [
        ("conv", what, lambda x: conv(x, filters)),
        ("relu", "", relu),
        ("pooling", "2 x 2 windows", pooling),
    ]
    results = []
    for step, what, function in steps:
        try:
            x, seconds = in_thread(function, x)
        except (ValueError, TypeError) as error:  # the image is too small for the filters
            raise Problem(f"{name}: {_files.reason(error)}") from error
        _report(name, step, what, x.shape, seconds)
        results.append(x)
    return results[0], results[1], results[2]


def _report(name: str, step: str, what: str, shape: tuple[int, ...] | None, seconds: float) -> None:
    size = "" if shape is None else " x ".join(map(str, shape))
    say(f"{name:<8} {step:<8} {what:<20} {size:<18} {1000 * seconds:>9.2f} ms")


def _write_arrays(arrays: dict[str, NDArray[Any]], stream: BinaryIO) -> None:
    # Not allow_pickle=False, which NumPy took for an array until 2.1; none of these is of objects.
    np.savez(stream, **arrays)  # type: ignore[arg-type]
