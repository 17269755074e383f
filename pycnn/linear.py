"""dense: a fully connected layer."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, overload

import numpy as np

from pycnn import _checks, _dense
from pycnn.activations import EPILOGUES, apply

if TYPE_CHECKING:
    from pycnn._typing import (
        Activation,
        Array,
        ArrayLike,
        DType,
        Float32,
        Float64,
        NarrowArray,
        Shape,
        WideArray,
    )


@lru_cache(maxsize=512)
def _plan(x: Shape, weights: Shape, x_dtype: DType, weights_dtype: DType) -> tuple[Shape, DType]:
    """The checked shape and dtype of a call's result."""
    func = "dense"
    dtype = _checks.compute_dtype(x_dtype, weights_dtype, func)
    both = f"(x.shape={x}, weights.shape={weights})"
    if len(x) not in (1, 2):
        raise ValueError(f"{func}: x has {len(x)} dimensions; expected (n_in,) or (N, n_in) {both}")
    if len(weights) != 2:
        raise ValueError(
            f"{func}: weights have {len(weights)} dimensions; expected (n_in, n_out) {both}"
        )
    n_in, n_out = weights
    if x[-1] != n_in:
        raise ValueError(f"{func}: x has {x[-1]} features but weights expect {n_in} {both}")
    shape = (*x[:-1], n_out)
    _checks.check_size(shape, dtype, func)
    return shape, dtype


@overload
def dense(
    x: WideArray,
    weights: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    activation: Activation = None,
    out: Array | None = None,
) -> Float64: ...
@overload
def dense(
    x: ArrayLike,
    weights: WideArray,
    bias: ArrayLike | None = None,
    *,
    activation: Activation = None,
    out: Array | None = None,
) -> Float64: ...
@overload
def dense(
    x: NarrowArray,
    weights: NarrowArray,
    bias: ArrayLike | None = None,
    *,
    activation: Activation = None,
    out: Array | None = None,
) -> Float32: ...
@overload
def dense(
    x: ArrayLike,
    weights: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    activation: Activation = None,
    out: Array | None = None,
) -> Array: ...
def dense(
    x: ArrayLike,
    weights: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    activation: Activation = None,
    out: Array | None = None,
) -> Array:
    """Multiply vectors by a weight matrix: ``act(x @ weights + bias)``.

    Parameters
    ----------
    x : array_like, shape (n_in,) or (N, n_in)
        One vector, or a batch of them.
    weights : array_like, shape (n_in, n_out)
    bias : array_like, shape (n_out,), optional
    activation : {None, "relu", "leaky_relu", "sigmoid", "softmax"}
        Applied to the result; softmax runs over the outputs of each vector.
    out : ndarray, optional
        Where to put the result; of its exact shape and dtype. It may overlap the inputs.

    Returns
    -------
    ndarray, shape (n_out,) or (N, n_out)
        Of dtype ``np.result_type(x, weights, np.float32)``.

    Raises
    ------
    ValueError
        Shapes that do not fit each other, an unknown activation, an `out` of another shape.
    TypeError
        Complex, object, string or longdouble arrays; masked arrays; an `out` of another dtype.

    Notes
    -----
    ``o[f] = bias[f] + sum(x[k] * weights[k, f])`` over all ``k < n_in`` [1]_.

    The error bound of `conv2d` with K = n_in; unlike with ``x @ weights``, a vector alone and the
    same vector in a batch give the same bits.

    References
    ----------
    .. [1] Rumelhart, D. E., Hinton, G. E., Williams, R. J., Learning representations by
       back-propagating errors, Nature 323, 1986, equation 1.

    Examples
    --------
    >>> import pycnn
    >>> pycnn.dense([1.0, 2.0], [[1.0, 0.0], [0.5, -1.0]], activation="relu")
    array([2., 0.])
    """
    func = "dense"
    if type(x) is not np.ndarray:
        x = _checks.as_array(x, func, "x")
    if type(weights) is not np.ndarray:
        weights = _checks.as_array(weights, func, "weights")
    if bias is not None:  # before shapes are read: converting may run a caller's code
        bias = _checks.as_array(bias, func, "bias")
    shape, dtype = _plan(x.shape, weights.shape, x.dtype, weights.dtype)
    if activation is not None:
        _checks.choice(activation, _checks.ACTIVATIONS, func, "activation")
    n_out = shape[-1]
    if bias is not None and bias.shape != shape[-1:]:
        raise ValueError(
            f"{func}: bias has shape {bias.shape}; expected one number per output, ({n_out},)"
        )
    result = _checks.result_for(out, shape, dtype, (x, weights, bias), func)
    code, slope = EPILOGUES.get(activation, EPILOGUES[None])
    try:
        if 0 not in shape:
            _dense.dense(x, weights, bias, n_out, code, slope, result)
            if activation is not None and activation not in EPILOGUES:
                apply(activation, result)
    except MemoryError as error:
        raise _checks.out_of_memory(func, error) from None
    return result if out is None else _checks.copy_out(result, out)
