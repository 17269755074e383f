"""``pycnn train``: learn to tell pictures apart."""

from __future__ import annotations

import argparse
import contextlib
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pycnn import _files, _pictures
from pycnn._files import Problem
from pycnn._model_files import model_writer
from pycnn.cli._common import (
    check_amount,
    check_model_name,
    check_name,
    check_pixels,
    need,
    note,
    png_of,
    progress,
    say,
    shown,
    whole,
    write_bytes,
)
from pycnn.cli._confusion import plot_confusion
from pycnn.layers import Sequential, _model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from pycnn._typing import Array

__all__ = ["add_parser"]

# Pictures whose features are computed between two looks at the progress.
_BATCH = 64

_DESCRIPTION = """\
Learn to tell pictures apart, from a folder with one sub-folder of pictures for each class:

    pets/cat/1.jpg  pets/cat/2.png  pets/dog/holiday/1.jpg ...

    pycnn train pets -o pets.npz --confusion pets.png
    pycnn classify pets.npz new.jpg

Pictures may differ in size and format, and be grey, coloured or transparent. They are turned
upright and resized to squares; if none of them has colours, the model is one for grey pictures.
Files that cannot be read are named and left out.

A part of each class is held out: the model never sees it, and the accuracy on it is printed. The
model is a layer of filters, learned from small patches of the pictures, with ReLU and pooling,
and a logistic regression on what they find. It is a pycnn.Sequential: pycnn.Sequential.load.

All pictures and their features are in memory: at most 1,000,000,000 numbers (4 GB) of each."""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "train",
        help="learn to tell pictures apart, from a folder for each class",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "folder", metavar="FOLDER", nargs="?", help="has a sub-folder of pictures for each class"
    )
    source.add_argument(
        "--dataset",
        choices=["digits"],
        help="instead of a folder, a data set that comes with scikit-learn: digits, 1797 "
        "handwritten ones of 8 x 8 pixels, white on black",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="MODEL",
        required=True,
        help="the file to write, .npz or .safetensors; one that is there is replaced",
    )
    parser.add_argument(
        "--confusion",
        metavar="FILE.png",
        help="also draw which classes of the held-out pictures were taken for which",
    )
    parser.add_argument(
        "--size",
        type=whole(1),
        metavar="N",
        help="pictures are resized to N x N pixels (default: 32; digits stay 8 x 8)",
    )
    parser.add_argument(
        "--filters",
        type=whole(1),
        default=128,
        metavar="N",
        help="how many filters to learn (default: %(default)s)",
    )
    parser.add_argument(
        "--test-size",
        type=_fraction,
        default=0.2,
        metavar="F",
        help="the fraction of each class to hold out (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=whole(0, 2**32 - 1),
        default=0,
        metavar="S",
        help="chooses which are held out, and where filters begin (default: %(default)s)",
    )
    parser.set_defaults(command=_run)


def _fraction(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r:.60} is no fraction") from None
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not between 0 and 1")
    return value


class _Labelled(NamedTuple):
    images: Array  # (N, H, W) or (N, H, W, 3)
    labels: Array
    classes: list[str]


def _run(arguments: argparse.Namespace) -> int:
    need("train", "to learn from pictures", "sklearn", "skimage.io")
    targets = _targets(arguments)
    with _warnings_as_notes():
        pictures = _digits(arguments) if arguments.dataset else _from_folder(arguments, targets)
        network, report = _train(pictures, arguments)
        writers: dict[Path, Callable[[BinaryIO], object]] = {}
        try:
            writers[targets[0]] = model_writer(targets[0], *_model.describe(network))
        except ValueError as error:  # names of classes beyond what a file may hold
            raise Problem(_files.reason(error)) from error
        if arguments.confusion is not None:
            png = png_of(plot_confusion, *report, pictures.classes)
            writers[targets[1]] = partial(write_bytes, png)
    _files.publish(writers)
    for path in writers:
        _report("wrote", str(path))
    return 0


def _targets(arguments: argparse.Namespace) -> list[Path]:
    """The files to write, after a look at whether they can be."""
    check_model_name(arguments.output)
    targets = [Path(arguments.output)]
    if arguments.confusion is not None:
        check_name(arguments.confusion, "--confusion")
        targets.append(Path(arguments.confusion))
        if targets[1].suffix != ".png":
            raise Problem(f"--confusion {str(targets[1])!r} must end with .png")
        need("images", "to draw pictures", "matplotlib.figure")
    _files.check_targets(targets, [])
    return targets


@contextlib.contextmanager
def _warnings_as_notes() -> Iterator[None]:
    """What the libraries warn of, in the form of the program's own remarks, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for line in dict.fromkeys(str(warning.message).split("\n")[0] for warning in caught):
                note(line)


def _report(what: str, result: str, start: float | None = None) -> None:
    seconds = "" if start is None else f"{time.perf_counter() - start:>8.2f} s"
    say(f"{what:<9} {result:<60} {seconds}".rstrip())


# --- Pictures ------------------------------------------------------------------------------


def _digits(arguments: argparse.Namespace) -> _Labelled:
    from sklearn.datasets import load_digits

    start = time.perf_counter()
    data = load_digits()
    images = (data.images / 16).astype(np.float32)
    if arguments.size is not None:
        _check_size(len(images), arguments.size, 1)
        size = (arguments.size, arguments.size)
        images = np.stack([_pictures.resized(image, size) for image in images])
    _report("pictures", f"{len(images):,} digits, {_shape_of(images)}", start)
    return _Labelled(images, data.target, [str(name) for name in data.target_names])


def _from_folder(arguments: argparse.Namespace, targets: list[Path]) -> _Labelled:
    start = time.perf_counter()
    check_name(arguments.folder, "the folder")
    folder, size = Path(arguments.folder), arguments.size or 32
    classes, files, left_out = _pictures.class_folders(folder)
    if len(classes) < 2:
        which = f"only the sub-folder {classes[0]!r}" if classes else "no sub-folder"
        raise Problem(f"{str(folder)!r} has {which}; expected two or more, one for each class")
    if any(target.exists() for target in targets):
        _files.check_targets(targets, [path for path, _ in files])
    _check_size(len(files), size, 3)
    images = np.empty((len(files), size, size, 3), np.float32)
    labels: list[int] = []
    skipped: list[str] = []
    with progress(files, "reading") as bar:
        for path, label in bar:
            try:
                images[len(labels)] = _pictures.sample(path, images.shape[1:])
                labels.append(label)
            except Problem as problem:
                skipped.append(str(problem))
    for sentence in left_out + skipped:
        note(f"skipped: {sentence}")
    if left_out:
        note(f"{_count(len(left_out), 'folder')} could not be read")
    if skipped:
        note(f"{len(skipped):,} of {_count(len(files), 'file')} could not be read")
    images = images[: len(labels)]
    if (images == images[..., :1]).all():
        images = images[..., 0]
    _report("pictures", f"{len(labels):,} of {len(files):,} files, {_shape_of(images)}", start)
    counts = np.bincount(labels, minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        _report("", f"{shown(name)}: {count:,}")
    if counts.min() < 2:
        raise Problem(
            f"the class {classes[counts.argmin()]!r} has {_count(counts.min(), 'picture')} that "
            "can be read; every class needs two or more, to learn from and to test with"
        )
    return _Labelled(images, np.array(labels), classes)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _check_size(n: int, size: int, channels: int) -> None:
    check_pixels("a picture", size, size)
    check_amount(f"{n:,} pictures of {size} x {size} pixels", n * size * size * channels)


def _shape_of(images: Array) -> str:
    height, width = images.shape[1:3]
    return f"{height} x {width} pixels, {'colour' if images.ndim == 4 else 'grey'}"


# --- Learning ------------------------------------------------------------------------------


def _train(pictures: _Labelled, arguments: argparse.Namespace) -> tuple[Sequential, Any]:
    """The network; and the true and the predicted classes of the held-out pictures."""
    from pycnn import _training

    images, labels, classes = pictures
    learn, test = _training.split(labels, classes, arguments.test_size, arguments.seed)
    _report(
        "split",
        f"{len(learn):,} to learn from, {len(test):,} held out "
        f"({arguments.test_size:g} of each class, seed {arguments.seed})",
    )
    start = time.perf_counter()
    extractor = _training.feature_extractor(images[learn], arguments.filters, arguments.seed)
    n, height, width = extractor.filters_.shape[:3]
    _report("filters", f"{n} of {height} x {width} pixels", start)

    start = time.perf_counter()
    layers = extractor.as_layers()
    features = _features(Sequential(layers, input_shape=images.shape[1:]), images, learn)
    _report("features", f"{features.shape[1]:,} of each picture", start)

    start = time.perf_counter()
    dense = _training.softmax_regression(features, labels[learn])
    network = Sequential(
        [*layers, dense],
        input_shape=images.shape[1:],
        metadata={"classes": classes, "preprocessing": _pictures.PREPROCESSING},
    )
    _report("weights", f"{dense.n_parameters:,} of a logistic regression", start)

    predicted = network.predict(images[test]).argmax(axis=1)
    right = int((predicted == labels[test]).sum())
    _report("accuracy", f"{right / len(test):.4f} ({right:,} of the {len(test):,} held out)")
    often = np.bincount(labels[learn]).argmax()
    chance = (labels[test] == often).mean()
    _report("", f"{chance:.4f} for always saying {shown(classes[often])}")
    return network, (labels[test], predicted)


def _features(network: Sequential, images: Array, which: Array) -> Array:
    """The results for some of the images: all that is in memory beside these."""
    (n,) = network.output_shape(images.shape[1:])
    check_amount(f"{n:,} features of {len(which):,} pictures", n * len(which))
    features = np.empty((len(which), n), np.float32)
    with progress(range(0, len(which), _BATCH), "features") as bar:
        for start in bar:
            batch = images[which[start : start + _BATCH]]
            features[start : start + len(batch)] = network.predict(batch)
    return features
