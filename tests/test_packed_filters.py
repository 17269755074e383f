"""PackedFilters: filters that are arranged for the engine once give the bits of the plain ones."""

import copy
import pickle
import warnings
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


# ---- calls like the last one --------------------------------------------------------------------


@pytest.fixture
def called(rng):
    """(x, filters, packed, bias) after a call with them, which those below are like, or not."""
    x, bias = rng.random((9, 8, 4), np.float32), rng.random(6, np.float32)
    filters = rng.random((6, 3, 3, 4), np.float32)
    packed = pycnn.PackedFilters(filters)
    pycnn.conv2d(x, packed, bias)
    return x, filters, packed, bias


def refuse(*args, **kwargs):
    raise AssertionError("checked again")


@pytest.mark.parametrize("function", [pycnn.conv2d, pycnn.conv_relu_pool])
@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"stride": 2, "padding": "same", "activation": "relu"},
        {"stride": (1, 2), "padding": ((0, 1), (2, 0)), "activation": "leaky_relu"},
        {"precision": "high", "activation": None},
    ],
)
def test_a_call_like_the_last_one_is_not_checked(called, monkeypatch, function, kwargs):
    x, filters, packed, bias = called
    expected = [function(x, filters, b, **kwargs) for b in (bias, None)]
    function(x, packed, bias, **kwargs)
    for module in (pycnn.convolution, pycnn.stage):
        monkeypatch.setattr(module, "prepare", refuse)
    assert_same_bits(function(x, packed, bias, **kwargs), expected[0])
    assert_same_bits(function(x[::-1][::-1], packed, **kwargs), expected[1])
    out = np.empty_like(expected[0])
    assert function(x, packed, bias, **kwargs, out=out) is out
    assert_same_bits(out, expected[0])
    with pytest.raises(AssertionError, match="checked again"):
        function(x, packed, bias, **kwargs | {"stride": [1, 1]})


def test_what_is_remembered_is_what_was_checked(called, monkeypatch):
    """Though another thread gives the arrays another shape meanwhile."""
    x, filters, packed, _ = called
    out = np.empty((7, 6, 6), np.float32)
    convolve = pycnn.convolution._conv.conv2d

    def reshaping(*args):
        convolve(*args)
        x.shape, out.shape = (8, 9, 4), (6, 7, 6)

    with monkeypatch.context() as patch:
        patch.setattr(pycnn.convolution._conv, "conv2d", reshaping)
        patch.setattr(warnings, "filters", [("ignore", None, Warning, None, 0)])
        pycnn.conv2d(x, packed, stride=1, out=out)
    for image in (x, x.reshape(9, 8, 4)):
        assert_same_bits(pycnn.conv2d(image, packed), pycnn.conv2d(image, filters))


def test_other_inputs_are_not_taken_for_the_last_ones(rng, called):
    x, filters, packed, bias = called
    inputs = [
        x[::-1],
        x.astype(">f4"),
        x.astype(float),
        x[:, :6],
        x[None],
        x.tolist(),
        x.view(np.recarray),
        np.asfortranarray(x),
    ]
    biases = [None, bias[::-1], bias.astype(float), bias.tolist(), np.float32([np.nan] * 6)]
    for value in [x, *inputs]:
        for b in [bias, *biases]:
            for _ in range(2):
                assert_same_bits(pycnn.conv2d(value, packed, b), pycnn.conv2d(value, filters, b))


def test_other_options_are_not_taken_for_the_last_ones(called):
    x, filters, packed, bias = called
    growing = [1, 1]
    for kwargs in [
        {"stride": 2},
        {"stride": growing},
        {"padding": ((0, 1), (1, 0))},
        {"padding": "same"},
        {"dilation": 2},
        {"activation": "relu"},
        {"activation": "sigmoid"},
        {"precision": "high"},
    ]:
        for function in (pycnn.conv2d, pycnn.conv_relu_pool):
            for growing[1] in (1, 1, 2):
                expected = function(x, filters, bias, **kwargs)
                assert_same_bits(function(x, packed, bias, **kwargs), expected)
    stage = {"pool": "avg", "pool_size": 3, "pool_stride": 1, "activation": None}
    for kwargs in [{}, stage, stage | {"pool": "max"}, stage | {"pool_stride": 2}, {}]:
        expected = pycnn.conv_relu_pool(x, filters, bias, **kwargs)
        assert_same_bits(pycnn.conv_relu_pool(x, packed, bias, **kwargs), expected)


@pytest.mark.parametrize("function", [pycnn.conv2d, pycnn.conv_relu_pool])
def test_bad_calls_after_a_good_one_are_refused(called, function):
    x, _, packed, bias = called
    out = function(x, packed, bias)
    for error, arguments in [
        (TypeError, {"stride": True}),
        (TypeError, {"stride": 1.0}),
        (TypeError, {"groups": True}),
        (TypeError, {"out": out.astype(float)}),
        (TypeError, {"out": out.tolist()}),
        (ValueError, {"out": out[1:]}),
        (ValueError, {"bias": bias[1:]}),
        (ValueError, {"bias": bias[None]}),
        (TypeError, {"bias": bias.astype(complex)}),
        (ValueError, {"activation": "tanh"}),
        (ValueError, {"precision": "low"}),
        (TypeError, {"x": np.ma.masked_array(x, x > 0.5)}),
        (ValueError, {"x": x[..., :3]}),
    ]:
        function(x, packed, bias)
        with pytest.raises(error, match=function.__name__):
            function(**{"x": x, "filters": packed, "bias": bias} | arguments)


def test_out_of_a_repeated_call(called):
    x, filters, packed, bias = called
    expected = pycnn.conv2d(x, filters, bias)
    for strided in (np.empty_like(expected), np.empty((7, 12, 6), np.float32)[:, ::2]):
        assert pycnn.conv2d(x, packed, bias, out=strided) is strided
        assert_same_bits(np.ascontiguousarray(strided), expected)
    memory = np.zeros(x.size + 100, np.float32)
    overlapping, out = memory[: x.size].reshape(x.shape), memory[40 : 40 + expected.size]
    overlapping[...] = x
    assert_same_bits(
        pycnn.conv2d(overlapping, packed, bias, out=out.reshape(expected.shape)), expected
    )
