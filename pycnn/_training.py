"""Networks that tell pictures apart: filters learned without labels, then logistic regression."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from pycnn._files import Problem
from pycnn.layers import Dense
from pycnn.sklearn import ConvFeatures

if TYPE_CHECKING:
    from pycnn._typing import Array

__all__ = ["feature_extractor", "softmax_regression", "split"]


def split(labels: Array, classes: list[str], test_size: float, seed: int) -> tuple[Array, Array]:
    """Hold out some samples of each class.

    Parameters
    ----------
    labels : numpy.ndarray of int, shape (N,)
        The classes of the samples, as indices.
    classes : list of str
    test_size : float
        The fraction of the samples to hold out.
    seed : int

    Returns
    -------
    tuple of numpy.ndarray of int
        The indices of the samples to learn from, and of those held out.

    Raises
    ------
    Problem
        If a class would have none on one of the two sides.
    """
    n, counts = len(labels), np.bincount(labels)
    held_out = math.ceil(test_size * n)
    if counts.min() < 2 or not len(counts) <= held_out <= n - len(counts):
        raise Problem(
            f"with --test-size {test_size} the {n:,} pictures are {n - held_out:,} to learn from "
            f"and {held_out:,} to test with; each of the {len(counts):,} classes needs one or more "
            "on both sides"
        )
    learn, test = train_test_split(
        np.arange(n), test_size=test_size, random_state=seed, stratify=labels
    )
    for side, missing in (
        ("learn from", set(labels) - set(labels[learn])),
        ("test with", set(labels) - set(labels[test])),
    ):
        if missing:
            raise Problem(
                f"with --test-size {test_size} the class {classes[min(missing)]!r} has no picture "
                f"to {side}"
            )
    return learn, test


def feature_extractor(images: Array, n_filters: int, seed: int) -> ConvFeatures:
    """Learn filters from images.

    Parameters
    ----------
    images : numpy.ndarray, shape (N, H, W) or (N, H, W, C)
    n_filters : int
    seed : int

    Returns
    -------
    ConvFeatures
        Of 5 x 5 filters, or 3 x 3 for images of less than 16 pixels a side.
    """
    kernel_size = 5 if min(images.shape[1:3]) >= 16 else 3
    extractor = ConvFeatures(n_filters=n_filters, kernel_size=kernel_size, random_state=seed)
    return extractor.fit(images)


def softmax_regression(features: Array, labels: Array) -> Dense:
    """Learn a dense layer that gives the probability of each class.

    Parameters
    ----------
    features : numpy.ndarray, shape (N, n)
    labels : numpy.ndarray of int, shape (N,)
        0 to K - 1, each of them at least once.

    Returns
    -------
    Dense
        With n inputs and K outputs: the logistic regression and, multiplied into its weights, the
        standardisation of the features, ``((x - mean) / scale) @ w + b``.
    """
    # Features that hardly vary would be divided by their rounding errors.
    mean, scale = features.mean(axis=0), np.hypot(features.std(axis=0), 0.01 * features.std())
    scale[scale == 0] = 1
    # A weaker penalty (the default is C=1) learns the noise of so many features.
    standard = features - mean
    standard /= scale
    regression = LogisticRegression(C=0.1, max_iter=1000).fit(standard, labels)
    weights, bias = regression.coef_.T, regression.intercept_
    if weights.shape[1] == 1:  # two classes: softmax of (0, z) is the sigmoid of z
        weights, bias = np.pad(weights, ((0, 0), (1, 0))), np.pad(bias, (1, 0))
    weights = weights / scale[:, np.newaxis]
    return Dense.from_arrays(weights, bias - mean @ weights, activation="softmax")
