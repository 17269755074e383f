"""What the commands share: printing, arguments, optional packages, threads and pictures."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from pycnn._checks import LARGEST, in_words
from pycnn._files import MAX_PIXELS, Problem, reason

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from matplotlib.figure import Figure

T = TypeVar("T")

# The most numbers one step may make: 4 GB in float32.
MAX_VALUES = 1_000_000_000


# --- Printing ------------------------------------------------------------------------------


def note(message: str) -> None:
    """Say something on standard error."""
    if sys.stderr is not None:
        print("pycnn:", message, file=sys.stderr)


def say(line: str) -> None:
    """Print a line, and notice here if it cannot be."""
    with printing():
        print(line)


@contextlib.contextmanager
def printing() -> Iterator[None]:
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
        detach_stdout()
        raise Problem(f"cannot write to standard output: {reason(error)}") from error


def detach_stdout() -> None:
    """Let the interpreter's own flush at exit go nowhere instead of failing again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def shown(name: str) -> str:
    """A name from a file, without what would steer the terminal."""
    return name if name.isprintable() else ascii(name)


@contextlib.contextmanager
def progress(items: Collection[T], what: str, *, hide: bool = False) -> Iterator[Iterable[T]]:
    """The items, counted by a bar while standard error is a terminal and tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield items
        return
    with tqdm(items, desc=what, leave=False, disable=hide or None) as bar:
        yield bar


# --- Arguments -----------------------------------------------------------------------------


def whole(least: int, most: int = LARGEST) -> Callable[[str], int]:
    """A type of argument: whole numbers between these."""

    def whole_number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:  # thousands of digits, too
            raise argparse.ArgumentTypeError(f"{text!r:.60} is no whole number") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"{in_words(value)} is less than {least}")
        if value > most:
            raise argparse.ArgumentTypeError(f"{in_words(value)} is more than {most}")
        return value

    return whole_number


def need(extra: str, purpose: str, *modules: str) -> None:
    """Import optional packages, or say which extra of pycnn brings them."""
    try:
        for module in modules:
            importlib.import_module(module)
    except ImportError as error:
        raise Problem(f'{error}; {purpose}: pip install "pycnn[{extra}]"') from error


def check_name(path: str, what: str) -> None:
    """Refuse what no file can be called; `pathlib` takes no name at all for this folder."""
    if not path:
        raise Problem(f"{what} '' has no name")
    if "\0" in path:
        raise Problem(f"{what} {path!r} has a character that no file's name can have")


def check_model_name(path: str) -> None:
    """Refuse names that say no format of models, or one that cannot be read or written here."""
    check_name(path, "the model")
    if not path.endswith((".npz", ".safetensors")):
        raise Problem(f"the model {path!r} must end with .npz or .safetensors")
    if path.endswith(".safetensors"):
        need("models", "for .safetensors files", "safetensors")


def check_amount(what: str, values: int) -> None:
    """Refuse a step that would make more than `MAX_VALUES` numbers."""
    if values > MAX_VALUES:
        raise Problem(f"{what} would hold {values:,} numbers; the most is {MAX_VALUES:,}")


def check_pixels(what: str, height: int, width: int) -> None:
    """Refuse pictures larger than those that are read."""
    if height * width > MAX_PIXELS:
        raise Problem(
            f"{what} would have {height:,} x {width:,} pixels; the most is {MAX_PIXELS:,}"
        )


# --- Work ----------------------------------------------------------------------------------


def in_thread(function: Callable[..., T], *args: Any) -> tuple[T, float]:
    """Call a function and time it, in a thread, so that Ctrl-C need not wait for its end.

    Python looks for signals between its own instructions only, and a compiled loop over a
    large image and large filters may take minutes.
    """
    future: Future[tuple[T, float]] = Future()

    def work() -> None:
        start = time.perf_counter()
        try:
            result = function(*args)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result((result, time.perf_counter() - start))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.2)  # Windows hears Ctrl-C only when a wait has a limit
    return future.result()


def png_of(plot: Callable[..., Figure], *args: Any, **kwargs: Any) -> bytes:
    """Draw a figure, the same one whatever the user's matplotlibrc says."""
    import matplotlib

    stream = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["text.parse_math"] = False  # dollar signs in names are no formulas
        plot(*args, **kwargs).savefig(stream, format="png")
    return stream.getvalue()


def write_bytes(content: bytes, stream: BinaryIO) -> None:
    """Write a whole file; the bytes come first, for `functools.partial`."""
    stream.write(content)
