"""Filters learned from image patches without labels, by scikit-learn's k-means."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.utils import check_array, check_random_state

from pycnn import _checks

if TYPE_CHECKING:
    from typing import Any, SupportsIndex

    from pycnn._typing import Array, ArrayLike, Pair

# What is added to the variances of the whitened patches, in units of their mean: directions with
# less than that are mostly noise, which whitening would blow up.
_REGULARIZATION = 0.5
# The most numbers of the patches, and of their covariance: 8 GiB each in float64.
_MAX_NUMBERS = 2**30
# A filter answers to patches that lie further than this along it, in standard deviations.
_THRESHOLD = 0.5


def learn_filters(
    images: ArrayLike,
    n_filters: SupportsIndex,
    kernel_size: Pair,
    *,
    n_patches: SupportsIndex = 20_000,
    random_state: Any = None,
) -> tuple[Array, Array]:
    """Learn filters from images without labels: k-means on whitened patches.

    Parameters
    ----------
    images : array_like, shape (N, H, W) or (N, H, W, C)
        Grey images, images with channels, or the feature maps of an earlier layer.
    n_filters : int
    kernel_size : int or (int, int)
        Height and width of a filter; at most those of an image.
    n_patches : int, default 20_000
        How many patches to draw at random from all images. Those that are equal, such as the blank
        ones of a background, count as one.
    random_state : int, RandomState or None
        What `sklearn.utils.check_random_state` takes; an int gives the same filters every time.

    Returns
    -------
    filters : ndarray, shape (n_filters, KH, KW, C)
        Of dtype ``np.result_type(images, np.float32)``; fewer, with a warning, where there are
        fewer different patches.
    bias : ndarray, shape (n_filters,)
        Both are made for a convolution with ReLU: ``conv2d(images, filters, bias,
        activation="relu")`` of images with channels.

    Raises
    ------
    ValueError
        Images of another rank, empty, with NaN or infinity, or smaller than the filters.
    TypeError
        Numbers that are not integers; sparse, masked, object or complex images.
    MemoryError
        Patches, or their covariances, of more than 2**30 numbers.

    Notes
    -----
    Patches `p` are whitened, ``z = (p - mean) @ whiten``, so that neighbouring pixels are no longer
    alike; k-means on the directions of `z` gives unit vectors `c`, and a feature is the soft
    threshold ``max(z @ c - 0.5, 0)`` [1]_ [2]_. All of that but the maximum is linear in `p`, so it
    is one convolution, whatever the scale of the pixels. Unlike there, patches are not normalised
    one by one, which no convolution can do.

    References
    ----------
    .. [1] Coates, A., Lee, H., Ng, A. Y., An Analysis of Single-Layer Networks in Unsupervised
       Feature Learning, AISTATS 2011.
    .. [2] Coates, A., Ng, A. Y., Learning Feature Representations with K-means, Neural Networks:
       Tricks of the Trade, 2nd ed., Springer 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from pycnn.sklearn import learn_filters
    >>> images = np.random.default_rng(0).random((50, 12, 12), dtype=np.float32)
    >>> filters, bias = learn_filters(images, 16, 5, random_state=0)
    >>> filters.shape, filters.dtype, bias.shape
    ((16, 5, 5, 1), dtype('float32'), (16,))
    """
    func = "learn_filters"
    n_filters = _checks.integer(n_filters, func, "n_filters", 1)
    window = _checks.pair(kernel_size, func, "kernel_size")
    n_patches = _checks.integer(n_patches, func, "n_patches", 1)
    stack = _checks.as_array(images, func, "images")
    if stack.ndim not in (3, 4) or 0 in stack.shape:
        raise ValueError(
            f"{func}: images have shape {stack.shape}; expected (N, H, W) or (N, H, W, C), "
            "none of them 0"
        )
    check_array(stack, dtype=None, allow_nd=True, input_name="images")  # for NaN and infinity
    stack = stack.reshape(*stack.shape[:3], -1)
    if window[0] > stack.shape[1] or window[1] > stack.shape[2]:
        raise ValueError(
            f"{func}: kernel_size={window} exceeds the images' size {stack.shape[1:3]}"
        )
    size = math.prod(window) * stack.shape[3]
    if max(n_patches, size) * size > _MAX_NUMBERS:
        raise MemoryError(
            f"{func}: n_patches={n_patches} patches of {size} numbers, or their covariances, would "
            f"be {max(n_patches, size) * size} numbers; at most {_MAX_NUMBERS} are learned from"
        )
    dtype = _checks.compute_dtype(stack.dtype, stack.dtype, func)
    rng = check_random_state(random_state)
    patches = _distinct_patches(stack, window, n_patches, rng)
    if len(patches) < n_filters:
        warnings.warn(
            f"{func}: {len(patches)} different patches give as many filters, "
            f"not n_filters={n_filters}",
            stacklevel=2,
        )
    # Near 1, so that squares are finite; by a power of two, which rounds nothing.
    _, exponent = np.frexp(np.abs(patches).max())
    patches = np.ldexp(patches, -exponent)
    # Whitening: z = (p - mean) @ whiten.
    mean = patches.mean(axis=0)
    patches -= mean
    variances, axes = np.linalg.eigh(patches.T @ patches / len(patches))
    variances = variances.clip(0) + _REGULARIZATION * variances.mean()
    whiten = axes / np.sqrt(variances, where=variances > 0, out=np.ones_like(variances)) @ axes.T
    # k-means on the unit sphere, since a filter is a direction.
    k_means = MiniBatchKMeans(min(n_filters, len(patches)), n_init=1, random_state=rng)
    directions = _unit_rows(k_means.fit(_unit_rows(patches @ whiten)).cluster_centers_)
    # z @ c - threshold = (p - mean) @ whiten @ c - threshold = p @ filter + bias.
    filters = directions @ whiten
    bias = -(filters @ mean) - _THRESHOLD
    with np.errstate(over="ignore"):
        filters = np.ldexp(filters, -exponent).astype(dtype)
    if not np.isfinite(filters).all():
        raise ValueError(
            f"{func}: images have pixels so near zero, at most {np.abs(stack).max():g}, that "
            f"filters for them are not finite in {dtype}; scale the images"
        )
    return filters.reshape(len(filters), *window, stack.shape[3]), bias.astype(dtype)


def _distinct_patches(
    images: Array, window: tuple[int, int], n_patches: int, rng: np.random.RandomState
) -> Array:
    """Patches at random places, one in a row, as float64."""
    windows = np.lib.stride_tricks.sliding_window_view(images, window, axis=(1, 2))
    places = [rng.randint(0, size, n_patches) for size in windows.shape[:3]]
    patches = windows[tuple(places)]  # (n_patches, C, KH, KW)
    return np.unique(np.moveaxis(patches, 1, 3).reshape(n_patches, -1), axis=0).astype(np.float64)


def _unit_rows(rows: Array) -> Array:
    """The rows, scaled to length 1; zeros stay zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
