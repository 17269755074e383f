"""Calls that once crashed, hung or were wrong, and belong to no other file."""

import numpy as np
import pytest
from children import run_well

import pycnn
from pycnn import _reference

STAGES = [
    ((6, 5, 64), (16, 1, 1, 64), {}),
    ((6, 7, 32), (32, 3, 3, 32), {}),
    ((7, 7, 32), (64, 4, 3, 32), {}),
    ((10, 3, 64), (16, 1, 1, 64), {}),
    ((9, 5, 64), (64, 1, 1, 64), {"pool_size": 4}),
    ((21, 17, 64), (512, 1, 1, 64), {"stride": 4}),
    (
        (4, 11, 8),
        (33, 2, 5, 8),
        {"stride": (1, 2), "padding": "same", "pool_size": (4, 1), "pool_stride": (3, 4)},
    ),
]


@pytest.mark.parametrize(("x", "filters", "kwargs"), STAGES)
def test_a_stage_narrower_than_the_map(rng, x, filters, kwargs):
    """A block may need a larger band of the matrix unit than the whole map does."""
    x = rng.integers(-4, 5, x).astype(np.float32)
    filters = rng.integers(-4, 5, filters).astype(np.float32)
    for _ in range(30):
        y = pycnn.conv_relu_pool(x, filters, **kwargs)
    np.testing.assert_array_equal(y, _reference.conv_relu_pool(x, filters, **kwargs))


@pytest.mark.parametrize("stride", [10**6, 2**36, 2**62])
def test_a_stride_that_is_never_taken(rng, stride):
    x = rng.integers(-4, 5, (8, 8, 64)).astype(np.float32)
    filters = rng.integers(-4, 5, (16, 3, 3, 64)).astype(np.float32)
    expected = _reference.conv2d(x, filters)[:, :1]
    np.testing.assert_array_equal(pycnn.conv2d(x, filters, stride=(1, stride)), expected)


def test_no_channels_under_a_huge_kernel():
    x, filters = np.zeros((2**31, 2**29, 0), "f4"), np.zeros((1, 2**31, 2**29, 0), "f4")
    assert pycnn.conv2d(x, filters, [3.0]).tolist() == [[[3.0]]]
    assert pycnn.conv2d(x, filters, [-3.0], activation="relu").tolist() == [[[0.0]]]


CHANGES = """
import numpy as np, pycnn
x = np.ones((3000, 3000), "f4")
class Bias:
    def __array__(self, dtype=None, copy=None):
        x.dtype = np.float64
        return np.zeros(4, "f4")
try:
    y = pycnn.conv2d(x, np.ones((4, 3, 3), "f4"), Bias())
except ValueError:
    pass
else:
    assert y.shape == (2998, 1498, 4)
"""


def test_an_array_that_changes_while_arguments_are_converted():
    run_well("-c", CHANGES)


@pytest.mark.parametrize("name", ["array", "shape", "dtype"])
def test_packed_filters_cannot_be_changed(name):
    packed = pycnn.PackedFilters(np.ones((4, 3, 3), "f4"))
    with pytest.raises(AttributeError):
        setattr(packed, name, getattr(packed, name))
    with pytest.raises(ValueError, match="WRITEABLE"):
        packed.array.flags.writeable = True
    with pytest.raises(ValueError, match="own"):
        packed.array.resize((1,), refcheck=False)


def test_a_wide_image_takes_little_scratch():
    """One row of it would not fit a band of the matrix unit."""
    x = np.zeros((3, 30000, 64), "f4")
    filters = pycnn.PackedFilters(np.ones((64, 3, 3, 64), "f4"))
    x[1, ::977, 5] = 1
    assert pycnn.conv2d(x, filters).sum() == 64 * (3 * len(x[1, ::977]) - 2)


@pytest.mark.parametrize("rows", [1, 400])
def test_all_windows_miss_the_same_columns(rng, rows):
    """Their filters are copied without those columns, into room that must be there."""
    x = rng.integers(-4, 5, (rows, 32, 2)).astype(np.float32)
    filters = rng.integers(-4, 5, (2, rows, 2, 2)).astype(np.float32)
    expected = _reference.conv2d(x, filters[:, :, 1:])
    for _ in range(30):
        y = pycnn.conv2d(x, filters, dilation=(1, 32), padding=((0, 0), (32, 0)))
    np.testing.assert_array_equal(y, expected)
