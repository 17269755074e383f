"""``pycnn classify``: what pictures show, by a model of ``pycnn train``."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pycnn import _files, _pictures
from pycnn._files import Problem
from pycnn.cli._common import (
    check_amount,
    check_model_name,
    check_name,
    check_pixels,
    in_thread,
    need,
    note,
    progress,
    say,
    shown,
)
from pycnn.layers import Sequential

if TYPE_CHECKING:
    from pycnn._typing import Array

__all__ = ["add_parser"]

_DESCRIPTION = """\
Say what pictures show, by a model that pycnn train has made. One line for each picture: its name,
and the most probable classes with their probabilities.

    pycnn classify pets.npz new.jpg holiday/*.png
    pycnn classify pets.npz *.jpg --json | jq -r .class

With --json each line is an object with "image", "class" and "probabilities" (of all classes), or
with "image" and "error". Nothing in a model is executed, wherever it comes from.

The exit status is 0 when every picture was classified, 1 when some could not be read (each is
named on standard error), 2 when the model or an argument is wrong."""

# Classes in a line.
_MOST = 3


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its arguments."""
    parser = commands.add_parser(
        "classify",
        help="say what pictures show, by a model of train",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a file that pycnn train has made")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="a picture in any format")
    parser.add_argument("--json", action="store_true", help="print an object for each picture")
    parser.set_defaults(command=_run)


def _run(arguments: argparse.Namespace) -> int:
    need("images", "to read images", "skimage.io")
    network, classes = _load(arguments.model)
    n_errors = 0
    # Results in the terminal show the progress themselves.
    quiet = sys.stdout is not None and sys.stdout.isatty()
    with progress(arguments.images, "reading", hide=quiet) as bar:
        for name in bar:
            try:
                check_name(name, "the picture")
                sample = _pictures.sample(Path(name), network.input_shape or ())
            except Problem as problem:
                n_errors += 1
                note(str(problem))
                if arguments.json:
                    say(json.dumps({"image": name, "error": str(problem)}))
                continue
            probabilities, _ = in_thread(_classified, network, sample)
            line = _as_json if arguments.json else _as_text
            say(line(name, classes, probabilities))
    if n_errors:
        note(f"{n_errors} of {len(arguments.images)} pictures could not be read")
    return 1 if n_errors else 0


def _load(path: str) -> tuple[Sequential, list[str]]:
    check_model_name(path)
    try:
        network = Sequential.load(path)
    except OSError as error:
        raise Problem(f"cannot read {path!r}: {_files.reason(error)}") from error
    except ValueError as error:
        raise Problem(_files.reason(error)) from error
    try:
        classes = _pictures.classes_of(network)
        check_pixels("a picture", *(network.input_shape or ())[:2])
        for row in network.summary().rows:
            check_amount(f"the result of {row.name}", math.prod(row.output_shape))
    except Problem as problem:
        raise Problem(f"cannot classify with {path!r}: {problem}") from problem
    return network, classes


def _classified(network: Sequential, sample: Array) -> Array:
    probabilities = network(sample)
    if not ((probabilities >= 0).all() and abs(probabilities.sum() - 1) < 1e-3):
        raise Problem("the model's results are no probabilities; its last layer must be a softmax")
    return probabilities


def _as_text(name: str, classes: list[str], probabilities: Array) -> str:
    most = np.argsort(-probabilities, kind="stable")[:_MOST]
    return f"{shown(name)}: " + ", ".join(
        f"{shown(classes[i])} {probabilities[i]:.4f}" for i in most
    )


def _as_json(name: str, classes: list[str], probabilities: Array) -> str:
    numbers = map(float, probabilities)
    return json.dumps(
        {
            "image": name,
            "class": classes[probabilities.argmax()],
            "probabilities": dict(zip(classes, numbers, strict=True)),
        }
    )
