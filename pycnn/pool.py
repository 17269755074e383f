"""Pooling: the largest or the mean value of sliding windows, channel by channel."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, overload

import numpy as np

from pycnn import _checks, _pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pycnn._typing import (
        Array,
        ArrayLike,
        DType,
        Float32,
        Float64,
        NarrowArray,
        Padding,
        Pair,
        Scalar,
        Shape,
        Sides,
        WideArray,
    )


def geometry(
    func: str,
    x_shape: Shape,
    window: Shape,
    stride: Shape,
    padding: str | Sides,
    dilation: Shape,
    ceil_mode: bool,
) -> tuple[Shape, Shape, Sides]:
    """The checked sizes of a pooling: x as (N, H, W, C), outputs, pads."""
    x = _checks.image_shape(x_shape, func)
    sizes = x[1:3]
    pads = _checks.resolve_padding(padding, sizes, window, stride, dilation)
    out = tuple(
        _checks.output_size(size, k, s, d, p, func, axis, ceil_mode)
        for size, k, s, d, p, axis in zip(
            sizes, window, stride, dilation, pads, ("height", "width"), strict=True
        )
    )
    _checks.check_pool_padding(pads, sizes, window, stride, dilation, out, func)
    return x, out, pads


@lru_cache(maxsize=512)
def _plan(
    func: str,
    x_shape: Shape,
    dtype: DType,
    window: Shape,
    stride: Shape,
    padding: str | Sides,
    dilation: Shape,
    ceil_mode: bool,
    mean: bool,
    count_padding: bool,
) -> tuple[Shape, _pool.PoolPlan | None]:
    """The checked geometry of a call: (result shape, plan), None when nothing is computed."""
    x, out, pads = geometry(func, x_shape, window, stride, padding, dilation, ceil_mode)
    shape = {2: out, 3: (*out, x[3]), 4: (x[0], *out, x[3])}[len(x_shape)]
    _checks.check_size(shape, dtype, func)
    if 0 in shape:
        return shape, None
    before, after = zip(*pads, strict=True)
    try:
        plan = _pool.PoolPlan(
            dtype, x, window, out, stride, before, after, dilation, mean, count_padding
        )
    except MemoryError as error:
        raise _checks.out_of_memory(func, error) from None
    return shape, plan


def _pool2d(
    func: str,
    x: ArrayLike,
    window: Pair,
    stride: Pair | None,
    padding: Padding,
    dilation: Pair,
    ceil_mode: bool,
    mean: bool,
    count_padding: bool,
    out: Array | None,
) -> Array:
    window = _checks.pair(window, func, "pool_size")
    key = (
        window,
        window if stride is None else _checks.pair(stride, func, "stride"),
        _checks.canonical_padding(padding, func),
        _checks.pair(dilation, func, "dilation"),
        _checks.flag(ceil_mode, func, "ceil_mode"),
    )
    x = _checks.as_array(x, func, "x")  # last: the others may run a caller's code
    if mean:
        dtype = computed = _checks.compute_dtype(x.dtype, x.dtype, func)
    else:
        dtype = x.dtype if x.dtype.isnative else x.dtype.newbyteorder("=")
        # Halves have no kernel; float32 holds each of them, so a maximum stays exact.
        computed = np.dtype(np.float32) if dtype.char == "e" else dtype
    shape, plan = _plan(func, x.shape, computed, *key, mean, count_padding)

    def compute(result: Array) -> None:
        if plan is None:
            return
        target = result if dtype == computed else np.empty(shape, computed)
        _pool.pool2d(plan, _checks.contiguous(x, computed), target)
        if target is not result:
            result[...] = target

    return _checks.deliver(compute, shape, dtype, out, (x,), func)


@overload
def max_pool2d(
    x: NDArray[Scalar],
    pool_size: Pair = 2,
    stride: Pair | None = None,
    *,
    padding: Padding = "valid",
    dilation: Pair = 1,
    ceil_mode: bool = False,
    out: Array | None = None,
) -> NDArray[Scalar]: ...
@overload
def max_pool2d(
    x: ArrayLike,
    pool_size: Pair = 2,
    stride: Pair | None = None,
    *,
    padding: Padding = "valid",
    dilation: Pair = 1,
    ceil_mode: bool = False,
    out: Array | None = None,
) -> Array: ...
def max_pool2d(
    x: ArrayLike,
    pool_size: Pair = 2,
    stride: Pair | None = None,
    *,
    padding: Padding = "valid",
    dilation: Pair = 1,
    ceil_mode: bool = False,
    out: Array | None = None,
) -> Array:
    """Take the largest value of each window, channel by channel.

    Parameters
    ----------
    x : array_like, shape (H, W), (H, W, C) or (N, H, W, C)
    pool_size : int or (int, int), default 2
        Height and width of a window.
    stride : int or (int, int), optional
        Pixels from one window to the next; `pool_size` when not given.
    padding : {"valid", "same", "full"}, int, (int, int) or ((int, int), (int, int))
        As in `conv2d`, but the padding counts as minus infinity; on each side smaller than the
        dilated window.
    dilation : int or (int, int), default 1
        Pixels from one tap of a window to the next.
    ceil_mode : bool, default False
        Keep a last window that hangs over the bottom or right edge, unless it would start in the
        padding (PyTorch's rule).
    out : ndarray, optional
        Where to put the result; of its exact shape and dtype. It may overlap `x`.

    Returns
    -------
    ndarray
        Of the rank and dtype of `x`, with ``OH = (H + top + bottom - dilation * (kh - 1) - 1) //
        stride + 1`` (rounded up with `ceil_mode`); OW likewise.

    Raises
    ------
    ValueError
        A window larger than the padded image or one that would hold only padding, a padding not
        smaller than the window, numbers out of range, an `out` of another shape.
    TypeError
        Complex, object, string or longdouble arrays; masked arrays; an `out` of another dtype.

    Notes
    -----
    The largest ``x[i * s[0] + u * d[0], j * s[1] + v * d[1], c]`` of each window, with strides
    ``s``, dilations ``d`` and all ``u`` and ``v`` below `pool_size` [1]_; pixels outside the image
    do not count. Exact, for integers too. A window with a NaN gives NaN.

    References
    ----------
    .. [1] Dumoulin, V., Visin, F., A guide to convolution arithmetic for deep learning,
       arXiv:1603.07285.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> pycnn.max_pool2d(np.arange(16).reshape(4, 4))
    array([[ 5,  7],
           [13, 15]])
    """
    return _pool2d(
        "max_pool2d", x, pool_size, stride, padding, dilation, ceil_mode, False, False, out
    )


@overload
def avg_pool2d(
    x: WideArray,
    pool_size: Pair = 2,
    stride: Pair | None = None,
    *,
    padding: Padding = "valid",
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    out: Array | None = None,
) -> Float64: ...
@overload
def avg_pool2d(
    x: NarrowArray,
    pool_size: Pair = 2,
    stride: Pair | None = None,
    *,
    padding: Padding = "valid",
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    out: Array | None = None,
) -> Float32: ...
@overload
def avg_pool2d(
    x: ArrayLike,
    pool_size: Pair = 2,
    stride: Pair | None = None,
    *,
    padding: Padding = "valid",
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    out: Array | None = None,
) -> Array: ...
def avg_pool2d(
    x: ArrayLike,
    pool_size: Pair = 2,
    stride: Pair | None = None,
    *,
    padding: Padding = "valid",
    ceil_mode: bool = False,
    count_include_pad: bool = False,
    out: Array | None = None,
) -> Array:
    """Take the mean of each window, channel by channel.

    Parameters
    ----------
    x : array_like, shape (H, W), (H, W, C) or (N, H, W, C)
    pool_size : int or (int, int), default 2
        Height and width of a window.
    stride : int or (int, int), optional
        Pixels from one window to the next; `pool_size` when not given.
    padding : {"valid", "same", "full"}, int, (int, int) or ((int, int), (int, int))
        As in `conv2d`; on each side smaller than the window.
    ceil_mode : bool, default False
        Keep a last window that hangs over the bottom or right edge, unless it would start in the
        padding (PyTorch's rule).
    count_include_pad : bool, default False
        Divide by all pixels of the window, the padding's zeros included (never by the overhang of
        `ceil_mode`); otherwise by its pixels inside the image.
    out : ndarray, optional
        Where to put the result; of its exact shape and dtype. It may overlap `x`.

    Returns
    -------
    ndarray
        Of the rank of `x` and dtype ``np.result_type(x, np.float32)``, with ``OH = (H + top +
        bottom - kh) // stride + 1`` (rounded up with `ceil_mode`); OW likewise.

    Raises
    ------
    ValueError
        A window larger than the padded image, a padding not smaller than the window, numbers out of
        range, an `out` of another shape.
    TypeError
        Complex, object, string or longdouble arrays; masked arrays; an `out` of another dtype.

    Notes
    -----
    The mean of all ``x[i * s[0] + u, j * s[1] + v, c]`` with strides ``s`` and ``u`` and ``v``
    below `pool_size` [1]_. Each mean of K pixels is within ``gamma(K + 1) * mean(|x|)`` of the
    exact one; `conv2d` has the definition of gamma. NaN and infinity stay in the windows that hold
    them.

    References
    ----------
    .. [1] Dumoulin, V., Visin, F., A guide to convolution arithmetic for deep learning,
       arXiv:1603.07285.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> pycnn.avg_pool2d(np.arange(16.0).reshape(4, 4))
    array([[ 2.5,  4.5],
           [10.5, 12.5]])
    """
    func = "avg_pool2d"
    count_padding = _checks.flag(count_include_pad, func, "count_include_pad")
    return _pool2d(func, x, pool_size, stride, padding, 1, ceil_mode, True, count_padding, out)


def _global_pool(func: str, x: ArrayLike, keepdims: bool, mean: bool) -> Array:
    x = _checks.as_array(x, func, "x")
    n, height, width, channels = _checks.image_shape(x.shape, func)
    if height == 0 or width == 0:
        raise ValueError(f"{func}: x has no pixels (x.shape={x.shape})")
    result = _pool2d(func, x, (height, width), None, "valid", 1, False, mean, False, None)
    if _checks.flag(keepdims, func, "keepdims"):
        return result
    return result.reshape({2: (), 3: (channels,), 4: (n, channels)}[x.ndim])


@overload
def global_avg_pool2d(x: WideArray, *, keepdims: bool = False) -> Float64: ...
@overload
def global_avg_pool2d(x: NarrowArray, *, keepdims: bool = False) -> Float32: ...
@overload
def global_avg_pool2d(x: ArrayLike, *, keepdims: bool = False) -> Array: ...
def global_avg_pool2d(x: ArrayLike, *, keepdims: bool = False) -> Array:
    """Take the mean of each channel over the whole image.

    Parameters
    ----------
    x : array_like, shape (H, W), (H, W, C) or (N, H, W, C)
    keepdims : bool, default False
        Keep the image's two axes, with size 1.

    Returns
    -------
    ndarray, shape (), (C,) or (N, C)
        Of dtype ``np.result_type(x, np.float32)``.

    Raises
    ------
    ValueError
        An image without pixels, or of another rank.
    TypeError
        Complex, object, string or longdouble arrays; masked arrays.

    Notes
    -----
    ``sum(x[i, j, c]) / (H * W)`` [1]_, with the error bound of `avg_pool2d` for K = H * W.

    References
    ----------
    .. [1] Lin, M., Chen, Q., Yan, S., Network In Network, arXiv:1312.4400.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> pycnn.global_avg_pool2d(np.arange(8.0).reshape(2, 2, 2))
    array([3., 4.])
    """
    return _global_pool("global_avg_pool2d", x, keepdims, True)


@overload
def global_max_pool2d(x: NDArray[Scalar], *, keepdims: bool = False) -> NDArray[Scalar]: ...
@overload
def global_max_pool2d(x: ArrayLike, *, keepdims: bool = False) -> Array: ...
def global_max_pool2d(x: ArrayLike, *, keepdims: bool = False) -> Array:
    """Take the largest value of each channel over the whole image.

    Parameters
    ----------
    x : array_like, shape (H, W), (H, W, C) or (N, H, W, C)
    keepdims : bool, default False
        Keep the image's two axes, with size 1.

    Returns
    -------
    ndarray, shape (), (C,) or (N, C)
        Of the dtype of `x`.

    Raises
    ------
    ValueError
        An image without pixels, or of another rank.
    TypeError
        Complex, object, string or longdouble arrays; masked arrays.

    Notes
    -----
    The largest ``x[y, x, c]`` of each channel c [1]_. Exact. A channel with a NaN gives NaN.

    References
    ----------
    .. [1] Oquab, M., Bottou, L., Laptev, I., Sivic, J., Is object localization for free?, CVPR
       2015.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> pycnn.global_max_pool2d(np.arange(8).reshape(2, 2, 2))
    array([6, 7])
    """
    return _global_pool("global_max_pool2d", x, keepdims, False)
