"""Activations as layers. A network applies those behind a convolution while it stores the maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pycnn import _checks, activations
from pycnn.layers import _layer

if TYPE_CHECKING:
    from typing import SupportsIndex

    from pycnn._typing import Activation, Array, Shape, Step


class Elementwise(_layer.Layer):
    """A layer that keeps the shape, and may overwrite its input where nobody else needs that."""

    @property
    def epilogue(self) -> Activation:
        """The same activation by its name in conv2d and dense, if it has one there."""
        return None

    def overwrite(self, x: Array) -> Array:
        """The result, in the memory of `x` where the dtype stays."""
        raise NotImplementedError

    def _step(self, shape: Shape, who: str, fresh: bool) -> Step:
        return self.overwrite if fresh else self._forward


def _float_out(x: Array) -> Array | None:
    return x if x.dtype.char in "fd" and x.dtype.isnative else None


class ReLU(Elementwise, loadable=True):
    """Rectified linear unit; see `pycnn.relu`.

    Parameters
    ----------
    name : str, optional

    Examples
    --------
    >>> import pycnn
    >>> pycnn.ReLU()([-1.5, 2.0])
    array([0., 2.])
    """

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(name)

    @property
    def epilogue(self) -> Activation:
        return "relu"

    def _forward(self, x: Array) -> Array:
        return activations.relu(x)

    def overwrite(self, x: Array) -> Array:
        return activations.relu(x, out=_float_out(x))


class LeakyReLU(Elementwise, loadable=True):
    """Leaky rectified linear unit; see `pycnn.leaky_relu`.

    Parameters
    ----------
    negative_slope : float, default 0.01
    name : str, optional

    Raises
    ------
    TypeError, ValueError
        A slope that is not a finite number.

    Examples
    --------
    >>> import pycnn
    >>> pycnn.LeakyReLU(0.25)([-4.0, 2.0])
    array([-1.,  2.])
    """

    def __init__(self, negative_slope: float = 0.01, *, name: str | None = None) -> None:
        super().__init__(name)
        self.negative_slope = _checks.finite(
            negative_slope, type(self).__name__, "negative_slope", np.dtype(np.float32)
        )

    @property
    def epilogue(self) -> Activation:
        slope = activations.EPILOGUES["leaky_relu"][1]
        return "leaky_relu" if self.negative_slope == slope else None

    def _forward(self, x: Array) -> Array:
        return activations.leaky_relu(x, self.negative_slope)

    def overwrite(self, x: Array) -> Array:
        return activations.leaky_relu(x, self.negative_slope, out=_float_out(x))


class Sigmoid(Elementwise, loadable=True):
    """Logistic sigmoid; see `pycnn.sigmoid`.

    Parameters
    ----------
    name : str, optional

    Examples
    --------
    >>> import pycnn
    >>> pycnn.Sigmoid()([0.0])
    array([0.5])
    """

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(name)

    @property
    def epilogue(self) -> Activation:
        return "sigmoid"

    def _forward(self, x: Array) -> Array:
        return activations.sigmoid(x)

    def overwrite(self, x: Array) -> Array:
        return activations.sigmoid(x, out=_float_out(x))


class Softmax(Elementwise, loadable=True):
    """Normalised exponentials; see `pycnn.softmax`.

    Parameters
    ----------
    axis : int, default -1
        The axis whose elements sum to one, counted from the end: -1 is that of the channels.
    name : str, optional

    Raises
    ------
    TypeError, ValueError
        An axis that is not a negative integer, or that the input does not have.

    Examples
    --------
    >>> import pycnn
    >>> pycnn.Softmax()([[1.0, 1.0]])
    array([[0.5, 0.5]])
    """

    def __init__(self, axis: SupportsIndex = -1, *, name: str | None = None) -> None:
        super().__init__(name)
        # From the front, an axis of a batch is another one than that of a sample.
        self.axis = _checks.axis(axis, 3, type(self).__name__) - 3
        if self.axis != axis:
            raise ValueError(
                f"{type(self).__name__}: axis={axis!r} must be negative, counted from the end"
            )

    @property
    def epilogue(self) -> Activation:
        return "softmax" if self.axis == -1 else None

    def _output_shape(self, shape: Shape, who: str) -> Shape:
        if len(shape) < -self.axis:
            raise ValueError(f"{who}: the input has shape {shape}; it has no axis {self.axis}")
        return shape

    def _forward(self, x: Array) -> Array:
        return activations.softmax(x, self.axis)

    def overwrite(self, x: Array) -> Array:
        return activations.softmax(x, self.axis, out=_float_out(x))
