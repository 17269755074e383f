"""Convolution features for scikit-learn: filters, an activation and pooling as a transformer.

>>> import numpy as np
>>> from sklearn.linear_model import LogisticRegression
>>> from sklearn.pipeline import make_pipeline
>>> from pycnn.sklearn import ConvFeatures
>>> rng = np.random.default_rng(0)
>>> stripes = np.tile([[0.0, 1.0]], (8, 4)) + 0.1 * rng.standard_normal((20, 8, 8))
>>> images = np.concatenate([stripes, stripes.transpose(0, 2, 1)])
>>> labels = np.repeat(["vertical", "horizontal"], 20)
>>> features = ConvFeatures(n_filters=8, kernel_size=3, random_state=0)
>>> model = make_pipeline(features, LogisticRegression()).fit(images, labels)
>>> model.predict(images[[0, -1]])
array(['vertical', 'horizontal'], dtype='<U10')

Needs scikit-learn 1.6 or later (``pip install "pycnn[sklearn]"``).
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from pycnn import _checks
from pycnn._patches import learn_filters
from pycnn.convolution import PackedFilters
from pycnn.layers import AvgPool2D, Conv2D, Flatten, MaxPool2D
from pycnn.numpycnn import random_filters
from pycnn.stage import conv_relu_pool

if TYPE_CHECKING:
    from typing import Any, Literal, Self, SupportsIndex

    from pycnn._typing import Activation, Array, ArrayLike, DType, Pair, Shape
    from pycnn.layers import Layer

__all__ = ["ConvFeatures", "learn_filters"]

# The most bytes that the feature maps of one batch may take; some activations need four times that.
_BATCH_BYTES = 2**24


def _grid(pixels: int, cells: int) -> tuple[int, int, int]:
    """(cells, size, stride) along an axis: cells of one size that cover all its pixels."""
    cells = min(cells, pixels)
    stride = pixels // cells
    return cells, pixels - (cells - 1) * stride, stride


def _as_rows(X: Any) -> tuple[Any, Shape | None]:
    """X with an image in a row, and the shape (H, W, C) of its images where it is a stack."""
    if isinstance(X, (list, tuple)):  # of images, perhaps
        X = np.asarray(X)
    if isinstance(X, np.ma.MaskedArray):  # scikit-learn would take what is below the mask
        X = _checks.as_array(X, "ConvFeatures", "X")
    shape: Shape = getattr(X, "shape", ())
    if len(shape) not in (3, 4):
        return X, None
    stacked = (*shape[1:3], math.prod(shape[3:]))
    stack = _checks.as_array(X, "ConvFeatures", "X")
    return stack.reshape(shape[0], math.prod(stacked)), stacked


def _compute_dtype(table: Array) -> DType:
    _checks.check_dtype(table.dtype, "ConvFeatures", "X")
    return _checks.compute_dtype(table.dtype, table.dtype, "ConvFeatures")


def _finite(array: Array, dtype: DType, name: str) -> Array:
    """Filters or biases in the dtype of the images."""
    with np.errstate(over="ignore"):
        converted = array.astype(dtype)
    if not np.isfinite(converted).all():
        raise ValueError(f"ConvFeatures: {name} has numbers that are not finite in {dtype}")
    return converted


class ConvFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Convolution features of images: filters, an activation and pooling over a grid.

    Each image is convolved with the filters, a bias is added, the activation applied, and every
    feature map pooled to a grid of `pool_grid` cells. The filters are learned in `fit`, without
    labels, or random, or given.

    Parameters
    ----------
    filters : {"kmeans", "random"} or array_like, shape (F, KH, KW) or (F, KH, KW, C)
        Learned from patches of the images by `learn_filters`; drawn by `pycnn.random_filters`; or
        these. Three dimensions are for grey images.
    bias : array_like, shape (F,), optional
        The bias of given filters; other filters have their own.
    n_filters : int, default 96
        How many filters to learn or draw.
    kernel_size : int or (int, int), default 6
        Height and width of these filters; an image smaller than that gets filters of its own size.
    image_shape : (int, int) or (int, int, int), optional
        Height and width, and channels if there are any, of the images that the rows of a table X
        hold. Not needed for stacks of images, nor for square grey images: a table whose
        ``n_features`` is a square number is read as those. Any other is read as images with a
        single row of pixels, with a warning.
    activation : {"relu", "leaky_relu", "sigmoid", "softmax", None}
        Applied to the feature maps before pooling.
    pool : {"max", "avg"}
        Take the largest value of a cell, or the mean.
    pool_grid : int or (int, int), default 4
        How many cells to pool a feature map to, vertically and horizontally; at most its pixels.
    n_patches : int, default 20_000
        How many patches to learn filters from.
    random_state : int, RandomState or None
        For the patches and for k-means, or for the random filters; an int gives the same features
        every time.

    Attributes
    ----------
    filters_ : ndarray, shape (F, KH, KW, C)
    bias_ : ndarray, shape (F,)
    image_shape_ : tuple of int
        Height, width and channels of an image.
    grid_shape_ : tuple of int
        Rows and columns of the grid, and F: one row of the result, reshaped to it, holds the pooled
        feature maps.
    n_features_in_ : int
        Numbers per image.
    feature_names_in_ : ndarray of str
        Names of the columns, where X has such.

    See Also
    --------
    learn_filters : The filters alone, for a network of your own.

    Notes
    -----
    An axis of a feature map with n pixels and g cells has cells of ``n - (g - 1) * (n // g)``
    pixels, one every ``n // g``: all of the map, by cells of one size that overlap where g does not
    divide n.

    float32 images give float32 features, and so do float16, bool and small integers; others give
    float64. Images are taken in batches, so that memory is needed for little more than the result.
    `transform` may be called from many threads.

    Filters from k-means absorb the scale of the pixels. With given or random filters, scale the
    images (say, to 0 to 1) for a linear model.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from pycnn.sklearn import ConvFeatures
    >>> pixels, labels = load_digits(return_X_y=True)
    >>> pixels.shape
    (1797, 64)
    >>> features = ConvFeatures(n_filters=32, kernel_size=3, pool_grid=3, random_state=0)
    >>> features.fit_transform(pixels).shape
    (1797, 288)
    >>> features.grid_shape_
    (3, 3, 32)
    """

    def __init__(
        self,
        filters: Literal["kmeans", "random"] | ArrayLike = "kmeans",
        *,
        bias: ArrayLike | None = None,
        n_filters: SupportsIndex = 96,
        kernel_size: Pair = 6,
        image_shape: tuple[int, ...] | None = None,
        activation: Activation = "relu",
        pool: Literal["max", "avg"] = "max",
        pool_grid: Pair = 4,
        n_patches: SupportsIndex = 20_000,
        random_state: Any = None,
    ) -> None:
        self.filters = filters
        self.bias = bias
        self.n_filters = n_filters
        self.kernel_size = kernel_size
        self.image_shape = image_shape
        self.activation = activation
        self.pool = pool
        self.pool_grid = pool_grid
        self.n_patches = n_patches
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn, draw or take the filters.

        Parameters
        ----------
        X : array_like, shape (N, H * W * C), (N, H, W) or (N, H, W, C)
            A table with one image in a row, or a stack of images.
        y : ignored

        Returns
        -------
        ConvFeatures
            Itself.

        Raises
        ------
        ValueError, TypeError
            Parameters out of range or of other types; images that do not fit `image_shape` or the
            filters; sparse or complex X, NaN or infinity.
        MemoryError
            As `learn_filters`.
        """
        self._check_choices()
        grid = _checks.pair(self.pool_grid, "ConvFeatures", "pool_grid")
        rows, stacked = _as_rows(X)
        table: Array = check_array(rows, dtype="numeric", estimator=self, input_name="X")
        dtype = _compute_dtype(table)
        image_shape = self._image_shape(table.shape[1], stacked)
        filters, bias = self._filters(table.reshape(len(table), *image_shape), dtype)
        maps = [n - k + 1 for n, k in zip(image_shape, filters.shape[1:3], strict=False)]
        cells, cell, stride = zip(*map(_grid, maps, grid), strict=True)
        # Nothing above has changed the transformer, so a fit that fails leaves the one before.
        validate_data(self, rows, skip_check_array=True)  # notes the names of the columns
        self.image_shape_: Shape = image_shape
        self.filters_, self.bias_ = filters, bias
        self._cell, self._stride = cell, stride
        self._maps_size = math.prod(maps) * len(filters)
        self.grid_shape_ = (*cells, len(filters))
        self._n_features_out = math.prod(self.grid_shape_)
        return self

    def transform(self, X: Any) -> Array:
        """Compute the features of images.

        Parameters
        ----------
        X : array_like, shape (N, H * W * C), (N, H, W) or (N, H, W, C)
            Images of the shape seen in `fit`.

        Returns
        -------
        ndarray, shape (N, rows * columns * F)
            The pooled feature maps of an image in a row, channels last.

        Raises
        ------
        ValueError, TypeError
            Images of another shape; sparse or complex X, NaN or infinity; float32 images where
            the filters, learned from float64 ones, are too large for them.
        sklearn.exceptions.NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        self._check_choices()
        rows, stacked = _as_rows(X)
        table: Array = validate_data(self, rows, reset=False, dtype="numeric")
        if stacked not in (None, self.image_shape_):
            raise ValueError(
                f"ConvFeatures: X has images of shape {stacked}; those seen in fit have "
                f"{self.image_shape_}"
            )
        dtype = _compute_dtype(table)
        images = table.reshape(len(table), *self.image_shape_)
        filters = PackedFilters(_finite(self.filters_, dtype, "filters_"))
        bias = _finite(self.bias_, dtype, "bias_")
        shape = (len(images), *self.grid_shape_)
        _checks.check_size(shape, dtype, "ConvFeatures")
        result = _checks.allocate(shape, dtype, "ConvFeatures")
        batch = max(_BATCH_BYTES // (self._maps_size * dtype.itemsize), 1)
        for start in range(0, len(images), batch):
            conv_relu_pool(
                images[start : start + batch],
                filters,
                bias,
                pool_size=self._cell,
                pool_stride=self._stride,
                pool=self.pool,
                activation=self.activation,
                out=result[start : start + batch],
            )
        return result.reshape(len(images), -1)

    def as_layers(self) -> list[Layer]:
        """Give the same features as layers of a network.

        Returns
        -------
        list of Layer
            `Conv2D`, a pool and `Flatten`, for images of the shape seen in `fit`; grey ones are
            ``(H, W)``.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.

        Examples
        --------
        >>> import numpy as np
        >>> import pycnn
        >>> images = np.random.default_rng(0).random((50, 12, 12), dtype=np.float32)
        >>> features = ConvFeatures(n_filters=8, random_state=0).fit(images)
        >>> network = pycnn.Sequential(features.as_layers(), input_shape=(12, 12))
        >>> bool(np.allclose(network.predict(images), features.transform(images)))
        True
        """
        check_is_fitted(self)
        self._check_choices()
        filters = self.filters_ if self.image_shape_[2] > 1 else self.filters_[..., 0]
        pool = MaxPool2D if self.pool == "max" else AvgPool2D
        return [
            Conv2D.from_arrays(filters, self.bias_, activation=self.activation),
            pool(self._cell, self._stride),
            Flatten(),
        ]

    def _check_choices(self) -> None:
        """Of what `transform` needs; it may have been set after `fit`."""
        _checks.choice(self.activation, _checks.ACTIVATIONS, "ConvFeatures", "activation")
        _checks.choice(self.pool, ("max", "avg"), "ConvFeatures", "pool")

    def _image_shape(self, n_features: int, stacked: Shape | None) -> Shape:
        """(H, W, C), as given, as stacked, or guessed for a table."""
        if self.image_shape is not None:
            given = self._given_shape()
            if stacked not in (None, given) or math.prod(given) != n_features:
                raise ValueError(
                    f"ConvFeatures: image_shape={self.image_shape!r} does not fit X, whose images "
                    f"have {f'shape {stacked}' if stacked else f'{n_features} features'}"
                )
            return given
        if stacked is not None:
            return stacked
        side = math.isqrt(n_features)
        if side * side == n_features:
            return side, side, 1
        warnings.warn(
            f"ConvFeatures: X has {n_features} features, not a square number, and is read as "
            f"images of 1 x {n_features} pixels; for others give image_shape=(height, width) or "
            "(height, width, channels)",
            stacklevel=3,
        )
        return 1, n_features, 1

    def _given_shape(self) -> Shape:
        """`image_shape` as (H, W, C)."""
        sizes = self.image_shape
        if not isinstance(sizes, (tuple, list)) or len(sizes) not in (2, 3):
            raise ValueError(
                f"ConvFeatures: image_shape={sizes!r} is not (height, width) or "
                "(height, width, channels)"
            )
        sizes = tuple(_checks.integer(n, "ConvFeatures", "image_shape", 1) for n in sizes)
        return (*sizes[:2], math.prod(sizes[2:]))

    def _filters(self, images: Array, dtype: DType) -> tuple[Array, Array]:
        """Filters (F, KH, KW, C) and bias (F,), learned, drawn or given."""
        func = "ConvFeatures"
        _, height, width, channels = images.shape
        if not isinstance(self.filters, str):
            return self._given_filters(images.shape[1:], dtype)
        _checks.choice(self.filters, ("kmeans", "random"), func, "filters")
        if self.bias is not None:
            raise ValueError(
                f"{func}: bias is for given filters; filters={self.filters!r} have their own"
            )
        n_filters = _checks.integer(self.n_filters, func, "n_filters", 1)
        window = _checks.pair(self.kernel_size, func, "kernel_size")
        window = (min(window[0], height), min(window[1], width))
        rng = check_random_state(self.random_state)
        if self.filters == "random":
            seed = rng.randint(2**31 - 1)
            filters = random_filters(n_filters, window, channels, seed=seed)
            return filters.astype(dtype), np.zeros(n_filters, dtype)
        return learn_filters(images, n_filters, window, n_patches=self.n_patches, random_state=rng)

    def _given_filters(self, image_shape: Shape, dtype: DType) -> tuple[Array, Array]:
        func = "ConvFeatures"
        filters = _checks.as_array(self.filters, func, "filters")
        if filters.ndim == 3:
            filters = filters[..., np.newaxis]
        if filters.ndim != 4 or 0 in filters.shape:
            raise ValueError(
                f"{func}: filters have shape {np.shape(self.filters)}; expected (F, KH, KW) or "
                "(F, KH, KW, C), none of them 0"
            )
        height, width, channels = image_shape
        if filters.shape[3] != channels or filters.shape[1] > height or filters.shape[2] > width:
            raise ValueError(
                f"{func}: filters of shape {filters.shape} do not fit images of shape {image_shape}"
            )
        bias = np.zeros(len(filters)) if self.bias is None else self.bias
        bias = _checks.as_array(bias, func, "bias")
        if bias.shape != filters.shape[:1]:
            raise ValueError(
                f"{func}: bias has shape {bias.shape}; expected one number per filter, "
                f"{filters.shape[:1]}"
            )
        return _finite(filters, dtype, "filters"), _finite(bias, dtype, "bias")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
