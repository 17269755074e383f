"""The names of the NumPyCNN tutorial, on pycnn's functions: conv, relu, pooling."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import numpy as np

from pycnn import _checks
from pycnn.activations import relu
from pycnn.convolution import conv2d
from pycnn.pool import max_pool2d

if TYPE_CHECKING:
    from typing import Any, SupportsIndex

    from numpy.typing import NDArray

    from pycnn._typing import (
        Array,
        ArrayLike,
        Float32,
        Float64,
        NarrowArray,
        Pair,
        Scalar,
        Shape,
        WideArray,
    )


__all__ = ["conv", "pooling", "random_filters", "relu"]


@overload
def conv(img: WideArray, filters: ArrayLike) -> Float64: ...
@overload
def conv(img: ArrayLike, filters: WideArray) -> Float64: ...
@overload
def conv(img: NarrowArray, filters: NarrowArray) -> Float32: ...
@overload
def conv(img: ArrayLike, filters: ArrayLike) -> Array: ...
def conv(img: ArrayLike, filters: ArrayLike) -> Array:
    """Convolve an image with the tutorial's filters; `conv2d` without options.

    Parameters
    ----------
    img : array_like, shape (H, W) or (H, W, C)
    filters : array_like, shape (F, KH, KW) or (F, KH, KW, C)
        Three dimensions for grey images, four for images with channels.

    Returns
    -------
    ndarray, shape (H - KH + 1, W - KW + 1, F)
        One feature map per filter. The filters are not flipped.

    Raises
    ------
    ValueError, TypeError
        As `conv2d`, where the tutorial prints a message and leaves the interpreter.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> pycnn.conv(np.ones((300, 451)), np.ones((2, 3, 3))).shape
    (298, 449, 2)
    """
    return conv2d(img, filters)


@overload
def pooling(feature_map: NDArray[Scalar], size: Pair = 2, stride: Pair = 2) -> NDArray[Scalar]: ...
@overload
def pooling(feature_map: ArrayLike, size: Pair = 2, stride: Pair = 2) -> Array: ...
def pooling(feature_map: ArrayLike, size: Pair = 2, stride: Pair = 2) -> Array:
    """Take the largest value of each window of the feature maps; `max_pool2d` without options.

    Parameters
    ----------
    feature_map : array_like, shape (H, W, F)
    size : int or (int, int), default 2
    stride : int or (int, int), default 2

    Returns
    -------
    ndarray, shape ((H - size) // stride + 1, (W - size) // stride + 1, F)
        The tutorial's own function adds a last row or column of zeros where `stride` divides
        ``H - size + 1``; this one does not.

    Raises
    ------
    ValueError, TypeError
        As `max_pool2d`.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> pycnn.pooling(np.ones((298, 449, 2)), 2, 2).shape
    (149, 224, 2)
    """
    return max_pool2d(feature_map, size, stride)


def random_filters(
    n: SupportsIndex, size: Pair, channels: SupportsIndex | None = None, *, seed: Any = None
) -> NDArray[np.float32]:
    """Draw filters from a normal distribution, each of unit variance over its inputs.

    Parameters
    ----------
    n : int
        Number of filters, and of feature maps.
    size : int or (int, int)
        Height and width of a filter.
    channels : int, optional
        Channels of the images; without it the filters are for grey images ``(H, W)``.
    seed : int, numpy.random.Generator or other seed, optional
        What `numpy.random.default_rng` takes; the same seed gives the same filters.

    Returns
    -------
    ndarray of float32, shape (n, KH, KW) or (n, KH, KW, channels)
        Scaled by ``1 / sqrt(KH * KW * channels)``, so that maps of an image of independent pixels
        have its variance.

    Raises
    ------
    ValueError, TypeError
        Numbers that are not positive integers.
    MemoryError
        Filters too large for this machine.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> maps = pycnn.conv(np.ones((9, 9)), pycnn.random_filters(4, 3, seed=0))
    >>> maps.shape
    (7, 7, 4)
    """
    func = "random_filters"
    shape: Shape = (_checks.integer(n, func, "n", 1), *_checks.pair(size, func, "size"))
    if channels is not None:
        shape = (*shape, _checks.integer(channels, func, "channels", 1))
    _checks.check_size(shape, np.dtype(np.float32), func)
    try:
        rng = np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{func}: seed={seed!r}: {error}") from None
    try:
        filters = rng.standard_normal(shape, np.float32)
    except MemoryError as error:
        raise _checks.out_of_memory(func, error) from None
    return filters / np.float32(np.sqrt(filters[0].size))
