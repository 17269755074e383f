"""The comparisons of the tests fail where they should."""

import numpy as np
import pytest
from comparing import assert_helpful, assert_same_bits, assert_within

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize(
    ("actual", "expected", "bound"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.4),
        ([1.0, 2.0], [1.0, 2.5], [1.0, 0.4]),
        ([1.0], [1.0, 1.0], 9.0),
        ([NAN], [1.0], INF),
        ([1.0], [NAN], INF),
        ([INF], [1.0], INF),
        ([INF], [-INF], INF),
        ([1.0], [2.0], NAN),
        ([[1.0]], [1.0], 9.0),
    ],
)
def test_assert_within_fails(actual, expected, bound):
    with pytest.raises(AssertionError):
        assert_within(np.array(actual), np.array(expected), np.array(bound))


def test_assert_within_passes():
    actual = np.array([1, NAN, INF, -INF, 2], np.float32)
    assert_within(actual, np.array([1.5, NAN, INF, -INF, 2]), np.array([0.5, 0, INF, NAN, 0]))


@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (np.array([0.0]), np.array([-0.0])),
        (np.array([1.0]), np.array([np.nextafter(1, 2)])),
        (np.array([1.0]), np.array([1.0], np.float32)),
        (np.array([1.0]), np.array([[1.0]])),
        (np.array([NAN]), np.array([1.0])),
    ],
)
def test_assert_same_bits_fails(actual, expected):
    assert_same_bits(actual, actual[::-1])
    with pytest.raises(AssertionError):
        assert_same_bits(actual, expected)


def test_assert_helpful_wants_the_function_and_every_word():
    error = ValueError("conv2d: stride=0 must be at least 1")
    assert_helpful(error, "conv2d", "stride", 0)
    for function, words in [("conv", []), ("conv2d", ["dilation"]), ("conv2d", [5])]:
        with pytest.raises(AssertionError):
            assert_helpful(error, function, *words)
