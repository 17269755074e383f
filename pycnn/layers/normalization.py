"""BatchNorm and Dropout, as they are after training."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from pycnn import _checks
from pycnn.layers import _layer
from pycnn.layers.activations import Elementwise

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, ClassVar, Self

    from pycnn._typing import Array, ArrayLike, DType, Shape
    from pycnn.layers._weighted import Parameters, Weighted

_NAMES = ("gamma", "beta", "mean", "variance")


class _Statistics(NamedTuple):
    gamma: Array
    beta: Array
    mean: Array
    variance: Array
    scale: Array  # float64: gamma / sqrt(variance + epsilon)
    shift: Array  # float64: beta - mean * scale


class _Folded(NamedTuple):
    """What a layer is with the statistics in it, by dtype, and what that was made of."""

    parameters: Parameters
    statistics: _Statistics
    made: dict[DType, Parameters | None]


class BatchNorm(Elementwise, loadable=True):
    """Normalise each channel by the statistics that training found.

    Parameters
    ----------
    epsilon : float, default 1e-5
        Added to the variance. (Keras trains with 1e-3.)
    input_shape : tuple of int, optional
        The shape of one sample, to build the layer now instead of on first input.
    name : str, optional

    Attributes
    ----------
    gamma, beta, mean, variance : ndarray, shape (C,), or None before the layer is built
        Read-only. A layer without given ones begins with 1, 0, 0 and 1.

    Raises
    ------
    ValueError, TypeError
        An epsilon that is negative or no number; inputs with another number of channels.

    Notes
    -----
    ``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` [1]_, computed as ``scale * x + shift``
    with both numbers rounded once from float64 to ``np.result_type(x, np.float32)``, the result's
    dtype. A network multiplies them into the filters of the convolution or the weights of the dense
    layer before it.

    References
    ----------
    .. [1] Ioffe, S., Szegedy, C., Batch normalization, ICML 2015, algorithm 2.

    Examples
    --------
    >>> import pycnn
    >>> layer = pycnn.BatchNorm.from_arrays([2.0], [1.0], [0.5], [4.0], epsilon=0.0)
    >>> layer([[0.5], [2.5]])
    array([[1.],
           [3.]])
    """

    def __init__(
        self,
        *,
        epsilon: float = 1e-5,
        input_shape: ArrayLike | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        who = type(self).__name__
        self.epsilon = _checks.finite(epsilon, who, "epsilon", np.dtype(np.float64))
        if self.epsilon < 0:
            raise ValueError(f"{who}: epsilon={epsilon} must be at least 0")
        self._statistics: _Statistics | None = None
        self._folded: WeakKeyDictionary[Weighted, _Folded] = WeakKeyDictionary()
        if input_shape is not None:
            self.build(input_shape)

    @classmethod
    def from_arrays(
        cls,
        gamma: ArrayLike,
        beta: ArrayLike,
        mean: ArrayLike,
        variance: ArrayLike,
        *,
        epsilon: float = 1e-5,
        name: str | None = None,
    ) -> Self:
        """A layer with given parameters, in the order of Keras' ``get_weights()``.

        Parameters
        ----------
        gamma, beta, mean, variance : array_like, shape (C,)
            PyTorch's ``weight, bias, running_mean, running_var``.
        epsilon : float, default 1e-5
        name : str, optional

        Returns
        -------
        BatchNorm
        """
        layer = cls(epsilon=epsilon, name=name)
        arrays = zip(_NAMES, (gamma, beta, mean, variance), strict=True)
        who = cls.__name__
        layer._set_arrays({n: _checks.as_array(a, who, n) for n, a in arrays}, who)
        return layer

    @property
    def built(self) -> bool:
        return self._statistics is not None

    @property
    def gamma(self) -> Array | None:
        return self.arrays.get("gamma")

    @property
    def beta(self) -> Array | None:
        return self.arrays.get("beta")

    @property
    def mean(self) -> Array | None:
        return self.arrays.get("mean")

    @property
    def variance(self) -> Array | None:
        return self.arrays.get("variance")

    @property
    def arrays(self) -> dict[str, Array]:
        if self._statistics is None:
            return {}
        return dict(zip(_NAMES, self._statistics[:4], strict=True))

    @property
    def n_parameters(self) -> int:
        """Gamma and beta; mean and variance are statistics of the data."""
        return 0 if self._statistics is None else 2 * self._statistics.gamma.size

    def _array_names(self) -> tuple[str, ...]:
        return _NAMES

    def _set_arrays(self, arrays: Mapping[str, Array], who: str) -> None:
        shape = arrays["gamma"].shape
        if len(shape) != 1:
            raise ValueError(f"{who}: gamma has shape {shape}; expected one number per channel")
        for name in _NAMES:
            if arrays[name].shape != shape:
                raise ValueError(
                    f"{who}: {name} has shape {arrays[name].shape}; expected one number per "
                    f"channel, as gamma has (gamma.shape={shape})"
                )
        gamma, beta, mean, variance = (_checks.frozen(arrays[name]) for name in _NAMES)
        if (variance < 0).any():
            raise ValueError(
                f"{who}: variance has negative numbers, down to {np.nanmin(variance):g}"
            )
        with np.errstate(all="ignore"):  # a variance of zero may give infinity, as it should
            scale = gamma / np.sqrt(variance.astype(np.float64) + self.epsilon)
            shift = beta - mean * scale
        self._statistics = _Statistics(gamma, beta, mean, variance, scale, shift)

    def _build(self, shape: Shape, who: str) -> None:
        if self._statistics is None:
            n_channels = _channels(shape)
            _checks.check_size((n_channels,), np.dtype(np.float64), who)
            try:
                zeros, ones = np.zeros(n_channels, np.float32), np.ones(n_channels, np.float32)
                self._set_arrays(dict(zip(_NAMES, (ones, zeros, zeros, ones), strict=True)), who)
            except MemoryError as error:
                raise _checks.out_of_memory(who, error) from None

    def _usual_ndim(self, ndim: int) -> int:
        # Two dimensions are vectors; with one channel a grey image, which comes to the same.
        one = self._statistics is not None and self._statistics.gamma.size == 1
        return 1 if ndim == 2 and not one else min(ndim, 3)

    def _output_shape(self, shape: Shape, who: str) -> Shape:
        if not shape:
            raise ValueError(f"{who}: the input is a single number; expected channels")
        if self._statistics is not None and self._statistics.gamma.size != _channels(shape):
            raise ValueError(
                f"{who}: the input has {_channels(shape)} channels but the statistics are of "
                f"{self._statistics.gamma.size} (input {shape}, "
                f"gamma.shape={self._statistics.gamma.shape})"
            )
        return shape

    def _forward(self, x: Array) -> Array:
        return self._normalized(x, None)

    def overwrite(self, x: Array) -> Array:
        return self._normalized(x, x)

    def _normalized(self, x: Array, out: Array | None) -> Array:
        assert self._statistics is not None
        *_, scale, shift = self._statistics
        dtype = _checks.compute_dtype(x.dtype, x.dtype, self._who)
        with np.errstate(all="ignore"):  # NaN and infinity go through
            out = None if out is None or out.dtype != dtype else out
            result: Array = np.multiply(x, scale.astype(dtype), out=out, dtype=dtype)
            result += shift.astype(dtype)
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_statistics": self.arrays, "_folded": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _statistics=None, _folded=WeakKeyDictionary())
        if state["_statistics"]:
            self._set_arrays(state["_statistics"], self._who)

    def folded_into(self, layer: Weighted, x_dtype: DType) -> Parameters | None:
        """The parameters with which `layer` computes itself and this; made once for each dtype.

        None where a product is too large, though what the layers compute need not be.
        """
        parameters, statistics = layer.parameters_for(x_dtype), self._statistics
        assert statistics is not None
        dtype = _checks.compute_dtype(x_dtype, parameters.weights.dtype, self._who)
        folded = self._folded.get(layer)  # the normalisation may stand behind several
        if (
            folded is None
            or folded.parameters is not parameters
            or folded.statistics is not statistics
        ):
            folded = self._folded[layer] = _Folded(parameters, statistics, {})
        if dtype not in folded.made:
            folded.made[dtype] = layer.scaled(parameters, statistics.scale, statistics.shift, dtype)
        return folded.made[dtype]


def _channels(shape: Shape) -> int:
    return 1 if len(shape) == 2 else shape[-1]


class Dropout(_layer.Layer, loadable=True):
    """Nothing: units are dropped in training only.

    Parameters
    ----------
    rate : float, default 0.5
        The share of units that training dropped; kept for the record.
    name : str, optional

    Raises
    ------
    ValueError, TypeError
        A rate that is not between 0 and 1.

    Examples
    --------
    >>> import pycnn
    >>> pycnn.Dropout(0.5)([1.0, 2.0])
    array([1., 2.])
    """

    makes_new: ClassVar[bool] = False

    def __init__(self, rate: float = 0.5, *, name: str | None = None) -> None:
        super().__init__(name)
        who = type(self).__name__
        self.rate = _checks.finite(rate, who, "rate", np.dtype(np.float64))
        if not 0 <= self.rate <= 1:
            raise ValueError(f"{who}: rate={rate} must be between 0 and 1")

    def _forward(self, x: Array) -> Array:
        return x
