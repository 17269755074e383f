"""Conv2D: a convolution with filters of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycnn import _checks
from pycnn.convolution import PackedFilters, conv2d, geometry
from pycnn.layers import _layer
from pycnn.layers._weighted import Parameters, Weighted

if TYPE_CHECKING:
    from typing import Any, ClassVar, Self, SupportsIndex

    from pycnn._typing import Activation, Array, ArrayLike, Padding, Pair, Precision, Shape


class Conv2D(Weighted, loadable=True):
    """Convolve images with a set of filters; see `pycnn.conv2d`.

    Parameters
    ----------
    n_filters : int
        Filters, and channels of the result.
    kernel_size : int or (int, int)
        Height and width of a filter.
    stride, padding, dilation, groups, activation, precision
        As in `pycnn.conv2d`.
    use_bias : bool, default True
        Add a number of its own to each filter's map.
    initializer : str
        How filters are drawn when the layer is built: "zeros", "ones", or the scale "he",
        "glorot" or "lecun" and the distribution, as in "he_normal" and "he_uniform".
    seed : int, numpy.random.Generator or other seed, optional
        What `numpy.random.default_rng` takes; the same seed gives the same parameters.
    input_shape : tuple of int, optional
        ``(H, W)`` or ``(H, W, C)`` of an image, to build the layer now instead of on first input.
    name : str, optional

    Attributes
    ----------
    filters : ndarray, shape (F, KH, KW) or (F, KH, KW, C // groups), or None before it is built
        Read-only. Assign other ones of the same shape to replace them. Three dimensions for a layer
        that was built for grey images ``(H, W)``.
    bias : ndarray, shape (F,), or None
        Read-only; may be assigned, too.

    Raises
    ------
    ValueError, TypeError
        Numbers out of range and unknown names; images that the filters do not fit.

    Notes
    -----
    Filters are kept packed for the kernels, see `pycnn.PackedFilters`. The bias begins as zeros,
    the filters in float32 with variance 2 / fan_in (he [1]_), 2 / (fan_in + fan_out) (glorot [2]_)
    or 1 / fan_in (lecun), with ``KH * KW * C // groups`` for fan_in and ``F * KH * KW`` for
    fan_out.

    References
    ----------
    .. [1] He, K. et al., Delving deep into rectifiers, ICCV 2015.
    .. [2] Glorot, X., Bengio, Y., Understanding the difficulty of training deep feedforward neural
       networks, AISTATS 2010.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> layer = pycnn.Conv2D(8, 3, padding="same", activation="relu", seed=0)
    >>> layer(np.ones((28, 28, 3), np.float32)).shape
    (28, 28, 8)
    >>> layer.filters.shape
    (8, 3, 3, 3)
    """

    weights_name: ClassVar[str] = "filters"
    output_axis: ClassVar[int] = 0

    def __init__(
        self,
        n_filters: SupportsIndex,
        kernel_size: Pair,
        *,
        stride: Pair = 1,
        padding: Padding = "valid",
        dilation: Pair = 1,
        groups: SupportsIndex = 1,
        use_bias: bool = True,
        activation: Activation = None,
        precision: Precision = "highest",
        initializer: str = "glorot_uniform",
        seed: Any = None,
        input_shape: ArrayLike | None = None,
        name: str | None = None,
    ) -> None:
        who = type(self).__name__
        self.n_filters = _checks.integer(n_filters, who, "n_filters", 1)
        super().__init__(self.n_filters, use_bias, activation, initializer, seed, name)
        self.kernel_size = _layer.pair(kernel_size, who, "kernel_size")
        self.stride = _layer.pair(stride, who, "stride")
        self.padding = _layer.padding(padding, who)
        self.dilation = _layer.pair(dilation, who, "dilation")
        self.groups = _checks.integer(groups, who, "groups", 1)
        if self.n_filters % self.groups:
            raise ValueError(
                f"{who}: n_filters={self.n_filters} is not a multiple of groups={self.groups}"
            )
        _checks.choice(precision, _checks.PRECISIONS, who, "precision")
        self.precision: Precision = precision
        if input_shape is not None:
            self.build(input_shape)

    @classmethod
    def from_arrays(
        cls,
        filters: ArrayLike,
        bias: ArrayLike | None = None,
        *,
        stride: Pair = 1,
        padding: Padding = "valid",
        dilation: Pair = 1,
        groups: SupportsIndex = 1,
        activation: Activation = None,
        precision: Precision = "highest",
        name: str | None = None,
    ) -> Self:
        """A layer with given parameters.

        Parameters
        ----------
        filters : array_like, shape (F, KH, KW) or (F, KH, KW, C // groups)
            Three dimensions for grey images ``(H, W)``. `pycnn.layers.weights` brings those of
            other libraries into this order.
        bias : array_like, shape (F,), optional
        stride, padding, dilation, groups, activation, precision
            As in `pycnn.conv2d`.
        name : str, optional

        Returns
        -------
        Conv2D

        Examples
        --------
        >>> import pycnn
        >>> pycnn.Conv2D.from_arrays([[[-1.0, 0.0, 1.0]] * 3], activation="relu")
        Conv2D(1, 3, use_bias=False, activation='relu')
        """
        who = cls.__name__
        array = _checks.as_array(filters, who, "filters")
        if array.ndim not in (3, 4):
            raise ValueError(
                f"{who}: filters have {array.ndim} dimensions; expected (F, KH, KW) or "
                f"(F, KH, KW, C // groups) (filters.shape={array.shape})"
            )
        layer = cls(
            array.shape[0],
            array.shape[1:3],
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            use_bias=bias is not None,
            activation=activation,
            precision=precision,
            name=name,
        )
        layer._give(array, bias, who)
        return layer

    @property
    def filters(self) -> Array | None:
        return self._get_weights()

    @filters.setter
    def filters(self, filters: ArrayLike) -> None:
        self._replace_weights(filters)

    @property
    def keywords(self) -> dict[str, Any]:
        """The options that conv2d and conv_relu_pool take, without the activation."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "precision": self.precision,
        }

    @property
    def _window(self) -> Shape:
        return _checks.pair(self.kernel_size, self.kind, "kernel_size")

    def _weights_shape(self, shape: Shape) -> Shape:
        if (parameters := self.parameters) is not None:
            return parameters.weights.shape
        channels = tuple(c // self.groups for c in shape[2:])
        return (self.n_filters, *self._window, *channels)

    def _fans(self, weights: Shape) -> tuple[int, int]:
        taps = weights[1] * weights[2]
        return taps * (weights[3] if len(weights) == 4 else 1), taps * weights[0]

    def _check_weights(self, weights: Shape, who: str) -> None:
        expected = (self.n_filters, *self._window)
        if weights[:3] != expected or weights[3:] == (0,) or len(weights) > 4:
            raise ValueError(
                f"{who}: filters have shape {weights}; expected {expected}, for images with "
                f"channels {(*expected, 'C // groups')}"
            )
        if len(weights) == 3 and self.groups > 1:
            raise ValueError(
                f"{who}: filters of shape {weights} take grey images, which have no "
                f"groups={self.groups}"
            )

    @staticmethod
    def _pack(weights: Array, bias: Array | None) -> Parameters:
        # A batch of grey images becomes one of images with a channel.
        packed = PackedFilters(weights if weights.ndim == 4 else weights[..., None])
        return Parameters(packed.array.reshape(weights.shape), bias, packed)

    def _sample_ndim(self, ndim: int) -> int:
        parameters = self.parameters
        return min(ndim, 3) if parameters is None else parameters.weights.ndim - 1

    def _output_shape(self, shape: Shape, who: str) -> Shape:
        if len(shape) not in (2, 3):
            raise ValueError(
                f"{who}: the input has shape {shape}; expected an image, (H, W) or (H, W, C)"
            )
        weights = self._weights_shape(shape)
        sizes = geometry(who, shape, weights, self.stride, self.padding, self.dilation, self.groups)
        return (*sizes[2], self.n_filters)

    def _multiply_adds(self, shape: Shape, who: str) -> int:
        height, width, n_filters = self._output_shape(shape, who)
        return height * width * n_filters * self._fans(self._weights_shape(shape))[0]

    def _forward(self, x: Array) -> Array:
        _, bias, packed = self.parameters_for(x.dtype)
        images = x if x.ndim == 4 else x[..., None]
        return conv2d(images, packed, bias, activation=self.activation, **self.keywords)
