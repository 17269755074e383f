"""Splits, and logistic regression as one dense layer."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pycnn import _training
from pycnn._files import Problem


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_the_dense_layer_is_the_regression_on_standardised_features(rng, n_classes):
    labels = np.arange(210) % n_classes
    features = rng.standard_normal((210, 12)) + 0.5 * rng.standard_normal((n_classes, 12))[labels]
    features = (features * np.geomspace(0.5, 5, 12) + 3).astype(np.float32)
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    expected.fit(features, labels)
    dense = _training.softmax_regression(features, labels)
    assert (dense.weights.shape, dense.weights.dtype) == ((12, n_classes), np.float32)
    np.testing.assert_allclose(dense(features), expected.predict_proba(features), atol=1e-3)


def test_features_that_hardly_vary_weigh_nothing(rng):
    labels = np.arange(100) % 2
    features = rng.standard_normal((100, 4)).astype(np.float32)
    features[:, 0] = 7
    features[:, 1] = np.float32(3) + labels * np.float32(2**-22)  # one unit in the last place
    weights = _training.softmax_regression(features, labels).weights
    assert (weights[0] == 0).all()
    assert abs(weights[1]).max() < 1e-2
    blank = _training.softmax_regression(np.ones((100, 4), np.float32), labels)
    np.testing.assert_allclose(blank(np.ones(4, np.float32)), 0.5, atol=1e-6)


def test_small_images_get_smaller_filters(rng):
    sizes = {
        side: _training.feature_extractor(rng.random((30, side, 40)), 4, 0).filters_.shape[1:3]
        for side in (1, 2, 8, 15, 16, 32)
    }
    assert sizes == {1: (1, 3), 2: (2, 3), 8: (3, 3), 15: (3, 3), 16: (5, 5), 32: (5, 5)}


def test_a_split_takes_the_same_part_of_each_class():
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    learn, test = _training.split(labels, list("abc"), 0.2, 0)
    assert sorted([*learn, *test]) == list(range(160))
    np.testing.assert_array_equal(np.bincount(labels[test]), [20, 10, 2])
    again = _training.split(labels, list("abc"), 0.2, 0)
    np.testing.assert_array_equal(again[1], test)
    assert (_training.split(labels, list("abc"), 0.2, 1)[1] != test).any()


@pytest.mark.parametrize(
    ("counts", "test_size", "sentence"),
    [
        ([1, 9], 0.2, "with --test-size 0.2 the 10 pictures are 8 to learn from and 2 to test"),
        ([2, 2], 0.2, "with --test-size 0.2 the 4 pictures are 3 to learn from and 1 to test with"),
        ([9, 9], 1e-300, "the 18 pictures are 17 to learn from .* each of the 2 classes needs one"),
        ([9, 9], 1 - 1e-9, "the 18 pictures are 0 to learn from and 18 to test with"),
        ([2, 98], 0.1, "the class 'a' has no picture to test with"),
        ([2, 98], 0.9, "the class 'a' has no picture to learn from"),
    ],
)
def test_splits_that_leave_a_class_without_pictures(counts, test_size, sentence):
    with pytest.raises(Problem, match=sentence):
        _training.split(np.repeat([0, 1], counts), ["a", "b"], test_size, 0)
