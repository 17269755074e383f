"""The picture of ``pycnn train --confusion``: which classes were taken for which."""

from __future__ import annotations

import unicodedata
import warnings
from typing import TYPE_CHECKING

import numpy as np

from pycnn.cli._common import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pycnn._typing import Array

__all__ = ["plot_confusion"]

# Inches: a cell of the matrix, the least and the most of all of them, and a letter of 10 points.
_CELL, _LEAST, _MOST, _LETTER = 0.4, 2.8, 36.0, 0.085
# Letters of a name.
_LONGEST = 24
# Points; where lines are closer than the smallest letters, only some get names.
_LARGEST, _SMALLEST = 10.0, 5.0
# Up to this many classes there is room for numbers in the cells.
_NUMBERED = 50


def plot_confusion(truth: Array, predicted: Array, classes: list[str]) -> Figure:
    """Draw the confusion matrix, legibly for any number of classes and any names.

    Parameters
    ----------
    truth, predicted : numpy.ndarray of int, shape (N,)
        Classes as indices.
    classes : list of str
        Names that the font lacks letters for are replaced by their place in the list, with a
        warning.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    n = len(classes)
    matrix = confusion_matrix(truth, predicted, labels=range(n))
    body = min(max(_CELL * n, _LEAST), _MOST)
    names = _labels(classes)
    letters = min(_LARGEST, 0.75 * 72 * body / n)
    step = int(np.ceil(_SMALLEST / letters))
    letters = max(letters, _SMALLEST)
    side = 1.0 + body + _LETTER * letters / 10 * max(map(_width, names))
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    digits = len(str(matrix.max()))
    ConfusionMatrixDisplay(matrix).plot(
        include_values=n <= _NUMBERED,
        text_kw={"fontsize": min(_LARGEST, 0.9 * 72 * body / n / (0.65 * digits))},
        cmap="Blues",
        colorbar=False,
        ax=axes,
    )
    ticks, named = range(0, n, step), names[::step]
    axes.set_xticks(ticks, named, fontsize=letters, rotation="vertical", parse_math=False)
    axes.set_yticks(ticks, named, fontsize=letters, parse_math=False)
    right = np.mean(truth == predicted)
    axes.set_title(f"{len(truth):,} held-out pictures, {right:.1%} right", fontsize=11)
    return figure


def _labels(classes: list[str]) -> list[str]:
    """The names as they can be drawn."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    known = get_font(findfont(FontProperties())).get_charmap()
    labels, lacking = [], []
    for number, name in enumerate(map(shown, classes), start=1):
        drawable = all(ord(letter) in known for letter in name)
        labels.append(_shortened(name) if drawable else f"class {number}")
        if not drawable:
            lacking.append(labels[-1])
    if lacking:
        warnings.warn(
            "the font of the confusion matrix lacks letters in the names of "
            f"{len(lacking)} of the {len(classes)} classes; there they have numbers, in the order "
            f"above, the first {lacking[0]!r}",
            stacklevel=2,
        )
    return labels


def _shortened(name: str) -> str:
    """Names often differ in their ends, so what is left out is in the middle."""
    if _width(name) <= _LONGEST:
        return name
    head, tail = name[: _LONGEST - 10], name[-9:]
    return f"{head}\N{HORIZONTAL ELLIPSIS}{tail}"


def _width(name: str) -> int:
    """Letters of usual width that take as much room."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in name)
