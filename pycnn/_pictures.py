"""Pictures of any size and kind as samples of one shape, and folders with one class each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pycnn._files import Problem, read_image, reason

if TYPE_CHECKING:
    from typing import Any

    from pycnn._typing import Array, Shape
    from pycnn.layers import Sequential

__all__ = ["PREPROCESSING", "ClassFolders", "class_folders", "classes_of", "resized", "sample"]

# What turning colours into grey may add to 1.
ROUNDING = 1e-3
# What `sample` does, in the words that a model keeps.
PREPROCESSING = {"range": [0, 1], "resize": "bilinear, antialiased"}


def resized(image: Array, size: tuple[int, int]) -> Array:
    """Bring an image to another height and width, whatever its proportions.

    Parameters
    ----------
    image : numpy.ndarray of float32, shape (H, W) or (H, W, C)
    size : (int, int)
        Height and width of the result.

    Returns
    -------
    numpy.ndarray of float32, shape (*size,) or (*size, C)
        Pixels are weighted by a triangle as wide as the pixels of the smaller image.
    """
    from PIL import Image

    if image.shape[:2] == size:
        return image
    planes = image[:, :, np.newaxis] if image.ndim == 2 else image
    height, width = size
    scaled = [
        np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
        for plane in np.ascontiguousarray(np.moveaxis(planes, 2, 0))
    ]
    return np.stack(scaled, axis=2).reshape(*size, *image.shape[2:])


def sample(path: Path, shape: Shape) -> Array:
    """Read a picture as one sample of a network.

    Parameters
    ----------
    path : pathlib.Path
        What `pycnn._files.read_image` reads.
    shape : tuple of int
        ``(H, W)`` for grey, ``(H, W, 3)`` for colours.

    Returns
    -------
    numpy.ndarray of float32, shape `shape`

    Raises
    ------
    Problem
        If it cannot be read, or has pixels that are no finite numbers from 0 to 1, as files of
        floating-point numbers may: a single wild one would spoil what is learned.
    """
    image = read_image(path, rgb=len(shape) == 3)
    if not np.isfinite(image).all():
        raise Problem(f"cannot read {str(path)!r}: it has pixels that are no finite numbers")
    low, high = image.min(), image.max()
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise Problem(
            f"cannot read {str(path)!r}: it has pixels from {low:g} to {high:g}; expected 0 to 1"
        )
    return resized(image, (shape[0], shape[1]))


class ClassFolders(NamedTuple):
    """What `class_folders` finds.

    Attributes
    ----------
    classes : list of str
        The names of the sub-folders, sorted.
    files : list of (pathlib.Path, int)
        All files in them, and the index of their class.
    left_out : list of str
        A sentence for each folder that cannot be read.
    """

    classes: list[str]
    files: list[tuple[Path, int]]
    left_out: list[str]


def class_folders(folder: Path) -> ClassFolders:
    """Find the files of each class: one sub-folder a class, whatever lies below it.

    Names that begin with a dot are passed over, as file managers do, and so are files beside the
    sub-folders. Links to folders are followed in `folder` only, where they cannot go round.

    Parameters
    ----------
    folder : pathlib.Path

    Returns
    -------
    ClassFolders
        In the order of the names.

    Raises
    ------
    Problem
        If the folder cannot be read.
    """
    found = ClassFolders([], [], [])

    def leave_out(error: OSError) -> None:
        found.left_out.append(f"cannot read the folder {error.filename!r}: {reason(error)}")

    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_dir() and not entry.name.startswith("."):
                        found.classes.append(entry.name)
                except OSError as error:  # a link that leads nowhere one may go
                    leave_out(error)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise Problem(f"cannot read the folder {str(folder)!r}: {reason(error)}") from error
    found.classes.sort()
    for label, name in enumerate(found.classes):
        for parent, folders, files in os.walk(folder / name, onerror=leave_out):
            folders[:] = sorted(inner for inner in folders if not inner.startswith("."))
            visible = sorted(file for file in files if not file.startswith("."))
            found.files.extend((Path(parent, file), label) for file in visible)
    return found


def classes_of(network: Sequential) -> list[str]:
    """The names of the classes that a network tells apart, if it is one that `train` made.

    Parameters
    ----------
    network : Sequential

    Returns
    -------
    list of str
        One for each number of its result.

    Raises
    ------
    Problem
        A network that takes no pictures as `sample` makes them, or whose classes have no names.
    """
    shape = network.input_shape or ()
    if len(shape) not in (2, 3) or shape[2:] not in ((), (3,)):
        raise Problem(f"the model takes inputs of shape {shape}; expected (H, W) or (H, W, 3)")
    metadata: dict[str, Any] = network.metadata or {}
    classes = metadata.get("classes")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise Problem("the model has no names of classes, as pycnn train gives it")
    if len(set(classes)) != len(classes) or network.output_shape(shape) != (len(classes),):
        raise Problem(
            f"the model has {len(set(classes))} different names of classes for results of shape "
            f"{network.output_shape(shape)}"
        )
    if metadata.get("preprocessing") != PREPROCESSING:
        raise Problem(
            f"the model needs the preprocessing {metadata.get('preprocessing')!a:.100}; this "
            f"pycnn does {PREPROCESSING}"
        )
    return classes
