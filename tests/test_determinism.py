"""The same call gives the same bits: alone or in a batch, in any layout, into any ``out``."""

import numpy as np
import pytest
from comparing import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from strategies import LAYOUTS, OUT_LAYOUTS, conv_cases, out_like, plain, pool_cases

import pycnn

KEEPS_VALUES = [name for name in LAYOUTS if name != "zero stride"]


@given(conv_cases(), st.sampled_from([None, "sigmoid", "softmax"]))
def test_an_image_has_the_bits_it_has_in_a_batch(case, activation):
    x, filters, bias = case.args
    if x.ndim != 4:
        return
    batch = pycnn.conv2d(x, filters, bias, **case.kwargs, activation=activation)
    for image, expected in zip(x, batch, strict=True):
        alone = pycnn.conv2d(image, filters, bias, **case.kwargs, activation=activation)
        assert_same_bits(alone, expected)


@given(conv_cases(), st.data())
def test_layout_and_out_do_not_change_a_bit(case, data):
    x, filters, bias = case.plain_args()
    expected = pycnn.conv2d(x, filters, bias, **case.kwargs)
    assert_same_bits(pycnn.conv2d(x, filters, bias, **case.kwargs), expected)
    x, filters = (LAYOUTS[data.draw(st.sampled_from(KEEPS_VALUES))](a) for a in (x, filters))
    assert_same_bits(pycnn.conv2d(x, filters, bias, **case.kwargs), expected)
    out = out_like(expected, data.draw(st.sampled_from(OUT_LAYOUTS)))
    assert_same_bits(pycnn.conv2d(x, filters, bias, **case.kwargs, out=out), expected)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(pool_cases(dilated=False), st.sampled_from(["max_pool2d", "avg_pool2d"]))
def test_pools_do_not_depend_on_batch_or_layout(case, name):
    pool = getattr(pycnn, name)
    try:
        expected = pool(*case.plain_args(), **case.kwargs)
    except ValueError:
        return  # a window of padding only; test_pool.py holds the pools to that
    assert_same_bits(pool(*case.args, **case.kwargs), expected)
    if expected.ndim == 4:
        for image, alone in zip(plain(case.args[0]), expected, strict=True):
            assert_same_bits(pool(image, *case.args[1:], **case.kwargs), alone)


@pytest.mark.parametrize(
    ("height", "channels", "n_filters"), [(64, 1, 2), (40, 16, 33), (16, 64, 64)]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_large_batch_cut_anywhere(rng, height, channels, n_filters, dtype):
    x = rng.standard_normal((6, height, 50, channels)).astype(dtype)
    filters = rng.standard_normal((n_filters, 3, 3, channels)).astype(dtype)
    expected = pycnn.conv2d(x, filters, padding=1)
    for cut in range(1, 6):
        assert_same_bits(pycnn.conv2d(x[:cut], filters, padding=1), expected[:cut])
        assert_same_bits(pycnn.conv2d(x[cut:], filters, padding=1), expected[cut:])


def test_alignment_of_the_memory_does_not_change_a_bit(rng):
    image = rng.standard_normal((20, 33, 7)).astype(np.float32)
    filters = rng.standard_normal((19, 3, 3, 7)).astype(np.float32)
    expected = pycnn.conv2d(image, filters)
    memory = np.empty(image.size + 32, np.float32)
    for start in range(32):
        shifted = memory[start : start + image.size].reshape(image.shape)
        shifted[...] = image
        assert_same_bits(pycnn.conv2d(shifted, filters), expected)


@pytest.mark.parametrize("odd", [1.0, np.nan, np.inf, 3e38, 1e-44])
def test_one_odd_number_does_not_change_the_bits_of_other_images(rng, odd):
    """A number that needs another algorithm is seen alike with any cut of the work."""
    x = rng.standard_normal((3, 40, 50, 64)).astype(np.float32)
    filters = rng.standard_normal((48, 3, 3, 64)).astype(np.float32)
    x[1, 35, 20, 5] = odd
    expected = pycnn.conv2d(x, filters, padding=1)
    threads = pycnn.get_num_threads()
    try:
        for n in (1, 2, 3):
            pycnn.set_num_threads(n)
            assert_same_bits(pycnn.conv2d(x, filters, padding=1), expected)
            for image, alone in zip(x, expected, strict=True):
                assert_same_bits(pycnn.conv2d(image, filters, padding=1), alone)
    finally:
        pycnn.set_num_threads(threads)
    pooled = pycnn.conv_relu_pool(x, filters, padding=1)
    np.testing.assert_array_equal(pooled, pycnn.max_pool2d(pycnn.relu(expected), 2))
