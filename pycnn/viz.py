"""Pictures of feature maps, filters and whole stages.

Every function returns a :class:`matplotlib.figure.Figure` that belongs to nobody: no pyplot
state is read or changed, so it is safe in scripts, web servers and threads. Save it with
``figure.savefig("maps.png")``; in a notebook, let it be the last expression of a cell.

Matplotlib is an optional dependency (``pip install "pycnn[images]"``) and is imported only
when a figure is made.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

__all__ = ["plot_feature_maps", "plot_filters", "plot_stage"]

# Grey for pictures, blue-white-red around zero for signed values, dark-to-light for the rest.
_PICTURE, _SIGNED, _POSITIVE = "gray", "RdBu_r", "magma"
_NOT_A_NUMBER = "#b8e0b8"
_INK, _FAINT = "#1c1c28", "#5c5c6b"

# A panel never needs more pixels than this on a side; larger maps are averaged down first.
_MOST_PIXELS = 1000
# Maps up to this many stand in one column; more are laid out as a grid.
_COLUMN = 4
# Height over width of a panel is kept within these, whatever the map's shape.
_FLATTEST, _TALLEST = 0.2, 2.0

# Inches.
_MARGIN, _GAP, _BLOCK_GAP = 0.3, 0.1, 0.34
_HEADING, _SUPTITLE, _CAPTION = 0.52, 0.5, 0.24


def plot_feature_maps(
    maps: ArrayLike,
    *,
    titles: Sequence[str] | None = None,
    title: str | None = None,
    cmap: str | None = None,
    n_cols: int | None = None,
    max_maps: int = 64,
) -> Figure:
    """Draw the channels of a feature map side by side.

    Each map has its own contrast. The strongest half a percent of its values may share one
    colour, so that a few bright points do not leave the rest in the dark. NaN is drawn in pale
    green.

    Parameters
    ----------
    maps : array_like of shape (H, W) or (H, W, F)
        The maps, one per channel.
    titles : sequence of str, optional
        One caption per map.
    title : str, optional
        A line above the whole figure.
    cmap : str, optional
        Name of a matplotlib colour map. By default blue-white-red centred on zero when any of
        the values is negative, "magma" when none is.
    n_cols : int, optional
        Maps per row. By default about the square root of their number.
    max_maps : int, default 64
        Draw at most this many of the maps, the first ones.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np, pycnn
    >>> from pycnn import viz
    >>> image = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    >>> maps = pycnn.conv(image, pycnn.random_filters(8, 3, seed=0))
    >>> figure = viz.plot_feature_maps(maps, title="Eight random filters")
    >>> figure.savefig("maps.png")  # doctest: +SKIP
    """
    stack = _as_maps("plot_feature_maps", "maps", maps)
    _check_max_maps("plot_feature_maps", max_maps)
    n_maps = stack.shape[2]
    if titles is not None and len(titles) != n_maps:
        raise ValueError(f"plot_feature_maps: {len(titles)} titles were given for {n_maps} maps")
    shown = stack[:, :, :max_maps]
    panels = [_Panel(shown[:, :, i], cmap or _natural_cmap(shown)) for i in range(shown.shape[2])]
    if titles is not None:
        for panel, caption in zip(panels, titles[: len(panels)], strict=True):
            panel.caption = str(caption)
    if n_cols is None:
        n_cols = _grid_columns(len(panels))
    elif n_cols < 1:
        raise ValueError(f"plot_feature_maps: n_cols must be at least 1, not {n_cols}")
    block = _Block(_rows(panels, min(n_cols, len(panels))))
    if n_maps > len(panels):
        block.note = f"the first {len(panels)} of {n_maps} maps"
    return _draw([block], title)


def plot_filters(
    filters: ArrayLike,
    *,
    titles: Sequence[str] | None = None,
    title: str | None = None,
    cmap: str | None = None,
    max_filters: int = 64,
) -> Figure:
    """Draw filters, positive weights in red and negative weights in blue.

    Parameters
    ----------
    filters : array_like of shape (F, KH, KW) or (F, KH, KW, C)
        The filters. With channels, each filter takes one row and each channel one column.
    titles : sequence of str, optional
        One caption per filter.
    title : str, optional
        A line above the whole figure.
    cmap : str, optional
        Name of a matplotlib colour map. By default blue-white-red centred on zero.
    max_filters : int, default 64
        Draw at most this many of the filters, the first ones.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import pycnn
    >>> from pycnn import viz
    >>> figure = viz.plot_filters(pycnn.random_filters(8, 5, seed=0))
    """
    bank = _as_filters("plot_filters", filters)
    _check_max_maps("plot_filters", max_filters, "max_filters")
    if titles is not None and len(titles) != len(bank):
        raise ValueError(f"plot_filters: {len(titles)} titles were given for {len(bank)} filters")
    shown = bank[:max_filters]
    block = _filter_block(shown, cmap=cmap or _SIGNED, titles=titles)
    if shown.shape[3] == 1:
        panels = [row[0] for row in block.rows]
        block.rows = _rows(panels, _grid_columns(len(panels)))
    block.scale = 0.5
    if len(bank) > len(shown):
        block.note = f"the first {len(shown)} of {len(bank)} filters"
    return _draw([block], title)


def plot_stage(
    x: ArrayLike,
    conv: ArrayLike,
    activated: ArrayLike,
    pooled: ArrayLike,
    *,
    filters: ArrayLike | None = None,
    title: str | None = None,
    rgb: bool = False,
    max_maps: int = 64,
) -> Figure:
    """Draw one stage of a network: its input, then the maps after each step.

    Parameters
    ----------
    x : array_like of shape (H, W) or (H, W, C)
        What the stage was given: a picture, or the maps of the stage before.
    conv, activated, pooled : array_like of shape (H, W, F)
        The maps after the convolution, after the ReLU and after the pooling.
    filters : array_like of shape (F, KH, KW) or (F, KH, KW, C), optional
        The filters of the convolution. They are drawn when there are at most four filters of
        at most four channels.
    title : str, optional
        A line above the whole figure.
    rgb : bool, default False
        Draw `x`, which must have three channels with values from 0 to 1, as one colour picture.
    max_maps : int, default 64
        Draw at most this many maps of each step, the first ones.

    Returns
    -------
    matplotlib.figure.Figure

    Examples
    --------
    >>> import numpy as np, pycnn
    >>> from pycnn import viz
    >>> image = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    >>> filters = pycnn.random_filters(4, 3, seed=0)
    >>> maps = pycnn.conv(image, filters)
    >>> after = pycnn.relu(maps)
    >>> figure = viz.plot_stage(image, maps, after, pycnn.pooling(after), filters=filters)
    """
    _check_max_maps("plot_stage", max_maps)
    given = _as_maps("plot_stage", "x", x)
    if rgb:
        if given.shape[2] != 3:
            raise ValueError(
                f"plot_stage: rgb=True needs an x with 3 channels, not one of shape {given.shape}"
            )
        source = _Block([[_Panel(given, cmap=None)]])
    else:
        # A grey picture looks right in grey; the maps of an earlier stage keep their colours.
        cmap = _PICTURE if given.shape[2] == 1 and np.ndim(x) == 2 else None
        source = _map_block(given, max_maps, cmap=cmap)
    source.heading, source.detail = "Input", _size(np.shape(x))
    if len(source.rows) == 1 and np.ndim(conv) == 3 and np.shape(conv)[2] > 1:
        source.scale = 1.35  # one picture beside several rows of maps
    blocks = [source]

    for name, heading, values in (
        ("conv", "Convolution", conv),
        ("activated", "ReLU", activated),
        ("pooled", "Max pooling", pooled),
    ):
        maps = _as_maps("plot_stage", name, values)
        block = _map_block(maps, max_maps)
        block.heading, block.detail = heading, _size(np.shape(values))
        if maps.shape[2] > max_maps:
            block.detail += f", the first {max_maps}"
        blocks.append(block)

    if filters is not None:
        bank = _as_filters("plot_stage", filters)
        if max(bank.shape[0], bank.shape[3]) <= _COLUMN:
            block = _filter_block(bank, cmap=_SIGNED)
            block.heading, block.detail = "Filters", _size(np.shape(filters))
            block.scale = 0.42 if bank.shape[3] == 1 else 0.3
            block.beside = blocks[1]
            blocks.insert(1, block)
    return _draw(blocks, title)


# --- What is drawn: panels in blocks -------------------------------------------------------


@dataclass
class _Panel:
    """One little picture."""

    values: NDArray[Any]
    cmap: str | None  # None: `values` is a colour picture
    caption: str | None = None


@dataclass
class _Block:
    """Rows of panels under one heading."""

    rows: list[list[_Panel]]
    heading: str | None = None
    detail: str | None = None
    note: str | None = None
    scale: float = 1.0  # width of a panel relative to the other blocks' panels
    beside: _Block | None = None  # keep each row level with that block's rows

    @property
    def n_cols(self) -> int:
        return max(len(row) for row in self.rows)


def _rows(panels: list[_Panel], n_cols: int) -> list[list[_Panel]]:
    return [panels[i : i + n_cols] for i in range(0, len(panels), n_cols)]


def _grid_columns(n: int) -> int:
    return math.isqrt(n - 1) + 1


def _map_block(stack: NDArray[Any], max_maps: int, cmap: str | None = None) -> _Block:
    shown = stack[:, :, :max_maps]
    n = shown.shape[2]
    panels = [_Panel(shown[:, :, i], cmap or _natural_cmap(shown)) for i in range(n)]
    n_cols = 1 if n <= _COLUMN else _grid_columns(n)
    # A grid is drawn about one and a half times as wide as a column, however many maps it has.
    return _Block(_rows(panels, n_cols), scale=1.0 if n_cols == 1 else max(1.5 / n_cols, 0.16))


def _filter_block(bank: NDArray[Any], *, cmap: str, titles: Sequence[str] | None = None) -> _Block:
    rows = []
    for i, weights in enumerate(bank):
        row = [_Panel(weights[:, :, c], cmap=cmap) for c in range(weights.shape[2])]
        if titles is not None:
            row[0].caption = str(titles[i])
        rows.append(row)
    return _Block(rows)


def _natural_cmap(values: NDArray[Any]) -> str:
    return _SIGNED if (values < 0).any() else _POSITIVE


def _size(shape: tuple[int, ...]) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(map(str, shape))


# --- Checks --------------------------------------------------------------------------------


def _as_real(who: str, name: str, values: ArrayLike) -> NDArray[Any]:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{who}: {name} must hold real numbers, not dtype {array.dtype}")
    if array.size == 0:
        raise ValueError(f"{who}: {name} is empty ({name}.shape={array.shape})")
    return array


def _as_maps(who: str, name: str, values: ArrayLike) -> NDArray[Any]:
    """`values` as (H, W, F)."""
    array = _as_real(who, name, values)
    if array.ndim == 2:
        return array[:, :, np.newaxis]
    if array.ndim != 3:
        raise ValueError(
            f"{who}: {name} must have shape (H, W) or (H, W, F), not {array.shape}; "
            "draw the images of a batch one by one"
        )
    return array


def _as_filters(who: str, values: ArrayLike) -> NDArray[Any]:
    """`values` as (F, KH, KW, C)."""
    array = _as_real(who, "filters", values)
    if array.ndim == 3:
        return array[:, :, :, np.newaxis]
    if array.ndim != 4:
        raise ValueError(
            f"{who}: filters must have shape (F, KH, KW) or (F, KH, KW, C), not {array.shape}"
        )
    return array


def _check_max_maps(who: str, value: int, name: str = "max_maps") -> None:
    if value < 1:
        raise ValueError(f"{who}: {name} must be at least 1, not {value}")


# --- Drawing -------------------------------------------------------------------------------


def _draw(blocks: list[_Block], title: str | None) -> Figure:
    """Lay the blocks out from left to right, each centred on the tallest one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = 2.9 if len(blocks) == 1 else 2.5
    if len(blocks) == 1:
        width = min(width, max(0.9, 10.0 / blocks[0].n_cols))

    def panel_size(block: _Block) -> tuple[float, float]:
        h, w = block.rows[0][0].values.shape[:2]
        panel_width = width * block.scale
        return panel_width, panel_width * min(max(h / w, _FLATTEST), _TALLEST)

    def pitch(block: _Block) -> float:
        captioned = any(panel.caption for row in block.rows for panel in row)
        own = panel_size(block)[1] + _GAP + (_CAPTION if captioned else 0.0)
        return own if block.beside is None else max(own, pitch(block.beside))

    widths = [(panel_size(b)[0] + _GAP) * b.n_cols - _GAP for b in blocks]
    heights = [pitch(b) * len(b.rows) - _GAP for b in blocks]
    # A heading must fit above its block, however narrow that is.
    columns = [max(w, 0.95 if b.heading else 0.0) for b, w in zip(blocks, widths, strict=True)]
    above = _MARGIN + (_SUPTITLE if title else 0.0)
    above += _HEADING if any(b.heading for b in blocks) else 0.0
    below = _MARGIN + (0.25 if any(b.note for b in blocks) else 0.0)

    body = max(heights)
    total_width = max(2 * _MARGIN + sum(columns) + _BLOCK_GAP * (len(blocks) - 1), 2.5)
    total_height = above + body + below
    figure = Figure(figsize=(total_width, total_height), facecolor="white", dpi=100)
    FigureCanvasAgg(figure)

    def text(x: float, y: float, words: str, size: float, colour: str, weight: str) -> None:
        figure.text(
            x / total_width, 1 - y / total_height, words,
            fontsize=size, color=colour, fontweight=weight, ha="center", va="center",
        )  # fmt: skip

    if title:
        text(total_width / 2, _MARGIN + 0.12, title, 14, _INK, "bold")
    left = (total_width - sum(columns) - _BLOCK_GAP * (len(blocks) - 1)) / 2
    for block, block_width, height, column in zip(blocks, widths, heights, columns, strict=True):
        middle = left + column / 2
        panel_width, panel_height = panel_size(block)
        top = above + (body - height) / 2
        if block.heading:
            text(middle, above - 0.42, block.heading, 11, _INK, "bold")
        if block.detail:
            text(middle, above - 0.2, block.detail, 8.5, _FAINT, "normal")
        if block.note:
            text(middle, above + body + 0.2, block.note, 8.5, _FAINT, "normal")
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


def _draw_panel(axes: Axes, panel: _Panel) -> None:
    import matplotlib

    pixels = _shrunk(panel.values)
    if panel.cmap is None:
        axes.imshow(np.clip(np.nan_to_num(pixels), 0.0, 1.0), aspect="auto")
    else:
        scaled, low, high = _scaled(pixels)
        if panel.cmap == _SIGNED:
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
        axes.set_title(panel.caption, fontsize=8.5, color=_FAINT, pad=4)


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
