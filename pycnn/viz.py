"""Pictures of feature maps, filters, whole stages and networks.

Every function returns a :class:`matplotlib.figure.Figure` that belongs to nobody: no pyplot
state is read or changed, so it is safe in scripts, web servers and threads. Save it with
``figure.savefig("maps.png")``; in a notebook, let it be the last expression of a cell.

Matplotlib is an optional dependency (``pip install "pycnn[images]"``) and is imported only
when a figure is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pycnn import _checks
from pycnn._diagram import draw_summary
from pycnn._panels import (
    COLUMN,
    PICTURE,
    SIGNED,
    Block,
    Panel,
    draw,
    filter_block,
    grid_columns,
    map_block,
    natural_cmap,
    rows_of,
    size_of,
)
from pycnn.layers import Conv2D, Sequential

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

__all__ = ["plot_feature_maps", "plot_filters", "plot_network", "plot_stage"]


def plot_feature_maps(
    maps: ArrayLike | Mapping[str, ArrayLike],
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
    maps : array_like of shape (H, W) or (H, W, F), or mapping of str to such
        The maps, one per channel. Of several layers, as `Sequential.feature_maps` gives them for
        one image, each gets a block of its own under its name; vectors are left out.
    titles : sequence of str, optional
        One caption per map, for the maps of one layer.
    title : str, optional
        A line above the whole figure.
    cmap : str, optional
        Name of a matplotlib colour map. By default blue-white-red centred on zero when any of
        the values is negative, "magma" when none is.
    n_cols : int, optional
        Maps per row, for the maps of one layer. By default about the square root of their number.
    max_maps : int, default 64
        Draw at most this many of the maps of a layer, the first ones.

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

    Of every layer of a network:

    >>> net = pycnn.Sequential([pycnn.Conv2D(8, 3, seed=0), pycnn.ReLU(), pycnn.MaxPool2D()])
    >>> figure = viz.plot_feature_maps(net.feature_maps(image))
    """
    who = "plot_feature_maps"
    max_maps = _checks.integer(max_maps, who, "max_maps", 1)
    _check_title(who, title)
    _check_cmap(who, cmap)
    if isinstance(maps, Mapping):
        if titles is not None or n_cols is not None:
            raise ValueError(f"{who}: titles and n_cols are for the maps of one layer")
        arrays = {
            name: _checks.as_array(values, who, f"maps[{name!r}]") for name, values in maps.items()
        }
        blocks = [
            _layer_block(who, f"maps[{name!r}]", str(name), values, max_maps, cmap)
            for name, values in arrays.items()
            if values.ndim > 1
        ]
        if not blocks:
            raise ValueError(f"{who}: maps holds no maps of shape (H, W) or (H, W, F)")
        return draw(blocks, title)
    stack = _as_maps(who, "maps", maps)
    n_maps = stack.shape[2]
    captions = _captions(who, titles, n_maps, "maps")
    shown = stack[:, :, :max_maps]
    panels = [Panel(shown[:, :, i], cmap or natural_cmap(shown)) for i in range(shown.shape[2])]
    if captions is not None:
        for panel, caption in zip(panels, captions, strict=False):
            panel.caption = caption
    if n_cols is None:
        n_cols = grid_columns(len(panels))
    else:
        n_cols = _checks.integer(n_cols, who, "n_cols", 1)
    block = Block(rows_of(panels, min(n_cols, len(panels))))
    if n_maps > len(panels):
        block.note = f"the first {len(panels)} of {n_maps} maps"
    return draw([block], title)


def plot_filters(
    filters: ArrayLike | Conv2D,
    *,
    titles: Sequence[str] | None = None,
    title: str | None = None,
    cmap: str | None = None,
    max_filters: int = 64,
) -> Figure:
    """Draw filters, positive weights in red and negative weights in blue.

    Parameters
    ----------
    filters : array_like of shape (F, KH, KW) or (F, KH, KW, C), or Conv2D
        The filters, or the layer that has them. With channels, each filter takes one row and each
        channel one column.
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
    who = "plot_filters"
    bank = _as_filters(who, _filters_of(who, filters))
    max_filters = _checks.integer(max_filters, who, "max_filters", 1)
    _check_title(who, title)
    _check_cmap(who, cmap)
    shown = bank[:max_filters]
    captions = _captions(who, titles, len(bank), "filters")
    block = filter_block(shown, cmap=cmap or SIGNED, captions=captions)
    if shown.shape[3] == 1:
        panels = [row[0] for row in block.rows]
        block.rows = rows_of(panels, grid_columns(len(panels)))
    block.scale = 0.5
    if len(bank) > len(shown):
        block.note = f"the first {len(shown)} of {len(bank)} filters"
    return draw([block], title)


def plot_stage(
    x: ArrayLike,
    conv: ArrayLike,
    activated: ArrayLike,
    pooled: ArrayLike,
    *,
    filters: ArrayLike | Conv2D | None = None,
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
    filters : array_like of shape (F, KH, KW) or (F, KH, KW, C), or Conv2D, optional
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
    >>> import numpy as np
    >>> import pycnn
    >>> from pycnn import viz
    >>> net = pycnn.Sequential([pycnn.Conv2D(4, 3, seed=0), pycnn.ReLU(), pycnn.MaxPool2D()])
    >>> x = np.random.default_rng(0).random((64, 64))
    >>> figure = viz.plot_stage(x, *net.feature_maps(x).values(), filters=net[0])
    """
    who = "plot_stage"
    max_maps = _checks.integer(max_maps, who, "max_maps", 1)
    _check_title(who, title)
    given = _as_maps(who, "x", x)
    if _checks.flag(rgb, who, "rgb"):
        if given.shape[2] != 3:
            raise ValueError(
                f"{who}: rgb=True needs an x with 3 channels, not one of shape {given.shape}"
            )
        source = Block([[Panel(given, cmap=None)]])
    else:
        # A grey picture looks right in grey; the maps of an earlier stage keep their colours.
        cmap = PICTURE if given.shape[2] == 1 and np.ndim(x) == 2 else None
        source = map_block(given, max_maps, cmap=cmap)
    source.heading, source.detail = "Input", size_of(np.shape(x))
    blocks = [source]

    steps = {
        name: _as_maps(who, name, values)
        for name, values in (("conv", conv), ("activated", activated), ("pooled", pooled))
    }
    n_maps = steps["conv"].shape[2]
    if len(source.rows) == 1 and n_maps > 1:
        source.scale = 1.35  # one picture beside several rows of maps
    for (name, maps), heading, values in zip(
        steps.items(),
        ("Convolution", "ReLU", "Max pooling"),
        (conv, activated, pooled),
        strict=True,
    ):
        if maps.shape[2] != n_maps:
            raise ValueError(f"{who}: {name} has {maps.shape[2]} maps, conv has {n_maps}")
        blocks.append(_layer_block(who, name, heading, values, max_maps))

    if filters is not None:
        filters = _filters_of(who, filters)
        bank = _as_filters(who, filters)
        if len(bank) != n_maps or given.shape[2] % bank.shape[3]:
            raise ValueError(
                f"{who}: filters of shape {np.shape(filters)} do not give {n_maps} maps of an x "
                f"of shape {np.shape(x)}"
            )
        if max(bank.shape[0], bank.shape[3]) <= COLUMN:
            block = filter_block(bank, cmap=SIGNED)
            block.heading, block.detail = "Filters", size_of(np.shape(filters))
            block.scale = 0.42 if bank.shape[3] == 1 else 0.3
            block.beside = blocks[1]
            blocks.insert(1, block)
    return draw(blocks, title)


def _layer_block(
    who: str, name: str, heading: str, values: ArrayLike, max_maps: int, cmap: str | None = None
) -> Block:
    """The maps of one layer under a heading, with their size."""
    maps = _as_maps(who, name, values)
    block = map_block(maps, max_maps, cmap)
    block.heading, block.detail = heading, size_of(np.shape(values))
    if maps.shape[2] > max_maps:
        block.detail += f", the first {max_maps}"
    return block


def plot_network(
    network: Sequential, input_shape: Sequence[int] | None = None, *, title: str | None = None
) -> Figure:
    """Draw the layers of a network with the shapes of their results and what they cost.

    Parameters
    ----------
    network : Sequential
        Layers inside containers stand below them, indented; a line follows the data.
    input_shape : sequence of int, optional
        The shape of one sample: that the network was built for when not given.
    title : str, optional
        A line above the whole figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        A network that is not built, without a shape; a shape that it cannot take.
    TypeError
        Something that is no `Sequential`.

    See Also
    --------
    pycnn.Sequential.summary : The same as text and as numbers.

    Examples
    --------
    >>> import pycnn
    >>> from pycnn import viz
    >>> net = pycnn.Sequential([pycnn.Conv2D(6, 5), pycnn.ReLU(), pycnn.MaxPool2D()])
    >>> figure = viz.plot_network(net, (28, 28))
    """
    if not isinstance(network, Sequential):
        raise TypeError(
            f"plot_network: network is a {type(network).__name__}; expected a Sequential"
        )
    _check_title("plot_network", title)
    if input_shape is None and network.input_shape is None:
        raise ValueError("plot_network: the network is not built; give input_shape")
    return draw_summary(network.summary(input_shape), title)


# --- Checks --------------------------------------------------------------------------------


def _as_real(who: str, name: str, values: ArrayLike) -> NDArray[Any]:
    array = _checks.as_array(values, who, name)
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


def _filters_of(who: str, filters: ArrayLike | Conv2D) -> ArrayLike:
    if not isinstance(filters, Conv2D):
        return filters
    if filters.filters is None:
        raise ValueError(f"{who}: {filters!r} is not built, so it has no filters yet")
    return filters.filters


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


def _captions(who: str, titles: Sequence[str] | None, n: int, what: str) -> list[str] | None:
    if titles is None:
        return None
    try:
        captions = [str(title) for title in titles]
    except TypeError:
        raise TypeError(
            f"{who}: titles={titles!r} is a {type(titles).__name__}; expected a sequence of strings"
        ) from None
    if len(captions) != n:
        raise ValueError(f"{who}: {len(captions)} titles were given for {n} {what}")
    return captions


def _check_title(who: str, title: str | None) -> None:
    if not (title is None or isinstance(title, str)):
        raise TypeError(f"{who}: title={title!r} is a {type(title).__name__}; expected a string")


def _check_cmap(who: str, cmap: str | None) -> None:
    if cmap is None:
        return
    if not isinstance(cmap, str):
        raise TypeError(f"{who}: cmap={cmap!r} is a {type(cmap).__name__}; expected a string")
    import matplotlib

    if cmap not in matplotlib.colormaps:
        raise ValueError(
            f"{who}: cmap={cmap!r} is unknown; expected one of matplotlib.colormaps, such as "
            f"{PICTURE!r} or {SIGNED!r}"
        )
