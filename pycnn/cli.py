"""The command line: ``python -m pycnn`` and the ``pycnn`` script.

Every problem a user can cause ends in one line on stderr and exit status 2. Files are written
only after everything has been computed, so a run that fails or is interrupted leaves the
folder as it was.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import threading
import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import numpy as np

from pycnn import _files, config, viz
from pycnn._files import Problem
from pycnn.numpycnn import conv, pooling, random_filters, relu

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from _typeshed import SupportsWrite
    from numpy.typing import NDArray

__all__ = ["main", "tutorial_filters"]

# The most numbers one step may make: 4 GB in float32.
MAX_VALUES = 1_000_000_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name. By default those of the process.

    Returns
    -------
    int
        The exit status: 0 when all went well, 2 when something must be put right, 130 after
        Ctrl-C, 141 when the reader of standard output went away.
    """
    for stream in (sys.stdout, sys.stderr):
        # A file's name may hold characters that the terminal's encoding lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _printing():
            arguments = _parser().parse_args(argv)
        arguments.command(arguments)
    except Problem as problem:
        return _complain(str(problem), 2)
    except MemoryError:
        return _complain("not enough memory", 2)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        _detach_stdout()
        return 141
    except SystemExit as done:  # argparse, after --help and --version
        return int(done.code or 0)
    return 0


def _complain(message: str, status: int) -> int:
    if sys.stderr is not None:
        print("pycnn:", message, file=sys.stderr)
    return status


def _say(line: str) -> None:
    with _printing():
        print(line)


@contextlib.contextmanager
def _printing() -> Iterator[None]:
    """Flush at the end, so that a full disk or a closed pipe is noticed here and not at exit."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _detach_stdout()
        raise Problem(f"cannot write to standard output: {_files.reason(error)}") from error


def _detach_stdout() -> None:
    """Let the interpreter's own flush at exit go nowhere instead of failing again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


# --- Arguments -----------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Problem(f"{message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        # Unlike argparse's own, this does not ignore that the text could not be written.
        print(message, end="", file=file)


def _at_least(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is less than {least}")
        return value

    whole_number.__name__ = "whole number"  # argparse says: invalid whole number value: 'x'
    return whole_number


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pycnn",
        description="Convolutional layers at the speed of the machine, on plain NumPy arrays.",
    )
    parser.add_argument("--version", action="version", version=f"pycnn {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    features = commands.add_parser(
        "features",
        help="convolution features of an image, as pictures and arrays",
        description="Run an image through convolution, ReLU and 2x2 max pooling, and draw what "
        "comes out. Without --filters or --random there are three stages: the first has two "
        "3x3 edge filters, the others random ones.",
    )
    features.add_argument(
        "image",
        metavar="IMAGE",
        nargs="?",
        help="a PNG, JPEG, TIFF or other picture (default: chelsea, the cat of scikit-image)",
    )
    features.add_argument("--rgb", action="store_true", help="keep the colours (default: grey)")
    which = features.add_mutually_exclusive_group()
    which.add_argument(
        "--filters",
        metavar="FILE.npy",
        help="one stage with these filters: (F, KH, KW), or (F, KH, KW, 3) with --rgb",
    )
    which.add_argument(
        "--random",
        nargs=2,
        type=_at_least(1),
        metavar=("N", "SIZE"),
        help="one stage with N random filters of SIZE x SIZE",
    )
    features.add_argument(
        "--seed", type=_at_least(0), metavar="S", help="seed of the random filters (default: 0)"
    )
    features.add_argument(
        "--out",
        metavar="DIR",
        default="features",
        help="folder for the pictures stage1.png, stage2.png ... (default: %(default)s)",
    )
    features.add_argument("--npz", metavar="FILE", help="also write all arrays to this file")
    features.set_defaults(command=_features)

    info = commands.add_parser(
        "info",
        help="version, build, CPU and threads",
        description="Print how pycnn was built and what it uses on this machine.",
    )
    info.set_defaults(command=_info)
    return parser


def _version() -> str:
    import pycnn

    return pycnn.__version__


def _info(_: argparse.Namespace) -> None:
    with _printing():
        config.show_config()


# --- features ------------------------------------------------------------------------------


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


def _features(arguments: argparse.Namespace) -> None:
    if arguments.filters is not None and arguments.seed is not None:
        raise Problem("--seed has no effect together with --filters")
    _check_extra()
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
        png = _draw_stage(f"Stage {i}", x, filters, maps, rgb=arguments.rgb and i == 1)
        _report(f"stage {i}", "picture", "", None, time.perf_counter() - start)
        writers[picture] = partial(_write_bytes, png)
        if archive:
            names = [f"stage{i}_{step}" for step in ("filters", "conv", "relu", "pooling")]
            arrays.update(zip(names, (filters, *maps), strict=True))
        x = maps[-1]
    if archive:
        writers[archive] = partial(_write_arrays, arrays)

    _files.publish(writers)
    for path in writers:
        _say(f"wrote    {path}")


def _check_extra() -> None:
    try:
        import matplotlib.figure  # noqa: F401
        import skimage.io  # noqa: F401
    except ImportError as error:
        raise Problem(f'{error}; to read and draw images: pip install "pycnn[images]"') from error


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
        _check_amount("the random filters", n * size * size * (channels or 1))
        return [random_filters(n, size, channels, seed=seed)]
    return list(tutorial_filters(seed, channels=channels))


def _check_amount(what: str, values: int) -> None:
    if values > MAX_VALUES:
        raise Problem(f"{what} would hold {values:,} numbers; the most is {MAX_VALUES:,}")


def _run_stage(
    name: str, x: NDArray[Any], filters: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Run convolution, ReLU and 2x2 pooling, and print a line for each."""
    _check_amount(f"{name}: the maps", x.shape[0] * x.shape[1] * filters.shape[0])
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
            x, seconds = _in_thread(function, x)
        except (ValueError, TypeError) as error:  # the image is too small for the filters
            raise Problem(f"{name}: {_files.reason(error)}") from error
        _report(name, step, what, x.shape, seconds)
        results.append(x)
    return results[0], results[1], results[2]


def _in_thread(
    function: Callable[[NDArray[Any]], NDArray[Any]], x: NDArray[Any]
) -> tuple[NDArray[Any], float]:
    """Call ``function(x)`` and time it, in a thread, so that Ctrl-C need not wait for its end.

    Python looks for signals between its own instructions only, and a compiled loop over a
    large image and large filters may take minutes.
    """
    future: Future[tuple[NDArray[Any], float]] = Future()

    def work() -> None:
        start = time.perf_counter()
        try:
            result = function(x)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result((result, time.perf_counter() - start))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)  # Windows hears Ctrl-C only when a wait has a limit
    return future.result()


def _report(name: str, step: str, what: str, shape: tuple[int, ...] | None, seconds: float) -> None:
    size = "" if shape is None else " x ".join(map(str, shape))
    _say(f"{name:<8} {step:<8} {what:<20} {size:<18} {1000 * seconds:>9.2f} ms")


def _draw_stage(
    title: str,
    x: NDArray[Any],
    filters: NDArray[Any],
    maps: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    *,
    rgb: bool,
) -> bytes:
    import matplotlib

    stream = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the same picture whatever the user's matplotlibrc says
        figure = viz.plot_stage(x, *maps, filters=filters, title=title, rgb=rgb)
        figure.savefig(stream, format="png")
    return stream.getvalue()


def _write_bytes(content: bytes, stream: BinaryIO) -> None:
    stream.write(content)


def _write_arrays(arrays: dict[str, NDArray[Any]], stream: BinaryIO) -> None:
    np.savez(stream, allow_pickle=False, **arrays)
