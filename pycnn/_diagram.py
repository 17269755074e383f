"""A network as a diagram: its layers one below the other, with shapes and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pycnn._panels import FAINT, INK, drawable, new_figure, size_of
from pycnn.layers._summary import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pycnn.layers import Summary

# Layers with weights, pools and the input stand out.
_COLOURS = {"Conv2D": "#cfe0f3", "Dense": "#cfe0f3", "input": "#f6e3c5"}
_POOL, _OTHER, _BAR, _LINE = "#d5ecd4", "#eeeef2", "#7d9cc0", "#a0a0ac"

# Inches, from the upper left corner.
_MARGIN, _PITCH, _BOX, _INDENT = 0.3, 0.4, 0.28, 0.28
_SHAPE, _NUMBER, _LONGEST_BAR = 1.35, 1.15, 1.6
_LETTER = 0.085  # the width of one


class _Place(NamedTuple):
    """Where a layer stands: its containers, and the left and middle of its box."""

    inside: tuple[str, ...]
    x: float
    y: float


def draw_summary(summary: Summary, title: str | None) -> Figure:
    """Draw the input, a line for each layer with its box and numbers, and the total."""
    rows = [Row("", "input", summary.input_shape, 0, 0), *summary.rows]
    labels = [row.name.rpartition("/")[2] for row in rows]
    top = _MARGIN + (0.45 if title else 0.0) + 0.3
    places = [
        _Place(inside, _MARGIN + _INDENT * len(inside), top + _PITCH * (i + 0.5))
        for i, inside in enumerate(tuple(row.name.split("/")[:-1]) for row in rows)
    ]
    ends = [
        place.x + _LETTER * (len(label) + len(row.layer) + 4)
        for place, label, row in zip(places, labels, rows, strict=True)
    ]
    shape_at = max(ends) + 0.2
    parameters_at = shape_at + _SHAPE + _NUMBER
    bars_at = parameters_at + 0.35
    width = bars_at + _LONGEST_BAR + _NUMBER + _MARGIN
    height = top + _PITCH * (len(rows) + 1) + _MARGIN
    figure = new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()

    def text(x: float, y: float, words: str, ha: str, colour: str = INK, **more: Any) -> None:
        axes.text(
            x, y, drawable(words), ha=ha, va="center", color=colour, parse_math=False,
            **{"fontsize": 9.5, **more},
        )  # fmt: skip

    if title:
        text(width / 2, _MARGIN + 0.1, title, "center", fontsize=14, fontweight="bold")
    for x, words, ha in (
        (shape_at, "result", "left"),
        (parameters_at, "parameters", "right"),
        (bars_at, "multiply-adds", "left"),
    ):
        text(x, top - 0.12, words, ha, FAINT)

    most = max((row.multiply_adds for row in rows), default=0)
    for i, (row, label, place, end) in enumerate(zip(rows, labels, places, ends, strict=True)):
        _connect(axes, places[:i], place)
        _box(axes, place, end - place.x, row.layer)
        text(place.x + 0.1, place.y, label or "input", "left", fontweight="bold")
        if label:
            text(end - 0.1, place.y, row.layer, "right", FAINT)
        text(shape_at, place.y, size_of(row.output_shape), "left")
        if row.n_parameters:
            text(parameters_at, place.y, f"{row.n_parameters:,}", "right")
        if row.multiply_adds:
            bar = _LONGEST_BAR * row.multiply_adds / most
            axes.barh(place.y, bar, _BOX * 0.7, left=bars_at, color=_BAR)
            text(bars_at + bar + 0.08, place.y, f"{row.multiply_adds:,}", "left")

    last = top + _PITCH * (len(rows) + 0.5)
    axes.plot([_MARGIN, width - _MARGIN], [last - _PITCH / 2] * 2, color=_LINE, linewidth=0.6)
    text(parameters_at, last, f"{summary.n_parameters:,}", "right", fontweight="bold")
    text(bars_at, last, f"{summary.multiply_adds:,}", "left", fontweight="bold")
    text(_MARGIN + 0.1, last, "total", "left", fontweight="bold")
    return figure


def _connect(axes: Axes, before: list[_Place], place: _Place) -> None:
    """A line from where the data come from: the layer before, or the one before the container."""
    for other in reversed(before):
        if other.inside == place.inside[: len(other.inside)]:
            x = other.x + 0.14
            if other.inside == place.inside:
                line = [x, x], [other.y, place.y]
            else:
                line = [x, x, place.x], [other.y, place.y, place.y]
            axes.plot(*line, color=_LINE, linewidth=1.2, zorder=0)
            return


def _box(axes: Axes, place: _Place, width: float, layer: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    colour = _COLOURS.get(layer, _POOL if "Pool" in layer else _OTHER)
    axes.add_patch(
        FancyBboxPatch(
            (place.x, place.y - _BOX / 2), width, _BOX,
            boxstyle="round,pad=0,rounding_size=0.06", facecolor=colour, edgecolor=_LINE,
            linewidth=0.8,
        )
    )  # fmt: skip
