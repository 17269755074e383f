"""conv_relu_pool: convolution, bias, activation and pooling in one pass over the image."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, overload

from pycnn import _checks, _stage
from pycnn.activations import EPILOGUES
from pycnn.convolution import PackedFilters, conv2d, prepare
from pycnn.pool import avg_pool2d, max_pool2d

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal, SupportsIndex, Unpack

    from pycnn import _conv
    from pycnn._typing import (
        Activation,
        Array,
        ArrayLike,
        Float32,
        Float64,
        Narrow,
        NarrowArray,
        Padding,
        Pair,
        Precision,
        Shape,
        StageOptions,
        Wide,
        WideArray,
    )


_POOLS: dict[str, Callable[..., Array]] = {"max": max_pool2d, "avg": avg_pool2d}
_POOL_NAMES = tuple(_POOLS)


@lru_cache(maxsize=512)
def _stage_plan(
    plan: _conv.ConvPlan | None,
    conv_shape: Shape,
    window: object,
    stride: object,
    mean: bool,
) -> tuple[Shape, _stage.StagePlan | None]:
    """The pooling of a convolution's result: (result shape, plan); no plan without products."""
    func = "conv_relu_pool"
    window = _checks.pair(window, func, "pool_size")
    stride = window if stride is None else _checks.pair(stride, func, "pool_stride")
    out = tuple(
        _checks.output_size(size, k, s, 1, (0, 0), func, f"pooled {axis}")
        for size, k, s, axis in zip(
            conv_shape[-3:-1], window, stride, ("height", "width"), strict=True
        )
    )
    shape = (*conv_shape[:-3], *out, conv_shape[-1])
    if plan is None:
        return shape, None
    return shape, _stage.StagePlan(plan, window, stride, out, mean)


@overload
def conv_relu_pool(
    x: WideArray,
    filters: ArrayLike | PackedFilters[Any],
    bias: ArrayLike | None = None,
    **options: Unpack[StageOptions],
) -> Float64: ...
@overload
def conv_relu_pool(
    x: ArrayLike,
    filters: WideArray | PackedFilters[Wide],
    bias: ArrayLike | None = None,
    **options: Unpack[StageOptions],
) -> Float64: ...
@overload
def conv_relu_pool(
    x: NarrowArray,
    filters: NarrowArray | PackedFilters[Narrow],
    bias: ArrayLike | None = None,
    **options: Unpack[StageOptions],
) -> Float32: ...
@overload
def conv_relu_pool(
    x: ArrayLike,
    filters: ArrayLike | PackedFilters[Any],
    bias: ArrayLike | None = None,
    **options: Unpack[StageOptions],
) -> Array: ...
def conv_relu_pool(
    x: ArrayLike,
    filters: ArrayLike | PackedFilters[Any],
    bias: ArrayLike | None = None,
    *,
    pool_size: Pair = 2,
    pool_stride: Pair | None = None,
    pool: Literal["max", "avg"] = "max",
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
    activation: Activation = "relu",
    precision: Precision = "highest",
    out: Array | None = None,
) -> Array:
    """Convolve, add the bias, activate and pool, without the feature maps ever leaving the cache.

    The result of ``max_pool2d(conv2d(x, filters, bias, activation="relu", ...), pool_size,
    pool_stride)``, in less time and memory.

    Parameters
    ----------
    x : array_like, shape (H, W), (H, W, C) or (N, H, W, C)
    filters : array_like or PackedFilters, shape (F, KH, KW) or (F, KH, KW, C // groups)
    bias : array_like, shape (F,), optional
    pool_size : int or (int, int), default 2
        Height and width of a pooling window.
    pool_stride : int or (int, int), optional
        Pixels from one pooling window to the next; `pool_size` when not given.
    pool : {"max", "avg"}
    stride, padding, dilation, groups, precision
        As in `conv2d`.
    activation : {"relu", None, "leaky_relu", "sigmoid", "softmax"}
        Applied between convolution and pooling; the last two in separate passes.
    out : ndarray, optional
        Where to put the result; of its exact shape and dtype. It may overlap the inputs.

    Returns
    -------
    ndarray, shape (PH, PW, F) or (N, PH, PW, F)
        With ``PH = (OH - pool_size) // pool_stride + 1`` of the convolution's OH; PW likewise.

    Raises
    ------
    ValueError, TypeError, MemoryError
        As `conv2d` and `max_pool2d`.

    Notes
    -----
    ``pool(activation(conv2d(x)))``, the stage of convolutional networks [1]_.

    dtype, NaN and precision as in `conv2d` and the pooling functions.

    References
    ----------
    .. [1] LeCun, Y., Bottou, L., Bengio, Y., Haffner, P., Gradient-based learning applied to
       document recognition, Proceedings of the IEEE 86(11), 1998.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> pycnn.conv_relu_pool(np.ones((300, 451)), np.ones((2, 3, 3))).shape
    (149, 224, 2)
    """
    func = "conv_relu_pool"
    convolution = stride, padding, dilation, groups, activation, precision
    options = func, pool_size, pool_stride, pool, *convolution
    if isinstance(filters, PackedFilters):
        again = filters.repeat(options, x, bias, out)
        if again is not None:
            return again
    _checks.choice(pool, _POOL_NAMES, func, "pool")
    x, filters, bias, given, conv_shape, dtype, conv_plan = prepare(
        func, x, filters, bias, *convolution
    )
    if type(pool_size) is not int:
        pool_size = _checks.pair(pool_size, func, "pool_size")
    if pool_stride is not None and type(pool_stride) is not int:
        pool_stride = _checks.pair(pool_stride, func, "pool_stride")
    shape, plan = _stage_plan(conv_plan, conv_shape, pool_size, pool_stride, pool == "avg")
    result = _checks.result_for(out, shape, dtype, (x, filters, bias), func)
    try:
        if conv_plan and plan and plan.fits and activation in EPILOGUES:
            code, slope = EPILOGUES[activation]
            packed = filters.layout(conv_plan) if isinstance(filters, PackedFilters) else filters
            _stage.conv_pool(plan, x, packed, bias, code, slope, result)
            if isinstance(filters, PackedFilters):
                filters.remember(options, *given, shape, dtype, plan, packed, code, slope)
        elif result.size:
            maps = conv2d(
                x,
                filters,
                bias,
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=groups,
                activation=activation,
                precision=precision,
            )
            _POOLS[pool](maps, pool_size, pool_stride, out=result)
    except MemoryError as error:
        raise _checks.out_of_memory(func, error) from None
    return result if out is None else _checks.copy_out(result, out)
