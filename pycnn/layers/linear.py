"""Dense and Flatten: layers on vectors, and the way from images to them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pycnn import _checks
from pycnn.layers import _layer
from pycnn.layers._weighted import Parameters, Weighted
from pycnn.linear import dense

if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, SupportsIndex

    from pycnn._typing import Activation, Array, ArrayLike, Shape, Step


class Dense(Weighted, loadable=True):
    """Multiply vectors by a weight matrix; see `pycnn.dense`.

    Parameters
    ----------
    n_outputs : int
        Length of a result.
    use_bias : bool, default True
        Add a number of its own to each output.
    activation
        As in `pycnn.dense`.
    initializer : str
        How weights are drawn when the layer is built; see `Conv2D`.
    seed : int, numpy.random.Generator or other seed, optional
        What `numpy.random.default_rng` takes; the same seed gives the same weights.
    input_shape : tuple of int, optional
        ``(n_in,)``, to build the layer now instead of on first input.
    name : str, optional

    Attributes
    ----------
    weights : ndarray, shape (n_in, n_out), or None before the layer is built
        Read-only. Assign others of the same shape to replace them.
    bias : ndarray, shape (n_out,), or None
        Read-only; may be assigned, too.

    Raises
    ------
    ValueError, TypeError
        Numbers out of range and unknown names; vectors that the weights do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> layer = pycnn.Dense(10, activation="softmax", seed=0)
    >>> layer(np.ones((32, 64), np.float32)).shape
    (32, 10)
    """

    weights_name: ClassVar[str] = "weights"
    output_axis: ClassVar[int] = 1

    def __init__(
        self,
        n_outputs: SupportsIndex,
        *,
        use_bias: bool = True,
        activation: Activation = None,
        initializer: str = "glorot_uniform",
        seed: Any = None,
        input_shape: ArrayLike | None = None,
        name: str | None = None,
    ) -> None:
        self.n_outputs = _checks.integer(n_outputs, type(self).__name__, "n_outputs", 1)
        super().__init__(self.n_outputs, use_bias, activation, initializer, seed, name)
        if input_shape is not None:
            self.build(input_shape)

    @classmethod
    def from_arrays(
        cls,
        weights: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        activation: Activation = None,
        name: str | None = None,
    ) -> Self:
        """A layer with given parameters.

        Parameters
        ----------
        weights : array_like, shape (n_in, n_out)
            `pycnn.layers.weights` brings those of other libraries into this order.
        bias : array_like, shape (n_out,), optional
        activation
            As in `pycnn.dense`.
        name : str, optional

        Returns
        -------
        Dense

        Examples
        --------
        >>> import pycnn
        >>> pycnn.Dense.from_arrays([[1.0, 0.0], [0.5, -1.0]])([1.0, 2.0])
        array([ 2., -2.])
        """
        array = _checks.as_array(weights, cls.__name__, "weights")
        if array.ndim != 2:
            raise ValueError(
                f"{cls.__name__}: weights have {array.ndim} dimensions; expected (n_in, n_out) "
                f"(weights.shape={array.shape})"
            )
        layer = cls(array.shape[1], use_bias=bias is not None, activation=activation, name=name)
        layer._give(array, bias, cls.__name__)
        return layer

    @property
    def weights(self) -> Array | None:
        return self._get_weights()

    @weights.setter
    def weights(self, weights: ArrayLike) -> None:
        self._replace_weights(weights)

    def _weights_shape(self, shape: Shape) -> Shape:
        if (parameters := self.parameters) is not None:
            return parameters.weights.shape
        return (*shape, self.n_outputs)

    def _fans(self, weights: Shape) -> tuple[int, int]:
        return weights[0], weights[1]

    def _check_weights(self, weights: Shape, who: str) -> None:
        if len(weights) != 2 or weights[0] == 0 or weights[1] != self.n_outputs:
            raise ValueError(
                f"{who}: weights have shape {weights}; expected (n_in, {self.n_outputs})"
            )

    @staticmethod
    def _pack(weights: Array, bias: Array | None) -> Parameters:
        return Parameters(_checks.frozen(weights), bias, {})

    def _sample_ndim(self, ndim: int) -> int:
        return 1

    def _output_shape(self, shape: Shape, who: str) -> Shape:
        if len(shape) != 1:
            raise ValueError(
                f"{who}: the input has shape {shape}; expected a vector, (n_in,), as Flatten and "
                "the global pools make them"
            )
        weights = self._weights_shape(shape)
        if weights[0] != shape[0]:
            raise ValueError(
                f"{who}: the input has {shape[0]} features but weights expect {weights[0]} "
                f"(input {shape}, weights.shape={weights})"
            )
        return (self.n_outputs,)

    def _multiply_adds(self, shape: Shape, who: str) -> int:
        return shape[0] * self.n_outputs

    def _forward(self, x: Array) -> Array:
        weights, bias, _ = self.parameters_for(x.dtype)
        return dense(x, weights, bias, activation=self.activation)


class Flatten(_layer.Layer, loadable=True):
    """Lay out each sample as one vector: rows, then columns, then channels.

    Parameters
    ----------
    name : str, optional

    Notes
    -----
    PyTorch flattens channels, then rows, then columns; `pycnn.layers.weights.dense_from_torch`
    reorders the weights behind it.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> pycnn.Flatten()(np.ones((5, 4, 4, 8))).shape
    (5, 128)
    """

    makes_new: ClassVar[bool] = False

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(name)

    def _sample_ndim(self, ndim: int) -> int:
        return min(ndim, 3)

    def _output_shape(self, shape: Shape, who: str) -> Shape:
        return (math.prod(shape),)

    def _forward(self, x: Array) -> Array:
        return flattened(x)

    def _step(self, shape: Shape, who: str, fresh: bool) -> Step:
        return flattened


def flattened(x: Array) -> Array:
    return x.reshape(len(x), math.prod(x.shape[1:]))
