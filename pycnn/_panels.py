"""Panels in blocks: what the pictures of feature maps and filters are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# Grey for pictures, blue-white-red around zero for signed values, dark-to-light for the rest.
PICTURE, SIGNED, _POSITIVE = "gray", "RdBu_r", "magma"
_NOT_A_NUMBER = "#b8e0b8"
INK, FAINT = "#1c1c28", "#5c5c6b"

# A panel never needs more pixels than this on a side; larger maps are averaged down first.
_MOST_PIXELS = 1000
# Of a figure, in pixels.
_LONGEST_SIDE = 65_000
# Maps up to this many stand in one column; more are laid out as a grid.
COLUMN = 4
# Height over width of a panel is kept within these, whatever the map's shape.
_FLATTEST, _TALLEST = 0.2, 2.0

# Inches.
_MARGIN, _GAP, _BLOCK_GAP = 0.3, 0.1, 0.34
_HEADING, _SUPTITLE, _CAPTION = 0.52, 0.5, 0.24


@dataclass
class Panel:
    """One little picture."""

    values: NDArray[Any]
    cmap: str | None  # None: `values` is a colour picture
    caption: str | None = None


@dataclass
class Block:
    """Rows of panels under one heading."""

    rows: list[list[Panel]]
    heading: str | None = None
    detail: str | None = None
    note: str | None = None
    scale: float = 1.0  # width of a panel relative to the other blocks' panels
    beside: Block | None = None  # keep each row level with that block's rows

    @property
    def n_cols(self) -> int:
        return max(len(row) for row in self.rows)


def rows_of(panels: list[Panel], n_cols: int) -> list[list[Panel]]:
    return [panels[i : i + n_cols] for i in range(0, len(panels), n_cols)]


def grid_columns(n: int) -> int:
    return math.isqrt(n - 1) + 1


def map_block(stack: NDArray[Any], max_maps: int, cmap: str | None = None) -> Block:
    shown = stack[:, :, :max_maps]
    n = shown.shape[2]
    panels = [Panel(shown[:, :, i], cmap or natural_cmap(shown)) for i in range(n)]
    n_cols = 1 if n <= COLUMN else grid_columns(n)
    # A grid is drawn about one and a half times as wide as a column, however many maps it has.
    return Block(rows_of(panels, n_cols), scale=1.0 if n_cols == 1 else max(1.5 / n_cols, 0.16))


def filter_block(bank: NDArray[Any], *, cmap: str, captions: Sequence[str] | None = None) -> Block:
    rows = []
    for i, weights in enumerate(bank):
        row = [Panel(weights[:, :, c], cmap=cmap) for c in range(weights.shape[2])]
        if captions is not None:
            row[0].caption = captions[i]
        rows.append(row)
    return Block(rows)


def natural_cmap(values: NDArray[Any]) -> str:
    return SIGNED if (values < 0).any() else _POSITIVE


def size_of(shape: tuple[int, ...]) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(map(str, shape))


# --- Drawing -------------------------------------------------------------------------------


def drawable(words: str) -> str:
    """Matplotlib draws no lone surrogates, which names of files may hold."""
    return words.encode("utf-8", "backslashreplace").decode()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that belongs to nobody."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Matplotlib draws no picture of 2**16 pixels; a long one gets smaller letters.
    dpi = min(100.0, _LONGEST_SIDE / max(width, height))
    figure = Figure(figsize=(width, height), facecolor="white", dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def draw(blocks: list[Block], title: str | None) -> Figure:
    """Lay the blocks out from left to right, each centred on the tallest one."""
    width = 2.9 if len(blocks) == 1 else 2.5
    if len(blocks) == 1:
        width = min(width, max(0.9, 10.0 / blocks[0].n_cols))

    def panel_size(block: Block) -> tuple[float, float]:
        h, w = block.rows[0][0].values.shape[:2]
        panel_width = width * block.scale
        return panel_width, panel_width * min(max(h / w, _FLATTEST), _TALLEST)

    def pitch(block: Block) -> float:
        captioned = any(panel.caption for row in block.rows for panel in row)
        own = panel_size(block)[1] + _GAP + (_CAPTION if captioned else 0.0)
        return own if block.beside is None else max(own, pitch(block.beside))

    widths = [(panel_size(b)[0] + _GAP) * b.n_cols - _GAP for b in blocks]
    heights = [pitch(b) * len(b.rows) - _GAP for b in blocks]
    # A heading must fit above its block, however narrow that is.
    columns = [
        max(w, 0.095 * max(len(b.heading), 10) if b.heading else 0.0)
        for b, w in zip(blocks, widths, strict=True)
    ]
    above = _MARGIN + (_SUPTITLE if title else 0.0)
    above += _HEADING if any(b.heading for b in blocks) else 0.0
    below = _MARGIN + (0.25 if any(b.note for b in blocks) else 0.0)

    body = max(heights)
    total_width = max(2 * _MARGIN + sum(columns) + _BLOCK_GAP * (len(blocks) - 1), 2.5)
    total_height = above + body + below
    figure = new_figure(total_width, total_height)

    def text(x: float, y: float, words: str, size: float, colour: str, weight: str) -> None:
        figure.text(
            x / total_width, 1 - y / total_height, drawable(words),
            fontsize=size, color=colour, fontweight=weight, ha="center", va="center",
            parse_math=False,
        )  # fmt: skip

    if title:
        text(total_width / 2, _MARGIN + 0.12, title, 14, INK, "bold")
    left = (total_width - sum(columns) - _BLOCK_GAP * (len(blocks) - 1)) / 2
    for block, block_width, height, column in zip(blocks, widths, heights, columns, strict=True):
        middle = left + column / 2
        panel_width, panel_height = panel_size(block)
        top = above + (body - height) / 2
        if block.heading:
            text(middle, above - 0.42, block.heading, 11, INK, "bold")
        if block.detail:
            text(middle, above - 0.2, block.detail, 8.5, FAINT, "normal")
        if block.note:
            text(middle, above + body + 0.2, block.note, 8.5, FAINT, "normal")
        for i, row in enumerate(block.rows):
            for j, panel in enumerate(row):
                x = middle - block_width / 2 + j * (panel_width + _GAP)
                bottom = top + (i + 1) * pitch(block) - _GAP
                if block.beside is not None:
                    bottom -= (pitch(block) - _GAP - panel_height) / 2
                axes = figure.add_axes(
                    (
                        x / total_width,
                        1 - bottom / total_height,
                        panel_width / total_width,
                        panel_height / total_height,
                    )
                )
                _draw_panel(axes, panel)
        left += column + _BLOCK_GAP
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    import matplotlib

    pixels = _shrunk(panel.values)
    if panel.cmap is None:
        axes.imshow(np.clip(np.nan_to_num(pixels), 0.0, 1.0), aspect="auto")
    else:
        scaled, low, high = _scaled(pixels)
        if panel.cmap == SIGNED:
            high = max(-low, high)
            low = -high
        cmap = matplotlib.colormaps[panel.cmap].with_extremes(bad=_NOT_A_NUMBER)
        axes.imshow(
            scaled, cmap=cmap, vmin=low, vmax=high if high > low else low + 1, aspect="auto"
        )
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color="#d0d0d8", linewidth=0.6)
    if panel.caption:
        axes.set_title(drawable(panel.caption), fontsize=8.5, color=FAINT, pad=4, parse_math=False)


def _shrunk(values: NDArray[Any]) -> NDArray[Any]:
    """`values` averaged over whole blocks until neither side exceeds ``_MOST_PIXELS``."""
    height, width = values.shape[:2]
    down, across = -(-height // _MOST_PIXELS), -(-width // _MOST_PIXELS)
    dtype = np.result_type(values.dtype, np.float32)
    if down == across == 1:
        return values.astype(dtype)
    rows, cols = height // down, width // across
    whole = values[: rows * down, : cols * across]
    blocks = whole.reshape(rows, down, cols, across, *values.shape[2:])
    with np.errstate(over="ignore", invalid="ignore"):
        means: NDArray[Any] = blocks.mean(axis=(1, 3), dtype=dtype)
    return means


def _scaled(values: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    """`values` over their largest finite magnitude, and the range of colours for them.

    Matplotlib's own scaling overflows for values near the ends of the format. Infinities are
    drawn as the largest and smallest finite values.
    """
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    if largest == 0.0:
        return np.where(np.isnan(values), np.nan, 0.0), 0.0, 0.0
    scaled = np.clip(values / largest, -1.0, 1.0)
    finite = finite / largest
    low, high = (float(q) for q in np.quantile(finite, (0.005, 0.995)))
    if low == high or max(-low, high) == 0.0:  # a few bright points on an even ground
        low, high = float(finite.min()), float(finite.max())
    return scaled, low, high
