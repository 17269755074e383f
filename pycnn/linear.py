"""dense: a fully connected layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from pycnn import _checks, _dense
from pycnn.activations import EPILOGUES, apply

if TYPE_CHECKING:
    from pycnn._typing import (
        Activation,
        Array,
        ArrayLike,
        Float32,
        Float64,
        NarrowArray,
        WideArray,
    )


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
    x = _checks.as_array(x, func, "x")
    weights = _checks.as_array(weights, func, "weights")
    if x.ndim not in (1, 2):
        raise ValueError(
            f"{func}: x has {x.ndim} dimensions; expected (n_in,) or (N, n_in) {_both(x, weights)}"
        )
    if weights.ndim != 2:
        raise ValueError(
            f"{func}: weights have {weights.ndim} dimensions; expected (n_in, n_out) "
            f"{_both(x, weights)}"
        )
    n_in, n_out = weights.shape
    if x.shape[-1] != n_in:
        raise ValueError(
            f"{func}: x has {x.shape[-1]} features but weights expect {n_in} {_both(x, weights)}"
        )
    _checks.choice(activation, _checks.ACTIVATIONS, func, "activation")
    if bias is not None:
        bias = _checks.as_array(bias, func, "bias")
        if bias.shape != (n_out,):
            raise ValueError(
                f"{func}: bias has shape {bias.shape}; expected one number per output, ({n_out},)"
            )
    shape = (*x.shape[:-1], n_out)
    dtype = _checks.compute_dtype(x.dtype, weights.dtype, func)
    _checks.check_size(shape, dtype, func)

    inputs = (x, weights) if bias is None else (x, weights, bias)

    def compute(result: Array) -> None:
        if result.size == 0:
            return
        code, slope = EPILOGUES.get(activation, EPILOGUES[None])
        _dense.dense(x, weights, bias, code, slope, result.reshape(-1, n_out))
        if activation is not None and activation not in EPILOGUES:
            apply(activation, result)

    return _checks.deliver(compute, shape, dtype, out, inputs, func)


def _both(x: Array, weights: Array) -> str:
    return f"(x.shape={x.shape}, weights.shape={weights.shape})"
