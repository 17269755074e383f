"""Weights of other libraries in the order of pycnn's: ``(F, KH, KW, C)`` and ``(n_in, n_out)``.

Each function takes anything that NumPy takes as an array; of a PyTorch module, the tensors of its
``state_dict()``. Batch normalisation needs no reordering: see `BatchNorm.from_arrays`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pycnn import _checks
from pycnn.layers import _layer

if TYPE_CHECKING:
    from pycnn._typing import Array, ArrayLike

__all__ = ["conv_from_keras", "conv_from_torch", "dense_from_torch", "depthwise_from_keras"]


def _checked(weights: ArrayLike, func: str, name: str, axes: str) -> Array:
    array = _checks.as_array(weights, func, name)
    if array.ndim != axes.count(",") + 1:
        raise ValueError(
            f"{func}: {name} has {array.ndim} dimensions; expected {axes} "
            f"({name}.shape={array.shape})"
        )
    return array


def conv_from_torch(weight: ArrayLike) -> Array:
    """Filters from the weight of a PyTorch ``Conv2d``, with or without groups (OIHW to OHWI).

    Parameters
    ----------
    weight : array_like, shape (F, C // groups, KH, KW)

    Returns
    -------
    ndarray, shape (F, KH, KW, C // groups)

    Raises
    ------
    ValueError, TypeError
        Not four dimensions; not real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from pycnn.layers import weights
    >>> weights.conv_from_torch(np.ones((64, 3, 7, 7))).shape
    (64, 7, 7, 3)
    """
    array = _checked(weight, "conv_from_torch", "weight", "(F, C // groups, KH, KW)")
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def conv_from_keras(kernel: ArrayLike) -> Array:
    """Filters from the kernel of a Keras ``Conv2D``, with or without groups (HWIO to OHWI).

    Parameters
    ----------
    kernel : array_like, shape (KH, KW, C // groups, F)

    Returns
    -------
    ndarray, shape (F, KH, KW, C // groups)

    Raises
    ------
    ValueError, TypeError
        Not four dimensions; not real numbers.

    Notes
    -----
    Also TensorFlow's and JAX's usual order. The weights ``(n_in, n_out)`` of a Keras ``Dense`` are
    in pycnn's order already.

    Examples
    --------
    >>> import numpy as np
    >>> from pycnn.layers import weights
    >>> weights.conv_from_keras(np.ones((7, 7, 3, 64))).shape
    (64, 7, 7, 3)
    """
    array = _checked(kernel, "conv_from_keras", "kernel", "(KH, KW, C // groups, F)")
    return np.ascontiguousarray(array.transpose(3, 0, 1, 2))


def depthwise_from_keras(kernel: ArrayLike) -> Array:
    """Filters from the kernel of a Keras ``DepthwiseConv2D``, for ``groups=C``.

    Parameters
    ----------
    kernel : array_like, shape (KH, KW, C, multiplier)

    Returns
    -------
    ndarray, shape (C * multiplier, KH, KW, 1)

    Raises
    ------
    ValueError, TypeError
        Not four dimensions; not real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from pycnn.layers import weights
    >>> weights.depthwise_from_keras(np.ones((3, 3, 32, 2))).shape
    (64, 3, 3, 1)
    """
    array = _checked(kernel, "depthwise_from_keras", "kernel", "(KH, KW, C, multiplier)")
    height, width, channels, multiplier = array.shape
    filters = array.reshape(height, width, channels * multiplier, 1)
    return np.ascontiguousarray(filters.transpose(2, 0, 1, 3))


def dense_from_torch(weight: ArrayLike, image_shape: ArrayLike | None = None) -> Array:
    """Dense weights from the weight of a PyTorch ``Linear``.

    Parameters
    ----------
    weight : array_like, shape (n_out, n_in)
    image_shape : (int, int, int), optional
        The ``(H, W, C)`` that is flattened before this layer, if any: PyTorch flattens channels
        first, `Flatten` last, so the inputs are reordered.

    Returns
    -------
    ndarray, shape (n_in, n_out)

    Raises
    ------
    ValueError, TypeError
        Not two dimensions; not real numbers; an image of another size than n_in.

    Examples
    --------
    >>> import numpy as np
    >>> from pycnn.layers import weights
    >>> weights.dense_from_torch(np.ones((10, 400)), image_shape=(5, 5, 16)).shape
    (400, 10)
    """
    func = "dense_from_torch"
    array = _checked(weight, func, "weight", "(n_out, n_in)")
    if image_shape is None:
        return np.ascontiguousarray(array.T)
    shape = _layer.check_shape(image_shape, func, "image_shape")
    n_out, n_in = array.shape
    if len(shape) != 3 or math.prod(shape) != n_in:
        raise ValueError(
            f"{func}: image_shape={shape} must be the (H, W, C) of {n_in} inputs "
            f"(weight.shape={array.shape})"
        )
    height, width, channels = shape
    planar = array.reshape(n_out, channels, height, width)
    return np.ascontiguousarray(planar.transpose(2, 3, 1, 0).reshape(n_in, n_out))
