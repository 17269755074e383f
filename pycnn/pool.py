"""Pooling: the largest or the mean value of sliding windows, channel by channel."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, overload

import numpy as np

from pycnn import _checks, _pool

if TYPE_CHECKING:
    from typing import Any

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
    x_dtype: DType,
    window: object,
    stride: object,
    padding: object,
    dilation: object,
    ceil_mode: bool,
    mean: bool,
    count_padding: bool,
) -> tuple[Shape, DType, _pool.PoolPlan | None]:
    """The checked geometry of a call: (result shape, dtype to compute in, plan).

    No plan where nothing is computed.
    """
    _checks.check_dtype(x_dtype, func, "x")
    window = _checks.pair(window, func, "pool_size")
    stride = window if stride is None else _checks.pair(stride, func, "stride")
    padding = _checks.canonical_padding(padding, func)
    dilation = _checks.pair(dilation, func, "dilation")
    if mean:
        dtype = _checks.compute_dtype(x_dtype, x_dtype, func)
    else:
        # Halves have no kernel; float32 holds each of them, so a maximum stays exact.
        dtype = np.dtype(np.float32 if x_dtype.char == "e" else x_dtype.type)
    x, out, pads = geometry(func, x_shape, window, stride, padding, dilation, ceil_mode)
    shape = {2: out, 3: (*out, x[3]), 4: (x[0], *out, x[3])}[len(x_shape)]
    _checks.check_size(shape, dtype, func)
    if 0 in shape:
        return shape, dtype, None
    before, after = zip(*pads, strict=True)
    try:
        plan = _pool.PoolPlan(
            dtype, x, window, out, stride, before, after, dilation, mean, count_padding
        )
    except MemoryError as error:
        raise _checks.out_of_memory(func, error) from None
    return shape, dtype, plan


def _pool2d(
    func: str,
    x: ArrayLike,
    window: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: Any,
    mean: bool,
    count_padding: Any,
    out: Array | None,
) -> Array:
    # Plans are looked up by value, and True == 1 == 1.0: only exact types may be keys.
    if type(window) is not int:
        window = _checks.pair(window, func, "pool_size")
    if stride is not None and type(stride) is not int:
        stride = _checks.pair(stride, func, "stride")
    if type(padding) is not str and type(padding) is not int:
        padding = _checks.canonical_padding(padding, func)
    if type(dilation) is not int:
        dilation = _checks.pair(dilation, func, "dilation")
    if type(ceil_mode) is not bool:
        ceil_mode = _checks.flag(ceil_mode, func, "ceil_mode")
    if type(count_padding) is not bool:
        count_padding = _checks.flag(count_padding, func, "count_include_pad")
    if type(x) is not np.ndarray:
        x = _checks.as_array(x, func, "x")  # last: the others may run a caller's code
    return _pooled(func, x, window, stride, padding, dilation, ceil_mode, mean, count_padding, out)


def _pooled(
    func: str,
    x: Array,
    window: object,
    stride: object,
    padding: object,
    dilation: object,
    ceil_mode: bool,
    mean: bool,
    count_padding: bool,
    out: Array | None,
) -> Array:
    """`_pool2d` behind the conversion of its arguments."""
    x_dtype = x.dtype
    shape, dtype, plan = _plan(
        func, x.shape, x_dtype, window, stride, padding, dilation, ceil_mode, mean, count_padding
    )
    result = _checks.result_for(out, shape, dtype if mean else x_dtype, (x,), func)
    try:
        if plan is not None:
            if mean or x_dtype.char != "e":
                _pool.pool2d(plan, x, result)
            else:
                maxima = np.empty(shape, dtype)
                _pool.pool2d(plan, x, maxima)
                result[...] = maxima
    except MemoryError as error:
        raise _checks.out_of_memory(func, error) from None
    return result if out is None else _checks.copy_out(result, out)


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
    return _pool2d(
        "avg_pool2d", x, pool_size, stride, padding, 1, ceil_mode, True, count_include_pad, out
    )


def _global_pool(func: str, x: ArrayLike, keepdims: bool, mean: bool) -> Array:
    x = _checks.as_array(x, func, "x")
    n, height, width, channels = _checks.image_shape(x.shape, func)
    if height == 0 or width == 0:
        raise ValueError(f"{func}: x has no pixels (x.shape={x.shape})")
    keepdims = _checks.flag(keepdims, func, "keepdims")
    result = _pooled(func, x, (height, width), None, "valid", 1, False, mean, False, None)
    if keepdims:
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
