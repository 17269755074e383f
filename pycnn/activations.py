"""Activations: relu, leaky_relu, sigmoid and softmax, element by element or over an axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import numpy as np

from pycnn import _activation, _checks

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import SupportsIndex

    from numpy.typing import NDArray

    from pycnn._typing import (
        Array,
        ArrayLike,
        Float32,
        Float64,
        NarrowArray,
        Scalar,
        WideArray,
    )


_SLOPE = 0.01
# The activations the convolution kernels apply before they store: (code, slope of leaky_relu).
EPILOGUES: dict[str | None, tuple[int, float]] = {
    None: (0, 0.0),
    "relu": (1, 0.0),
    "leaky_relu": (2, _SLOPE),
}


# Elements that go through all steps before the next, to stay in the cache.
_BLOCK = 2**14
# NumPy reduces rows one by one: up to here it is quicker to go through their columns.
_SHORT = 24


def _sigmoid_into(x: Array, out: Array, axis: int | None = None) -> None:
    x, out = x.reshape(-1), out.reshape(-1)
    with np.errstate(all="ignore"):  # tiny results may underflow
        for start in range(0, x.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            # exp(-|x|) never overflows, and both halves keep their relative accuracy.
            e = np.exp(-np.abs(x[block]))
            np.divide(np.maximum(x[block] >= 0, e), 1 + e, out=out[block])


def _softmax_into(x: Array, out: Array, axis: int | None = -1) -> None:
    # Without the largest element exp could overflow; with it one term is exactly 1.
    with np.errstate(all="ignore"):  # inf - inf is NaN, as it should be
        if axis == x.ndim - 1 and x.shape[axis] <= _SHORT:
            _softmax_of_short_rows(x.reshape(-1, x.shape[axis]), out.reshape(-1, x.shape[axis]))
        else:
            e = np.exp(x - x.max(axis=axis, keepdims=True))
            _share(e, e.sum(axis=axis, keepdims=True), out)


def _softmax_of_short_rows(x: Array, out: Array) -> None:
    """Sums run in order either way, so that a row has the same bits alone and among others."""
    n_rows, length = x.shape
    if n_rows < 64:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        _share(e, np.add.accumulate(e, axis=1)[:, -1:], out)
        return
    step = _BLOCK // length
    for start in range(0, n_rows, step):
        columns = x[start : start + step].T.copy()
        columns -= columns.max(axis=0)
        np.exp(columns, out=columns)
        total = columns[0].copy()
        for column in columns[1:]:
            total += column
        _share(columns, total, columns)
        out[start : start + step] = columns.T


def _share(e: Array, total: Array, out: Array) -> None:
    """Parts of their total; NaN of one sign, which else depends on where a row stands."""
    np.divide(e, total, out=out)
    lost = np.isnan(total)
    if lost.any():
        np.copyto(out, np.nan, where=lost)


_SMOOTH = {"sigmoid": _sigmoid_into, "softmax": _softmax_into}


def _smooth(func: str, x: ArrayLike, out: Array | None, axis: int | None = None) -> Array:
    x = _checks.as_array(x, func, "x")
    dtype = _checks.compute_dtype(x.dtype, x.dtype, func)
    result = _checks.result_for(out, x.shape, dtype, (x,), func, True)
    try:
        if result.size:
            # In C order, so that sums run alike for every memory layout.
            _SMOOTH[func](_checks.contiguous(x, dtype), result, axis)
    except MemoryError as error:
        raise _checks.out_of_memory(func, error) from None
    return result if out is None else _checks.copy_out(result, out)


@overload
def relu(x: NDArray[Scalar], *, out: Array | None = None) -> NDArray[Scalar]: ...
@overload
def relu(x: ArrayLike, *, out: Array | None = None) -> Array: ...
def relu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Rectified linear unit: ``max(x, 0)``, element by element.

    Parameters
    ----------
    x : array_like, any shape
        Booleans, integers, float16, float32 or float64.
    out : ndarray, optional
        Where to put the result; of its exact shape and dtype. It may be `x` itself.

    Returns
    -------
    ndarray
        Of the shape and dtype of `x`.

    Raises
    ------
    TypeError
        Complex, object, string or longdouble arrays; masked arrays; an `out` of another dtype.
    ValueError
        An `out` of another shape, or read-only.

    Notes
    -----
    Exact. NaN stays NaN, as in ``np.maximum``; integers keep their dtype. Networks owe it to [1]_.

    References
    ----------
    .. [1] Nair, V., Hinton, G. E., Rectified linear units improve restricted Boltzmann machines,
       ICML 2010.

    Examples
    --------
    >>> import pycnn
    >>> pycnn.relu([[-1.5, 2.0]])
    array([[0., 2.]])
    """
    if type(x) is not np.ndarray:
        x = _checks.as_array(x, "relu", "x")
    dtype = x.dtype
    _checks.check_dtype(dtype, "relu", "x")
    result = _checks.result_for(out, x.shape, dtype, (x,), "relu", True)
    try:
        if dtype.char == "e":  # halves have no kernel; float32 holds each of them
            result[...] = relu(x.astype(np.float32))
        else:
            _activation.relu(x, result)
    except MemoryError as error:
        raise _checks.out_of_memory("relu", error) from None
    return result if out is None else _checks.copy_out(result, out)


@overload
def leaky_relu(
    x: WideArray, negative_slope: float = _SLOPE, *, out: Array | None = None
) -> Float64: ...
@overload
def leaky_relu(
    x: NarrowArray, negative_slope: float = _SLOPE, *, out: Array | None = None
) -> Float32: ...
@overload
def leaky_relu(
    x: ArrayLike, negative_slope: float = _SLOPE, *, out: Array | None = None
) -> Array: ...
def leaky_relu(x: ArrayLike, negative_slope: float = _SLOPE, *, out: Array | None = None) -> Array:
    """Leaky rectified linear unit: ``x`` where positive, else ``negative_slope * x``.

    Parameters
    ----------
    x : array_like, any shape
    negative_slope : float, default 0.01
        Finite in the dtype of the result.
    out : ndarray, optional
        Where to put the result; of its exact shape and dtype. It may be `x` itself.

    Returns
    -------
    ndarray
        Of the shape of `x`, of dtype ``np.result_type(x, np.float32)``.

    Raises
    ------
    TypeError
        Arrays that are not real numbers; a slope that is not one; an `out` of another dtype.
    ValueError
        A slope that is not finite; an `out` of another shape, or read-only.

    Notes
    -----
    Two roundings: of the slope to the dtype of the result, and of the product. NaN stays NaN. It
    comes from [1]_.

    References
    ----------
    .. [1] Maas, A. L., Hannun, A. Y., Ng, A. Y., Rectifier nonlinearities improve neural network
       acoustic models, ICML 2013.

    Examples
    --------
    >>> import pycnn
    >>> pycnn.leaky_relu([-4.0, 2.0], 0.25)
    array([-1.,  2.])
    """
    func = "leaky_relu"
    if type(x) is not np.ndarray:
        x = _checks.as_array(x, func, "x")
    dtype = _checks.compute_dtype(x.dtype, x.dtype, func)
    # Spares the usual slope, which is finite in every dtype, the questions.
    if type(negative_slope) is not float or not -1e30 < negative_slope < 1e30:
        negative_slope = _checks.finite(negative_slope, func, "negative_slope", dtype)
    result = _checks.result_for(out, x.shape, dtype, (x,), func, True)
    try:
        _activation.leaky_relu(x, negative_slope, result)
    except MemoryError as error:
        raise _checks.out_of_memory(func, error) from None
    return result if out is None else _checks.copy_out(result, out)


@overload
def sigmoid(x: WideArray, *, out: Array | None = None) -> Float64: ...
@overload
def sigmoid(x: NarrowArray, *, out: Array | None = None) -> Float32: ...
@overload
def sigmoid(x: ArrayLike, *, out: Array | None = None) -> Array: ...
def sigmoid(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Logistic sigmoid: ``1 / (1 + exp(-x))``, element by element.

    Parameters
    ----------
    x : array_like, any shape
    out : ndarray, optional
        Where to put the result; of its exact shape and dtype. It may be `x` itself.

    Returns
    -------
    ndarray
        Of the shape of `x`, of dtype ``np.result_type(x, np.float32)``.

    Raises
    ------
    TypeError
        Arrays that are not real numbers; an `out` of another dtype.
    ValueError
        An `out` of another shape, or read-only.

    Notes
    -----
    ``1 / (1 + exp(-x))`` [1]_, computed from ``exp(-|x|)``, so that nothing overflows and small
    results keep their relative accuracy: a few units in the last place. NaN stays NaN.

    References
    ----------
    .. [1] Rumelhart, D. E., Hinton, G. E., Williams, R. J., Learning representations by
       back-propagating errors, Nature 323, 1986, equation 2.

    Examples
    --------
    >>> import pycnn
    >>> pycnn.sigmoid([0.0])
    array([0.5])
    """
    return _smooth("sigmoid", x, out)


@overload
def softmax(x: WideArray, axis: SupportsIndex = -1, *, out: Array | None = None) -> Float64: ...
@overload
def softmax(x: NarrowArray, axis: SupportsIndex = -1, *, out: Array | None = None) -> Float32: ...
@overload
def softmax(x: ArrayLike, axis: SupportsIndex = -1, *, out: Array | None = None) -> Array: ...
def softmax(x: ArrayLike, axis: SupportsIndex = -1, *, out: Array | None = None) -> Array:
    """Normalised exponentials: ``exp(x) / sum(exp(x))`` over an axis.

    Parameters
    ----------
    x : array_like, at least one dimension
    axis : int, default -1
        The axis whose elements sum to one: the last, the channels, when not given.
    out : ndarray, optional
        Where to put the result; of its exact shape and dtype. It may be `x` itself.

    Returns
    -------
    ndarray
        Of the shape of `x`, of dtype ``np.result_type(x, np.float32)``.

    Raises
    ------
    TypeError
        Arrays that are not real numbers; an axis that is not an integer; an `out` of another dtype.
    ValueError
        An axis that `x` does not have; an `out` of another shape, or read-only.

    Notes
    -----
    The largest element is subtracted first, so that nothing overflows. A NaN, or two infinities of
    one sign, make their whole row NaN, as in ``scipy.special.softmax``. The name is of [1]_.

    References
    ----------
    .. [1] Bridle, J. S., Probabilistic interpretation of feedforward classification network
       outputs, with relationships to statistical pattern recognition, in Neurocomputing, Springer
       1990.

    Examples
    --------
    >>> import pycnn
    >>> pycnn.softmax([[1.0, 1.0]])
    array([[0.5, 0.5]])
    """
    func = "softmax"
    x = _checks.as_array(x, func, "x")
    return _smooth(func, x, out, _checks.axis(axis, x.ndim, func))


_FUNCTIONS: dict[str, Callable[..., Array]] = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "sigmoid": sigmoid,
    "softmax": softmax,
}


def apply(activation: str, y: Array) -> None:
    """An activation by its name, in place, over the last axis where it has one."""
    _FUNCTIONS[activation](y, out=y)
