"""Reading files that nobody vouches for, and writing results whole or not at all.

Used by the command line. Every failure is a :class:`Problem` whose message is one sentence
for the person who typed the file's name.
"""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from pycnn._disk import BadFile, check_target, open_regular, write_files
from pycnn._npy import read_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import PIL.Image
    from numpy.typing import NDArray

__all__ = ["MAX_PIXELS", "Problem", "check_targets", "publish", "read_filters", "read_image"]

# The largest picture that is read: a file of a few hundred bytes can claim to hold billions
# of pixels. About the largest a camera makes.
MAX_PIXELS = 100_000_000

# How Pillow names the pixels that can be read. CMYK, Lab and the like are not among them:
# their channels are no brightnesses.
_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L", "F"}

# Pillow knows more formats than these; to read some (EPS) it runs another program.
_FORMATS = {"AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP"}

_EXIF_ORIENTATION = 0x0112


class Problem(Exception):
    """Something the user can put right; the message is the line they are shown."""


def reason(error: BaseException) -> str:
    """Say in a few words what went wrong, without the file's name, which the caller adds."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().split("\n")[0] or type(error).__name__


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with open_regular(path) as stream:
            yield stream
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise Problem(f"cannot read {str(path)!r}: {reason(error)}") from error


# --- Images --------------------------------------------------------------------------------


def read_image(path: Path, *, rgb: bool = False) -> NDArray[np.float32]:
    """Read a picture with scikit-image.

    Parameters
    ----------
    path : pathlib.Path
        A file with one picture: PNG, JPEG, TIFF, WebP, AVIF, BMP, PPM ...
    rgb : bool, default False
        Keep the colours.

    Returns
    -------
    numpy.ndarray of float32, shape (H, W), or (H, W, 3) with `rgb`
        Whole-number pixels come out as 0 to 1; floating-point pixels keep their values.
        Transparent pixels are laid over white.

    Raises
    ------
    Problem
        If there is no such file, or it does not hold one readable picture.
    """
    import PIL.Image
    import skimage.io

    with _opened(path) as stream, _quiet_libraries():
        try:
            with PIL.Image.open(stream) as header:
                _check_header(path, header)
                turn = 1 if header.format == "TIFF" else header.getexif().get(_EXIF_ORIENTATION, 1)
            stream.seek(0)
            # From the open file, not from its name: scikit-image would take "http:..." for
            # an address, and choose a reader by the name's ending.
            pixels = np.asarray(skimage.io.imread(stream))
            if header.format == "GIF":
                pixels = pixels[0]  # (1, H, W, 3)
            return _as_floats(_upright(pixels, turn), rgb=rgb)
        except (Problem, MemoryError):
            raise
        except PIL.UnidentifiedImageError as error:
            raise Problem(f"cannot read {str(path)!r}: it is not a supported image") from error
        except PIL.Image.DecompressionBombError as error:
            raise Problem(_too_large(path)) from error
        except Exception as error:
            # Decoders meet damaged files with whatever exception comes first.
            raise Problem(
                f"cannot read {str(path)!r}: damaged or unsupported image ({reason(error)})"
            ) from error


def _too_large(path: Path) -> str:
    return f"cannot read {str(path)!r}: it has more than {MAX_PIXELS // 10**6} million pixels"


def _check_header(path: Path, header: PIL.Image.Image) -> None:
    if header.format not in _FORMATS:
        raise Problem(f"cannot read {str(path)!r}: {header.format} is not a supported format")
    width, height = header.size
    if width * height > MAX_PIXELS:
        raise Problem(_too_large(path))
    n_frames = getattr(header, "n_frames", 1)
    # The further pictures of an MPO (many telephones' JPEG) are previews of the first.
    if n_frames > 1 and header.format != "MPO":
        raise Problem(f"cannot read {str(path)!r}: it holds {n_frames} pictures, not one")
    if header.mode not in _MODES:
        raise Problem(
            f"cannot read {str(path)!r}: its colours are {header.mode}; convert it to RGB first"
        )


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Keep the decoders' remarks on odd files off stderr."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _upright(pixels: NDArray[Any], turn: int) -> NDArray[Any]:
    """Apply the Exif orientation, as every viewer does."""
    if turn in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if turn in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if turn in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _as_floats(pixels: NDArray[Any], *, rgb: bool) -> NDArray[np.float32]:
    from skimage.color import gray2rgb, rgb2gray
    from skimage.util import img_as_float32

    image: NDArray[np.float32] = img_as_float32(pixels)
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels in (2, 4):
        alpha = image[:, :, -1:]
        image = image[:, :, :-1] * alpha + (1 - alpha)
        channels -= 1
        image = image[:, :, 0] if channels == 1 else image
    if rgb:
        image = image if channels == 3 else gray2rgb(image)
    else:
        image = image if channels == 1 else rgb2gray(image)
    return np.ascontiguousarray(image, dtype=np.float32)


# --- Filters -------------------------------------------------------------------------------


def read_filters(path: Path, *, channels: int | None) -> NDArray[Any]:
    """Read the filters of one layer from an ``.npy`` file.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    channels : int or None
        What the filters must fit: an image of this many channels, or a grey one.

    Returns
    -------
    numpy.ndarray of shape (F, KH, KW), or (F, KH, KW, channels)
        Float64 is kept; narrower formats become float32.

    Raises
    ------
    Problem
        If there is no such file, or it does not hold such an array.
    """
    with _opened(path) as stream:
        try:
            filters = read_array(stream, os.fstat(stream.fileno()).st_size)
        except BadFile as error:
            raise Problem(f"cannot read {str(path)!r} as an .npy file: {error}") from error
    wanted = "(F, KH, KW)" if channels is None else f"(F, KH, KW, {channels})"
    fits = filters.ndim == 3 if channels is None else filters.shape[3:] == (channels,)
    if not fits or filters.size == 0:
        hint = "; a colour image needs --rgb" if channels is None and filters.ndim == 4 else ""
        raise Problem(
            f"the filters in {str(path)!r} have shape {filters.shape}, not {wanted}{hint}"
        )
    return filters


# --- Results -------------------------------------------------------------------------------


def check_targets(targets: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse targets that must not be replaced, before any work is done.

    Parameters
    ----------
    targets : sequence of pathlib.Path
        The files that :func:`publish` will write.
    inputs : sequence of pathlib.Path
        Existing files that it must leave alone.

    Raises
    ------
    Problem
        If a target is one of the inputs, appears twice, or is no regular file.
    """
    taken = {}
    for path in inputs:
        with contextlib.suppress(OSError):  # what cannot be reached is not what a target stands for
            taken[os.path.realpath(path)] = f"the input {str(path)!r}"
    for target in targets:
        try:
            real = str(check_target(target)[0])
        except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
            raise Problem(f"cannot write {str(target)!r}: {reason(error)}") from error
        if real in taken:
            raise Problem(f"cannot write {str(target)!r}: it would overwrite {taken[real]}")
        taken[real] = repr(str(target))


def publish(writers: Mapping[Path, Callable[[BinaryIO], object]]) -> None:
    """Write files so that each appears whole, and none before all could be written.

    Parameters
    ----------
    writers : mapping of pathlib.Path to callable
        For each file a function that writes its content to an open binary file. Missing
        directories are made.

    Raises
    ------
    Problem
        If a file cannot be written. What was there before is then still there.
    """
    made: list[Path] = []
    try:
        for target in writers:
            _make_directory(Path(os.path.realpath(target)).parent, made)
        write_files(writers)
        made.clear()
    except OSError as error:
        raise Problem(f"cannot write {str(error.filename)!r}: {reason(error)}") from error
    finally:
        for directory in reversed(made):
            with contextlib.suppress(OSError):  # somebody else has put a file there by now
                directory.rmdir()


def _make_directory(directory: Path, made: list[Path]) -> None:
    """Make `directory` and its parents, and note in `made` which were new, outermost first."""
    if not directory.is_dir():
        if directory.parent != directory:
            _make_directory(directory.parent, made)
        made.append(directory)
        directory.mkdir(exist_ok=True)  # another process may have been faster
