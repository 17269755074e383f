"""PackedFilters: filters that are arranged for the engine once give the bits of the plain ones."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from comparing import assert_helpful, assert_same_bits
from hypothesis import given
from strategies import conv_cases

import pycnn


@given(conv_cases(work=100_000))
def test_same_bits_as_the_array(case):
    x, filters, bias = case.args
    packed = pycnn.PackedFilters(filters)
    expected = pycnn.conv2d(x, filters, bias, **case.kwargs)
    for _ in range(2):
        assert_same_bits(pycnn.conv2d(x, packed, bias, **case.kwargs), expected)
    if 0 not in expected.shape and min(expected.shape[-3:-1]) > 1:
        assert_same_bits(
            pycnn.conv_relu_pool(x, packed, bias, **case.kwargs),
            pycnn.conv_relu_pool(x, filters, bias, **case.kwargs),
        )


def test_one_packing_serves_every_geometry_and_dtype(rng):
    filters = rng.integers(-9, 10, (6, 3, 3, 4)).astype(np.float32)
    packed = pycnn.PackedFilters(filters)
    for dtype in (np.float32, np.float64, np.uint8, np.float32):
        for shape in [(9, 8, 4), (3, 3, 4), (2, 30, 40, 4)]:
            x = rng.integers(0, 9, shape).astype(dtype)
            for kwargs in ({}, {"padding": 2, "stride": 3}, {"activation": "relu"}):
                actual = pycnn.conv2d(x, packed, **kwargs)
                assert_same_bits(actual, pycnn.conv2d(x, filters, **kwargs))
    grouped = rng.integers(0, 9, (9, 8, 8)).astype(np.float32)
    assert_same_bits(
        pycnn.conv2d(grouped, packed, groups=2), pycnn.conv2d(grouped, filters, groups=2)
    )


def test_the_filters_are_copied_and_read_only(rng):
    filters = rng.random((6, 3, 3, 4))
    before = filters.copy()
    packed = pycnn.PackedFilters(filters)
    filters[:] = 0
    np.testing.assert_array_equal(packed.array, before)
    x = rng.random((9, 8, 4))
    assert_same_bits(pycnn.conv2d(x, packed), pycnn.conv2d(x, before))
    with pytest.raises(ValueError, match="read-only"):
        packed.array[0] = 1


def test_attributes_and_repr():
    packed = pycnn.PackedFilters(np.ones((2, 3, 5), np.float32))
    assert packed.shape == (2, 3, 5)
    assert packed.dtype == np.float32
    assert repr(packed) == "PackedFilters(shape=(2, 3, 5), dtype=float32)"


def test_copies_and_pickles_work(rng):
    x, packed = rng.random((9, 8, 4)), pycnn.PackedFilters(rng.random((6, 3, 3, 4)))
    expected = pycnn.conv2d(x, packed)
    for again in (copy.copy(packed), copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert_same_bits(pycnn.conv2d(x, again), expected)


def test_threads_may_share_it(rng):
    images = rng.random((16, 30, 31, 8), np.float32)
    filters = rng.random((40, 3, 3, 8), np.float32)
    expected = pycnn.conv2d(images, filters)
    for _ in range(20):
        packed = pycnn.PackedFilters(filters)
        with ThreadPoolExecutor(8) as pool:
            maps = list(pool.map(lambda image, p=packed: pycnn.conv2d(image, p), images))
        assert_same_bits(np.stack(maps), expected)


@pytest.mark.parametrize("wrong", [np.ones((2, 3, 3), complex), "filters", None])
def test_wrong_dtypes_are_refused(wrong):
    with pytest.raises(TypeError) as info:
        pycnn.PackedFilters(wrong)
    assert_helpful(info, "PackedFilters", "filters", "dtype")


def test_shapes_are_checked_by_the_call():
    with pytest.raises(ValueError) as info:
        pycnn.conv2d(np.ones((9, 8, 4)), pycnn.PackedFilters(np.ones((2, 3, 3, 3))))
    assert_helpful(info, "conv2d", "4 channels", "expect 3")
