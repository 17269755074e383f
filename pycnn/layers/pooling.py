"""Pools as layers. A network pools the maps of a convolution while they are in the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pycnn import _checks, pool
from pycnn.layers import _layer

if TYPE_CHECKING:
    from typing import Any, ClassVar

    from pycnn._typing import Array, Padding, Pair, Shape


class _ImageLayer(_layer.Layer):
    """A layer on images with channels; a grey one gets a channel and loses it again."""

    def _sample_ndim(self, ndim: int) -> int:
        return min(ndim, 3)

    def _forward(self, x: Array) -> Array:
        return self._pool(x) if x.ndim == 4 else self._pool(x[..., None])[..., 0]

    def _pool(self, x: Array) -> Array:
        raise NotImplementedError

    def _check_image(self, shape: Shape, who: str) -> None:
        if len(shape) not in (2, 3):
            raise ValueError(
                f"{who}: the input has shape {shape}; expected an image, (H, W) or (H, W, C)"
            )


class Pool2D(_ImageLayer):
    """What MaxPool2D and AvgPool2D share."""

    word: ClassVar[Literal["max", "avg"]]  # in conv_relu_pool

    def __init__(
        self,
        pool_size: Pair,
        stride: Pair | None,
        padding: Padding,
        dilation: Pair,
        ceil_mode: bool,
        name: str | None,
    ) -> None:
        super().__init__(name)
        who = type(self).__name__
        self.pool_size = _layer.pair(pool_size, who, "pool_size")
        self.stride = None if stride is None else _layer.pair(stride, who, "stride")
        self.padding = _layer.padding(padding, who)
        self.dilation = _layer.pair(dilation, who, "dilation")
        self.ceil_mode = _checks.flag(ceil_mode, who, "ceil_mode")

    def _windows(self, who: str) -> tuple[Shape, Shape]:
        """Their size and stride, vertically and horizontally."""
        size = _checks.pair(self.pool_size, who, "pool_size")
        return size, size if self.stride is None else _checks.pair(self.stride, who, "stride")

    def _geometry(self, shape: Shape, who: str) -> tuple[Shape, Any]:
        """Outputs, and pads."""
        self._check_image(shape, who)
        padding = _checks.canonical_padding(self.padding, who)
        dilation = _checks.pair(self.dilation, who, "dilation")
        _, out, pads = pool.geometry(
            who, shape, *self._windows(who), padding, dilation, self.ceil_mode
        )
        return out, pads

    def _output_shape(self, shape: Shape, who: str) -> Shape:
        return (*self._geometry(shape, who)[0], *shape[2:])

    def is_plain(self, shape: Shape) -> bool:
        """Whether conv_relu_pool does the same to such maps: no padding, dilation or overhang."""
        out, pads = self._geometry(shape, self._who)
        ends = [(n - 1) * s + k for n, k, s in zip(out, *self._windows(self._who), strict=True)]
        inside = all(end <= size for end, size in zip(ends, shape[:2], strict=True))
        return self.dilation == 1 and pads == ((0, 0), (0, 0)) and inside


class MaxPool2D(Pool2D, loadable=True):
    """Take the largest value of each window; see `pycnn.max_pool2d`.

    Parameters
    ----------
    pool_size, stride, padding, dilation, ceil_mode
        As in `pycnn.max_pool2d`.
    name : str, optional

    Raises
    ------
    ValueError, TypeError
        Numbers out of range; images that the windows do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> pycnn.MaxPool2D(3, 2)(np.ones((9, 9, 4))).shape
    (4, 4, 4)
    """

    word: ClassVar[Literal["max", "avg"]] = "max"

    def __init__(
        self,
        pool_size: Pair = 2,
        stride: Pair | None = None,
        *,
        padding: Padding = "valid",
        dilation: Pair = 1,
        ceil_mode: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(pool_size, stride, padding, dilation, ceil_mode, name)

    def _pool(self, x: Array) -> Array:
        return pool.max_pool2d(
            x,
            self.pool_size,
            self.stride,
            padding=self.padding,
            dilation=self.dilation,
            ceil_mode=self.ceil_mode,
        )


class AvgPool2D(Pool2D, loadable=True):
    """Take the mean of each window; see `pycnn.avg_pool2d`.

    Parameters
    ----------
    pool_size, stride, padding, ceil_mode, count_include_pad
        As in `pycnn.avg_pool2d`.
    name : str, optional

    Raises
    ------
    ValueError, TypeError
        Numbers out of range; images that the windows do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> pycnn.AvgPool2D()(np.ones((9, 9, 4))).shape
    (4, 4, 4)
    """

    word: ClassVar[Literal["max", "avg"]] = "avg"

    def __init__(
        self,
        pool_size: Pair = 2,
        stride: Pair | None = None,
        *,
        padding: Padding = "valid",
        ceil_mode: bool = False,
        count_include_pad: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(pool_size, stride, padding, 1, ceil_mode, name)
        self.count_include_pad = _checks.flag(
            count_include_pad, type(self).__name__, "count_include_pad"
        )

    def _pool(self, x: Array) -> Array:
        return pool.avg_pool2d(
            x,
            self.pool_size,
            self.stride,
            padding=self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
        )


class _GlobalPool2D(_ImageLayer):
    def __init__(self, *, keepdims: bool = False, name: str | None = None) -> None:
        super().__init__(name)
        self.keepdims = _checks.flag(keepdims, type(self).__name__, "keepdims")

    def _output_shape(self, shape: Shape, who: str) -> Shape:
        self._check_image(shape, who)
        if 0 in shape[:2]:
            raise ValueError(f"{who}: the input has no pixels (input {shape})")
        return (1, 1, *shape[2:]) if self.keepdims else shape[2:]


class GlobalAvgPool2D(_GlobalPool2D, loadable=True):
    """Take the mean of each channel over the image; see `pycnn.global_avg_pool2d`.

    Parameters
    ----------
    keepdims : bool, default False
        Keep the image's two axes, with size 1.
    name : str, optional

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> pycnn.GlobalAvgPool2D()(np.ones((9, 9, 4))).shape
    (4,)
    """

    def _pool(self, x: Array) -> Array:
        return pool.global_avg_pool2d(x, keepdims=self.keepdims)


class GlobalMaxPool2D(_GlobalPool2D, loadable=True):
    """Take the largest value of each channel over the image; see `pycnn.global_max_pool2d`.

    Parameters
    ----------
    keepdims : bool, default False
        Keep the image's two axes, with size 1.
    name : str, optional

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> pycnn.GlobalMaxPool2D()(np.ones((9, 9, 4))).shape
    (4,)
    """

    def _pool(self, x: Array) -> Array:
        return pool.global_max_pool2d(x, keepdims=self.keepdims)
