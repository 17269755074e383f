"""Whole numbers, compared for equality.

Where every partial sum is a whole number below 2**24, float32 holds it exactly, and then the order
of the sum does not matter. A wrong tap, a lost tail or a product in too short a format shows as a
difference of at least one; a tolerance would hide it. The sizes run over every remainder of the
number of filters, channels and pixels modulo the tiles of the engine (14 pixels, 32 filters, 64
channels and less).
"""

import numpy as np
import pytest

import pycnn
from pycnn import _reference as reference

KERNELS = [(1, 1), (3, 3), (2, 5)]
DTYPES = ["float32", "float64"]
SIZES = range(1, 67)


def check(rng, dtype, shape, filters_shape, **kwargs):
    """Compare one convolution of whole numbers, bias included."""
    x = rng.integers(-9, 10, shape).astype(dtype)
    filters = rng.integers(-9, 10, filters_shape).astype(dtype)
    bias = rng.integers(-99, 100, filters_shape[0]).astype(dtype)
    assert 81 * filters[0].size + 99 < 2**24
    expected = reference.conv2d(x, filters, bias, **kwargs)
    actual = pycnn.conv2d(x, filters, bias, **kwargs)
    assert actual.dtype == dtype
    np.testing.assert_array_equal(actual, expected, f"{shape} {filters_shape} {kwargs}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_number_of_filters(rng, kernel, dtype):
    for n in SIZES:
        for channels in (1, 3, 16):
            check(rng, dtype, (5, 19, channels), (n, *kernel, channels))
        check(rng, dtype, (5, 19), (n, *kernel))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_every_number_of_channels(rng, kernel, dtype):
    for n in SIZES:
        for n_filters in (1, 5, 33):
            check(rng, dtype, (4, 17, n), (n_filters, *kernel, n))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("stride", [1, 2])
def test_every_width(rng, kernel, dtype, stride):
    for width in range(kernel[1], 67):
        for channels, n_filters in [(1, 1), (1, 2), (3, 4), (4, 32), (17, 34)]:
            shape = (kernel[0] + 2, width, channels)
            check(rng, dtype, shape, (n_filters, *kernel, channels), stride=stride)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", ["same", "full", ((3, 0), (0, 4))])
def test_every_width_with_padding(rng, dtype, padding):
    for width in range(1, 50):
        for channels, n_filters, stride in [(1, 1, 1), (1, 3, 2), (3, 4, 3), (8, 32, 1)]:
            kwargs = {"padding": padding, "stride": stride}
            check(rng, dtype, (3, width + 2, channels), (n_filters, 3, 3, channels), **kwargs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_filters", range(1, 13))
def test_few_filters_over_many_channels(rng, dtype, n_filters):
    for channels in range(9, 67, 5):
        kwargs = {"padding": ("valid", "same")[channels % 2], "stride": (1, 1 + channels % 3)}
        for width in (3, 4, 6, 9, 19, 40):
            check(rng, dtype, (4, width, channels), (n_filters, 3, 3, channels), **kwargs)
        check(rng, dtype, (5, 7, channels), (n_filters, 1, 1, channels))
        check(rng, dtype, (2, 12, 9, 2 * channels), (2 * n_filters, 3, 2, channels), groups=2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_height(rng, dtype):
    for height in range(3, 40):
        for channels, n_filters in [(1, 2), (6, 33)]:
            check(rng, dtype, (height, 9, channels), (n_filters, 3, 3, channels), padding=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("multiplier", [1, 2, 3])
def test_every_number_of_depthwise_channels(rng, dtype, multiplier):
    for n in SIZES:
        check(rng, dtype, (5, 17, n), (multiplier * n, 3, 3, 1), groups=n, padding=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("size", "dilation"), [(2, 1), (3, 2), (7, 1)])
def test_every_number_of_depthwise_channels_tap_by_tap(rng, dtype, size, dilation):
    for n in SIZES[::3]:
        kwargs = {"groups": n, "padding": 2, "dilation": dilation}
        check(rng, dtype, (7, 9, n), (n, size, size, 1), **kwargs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [128, 256, 512])
def test_depthwise_channels_that_share_a_place_in_the_cache(rng, dtype, n):
    """Rows are copied first at stride 1; pairs of vectors at stride 2."""
    for size in (3, 5):
        for stride, padding in [(1, "same"), (2, 1), ((2, 1), ((3, 0), (0, 4)))]:
            for height, width in [(5, 5), (6, 7), (9, 16)]:
                kwargs = {"groups": n, "stride": stride, "padding": padding}
                check(rng, dtype, (2, height, width, n), (n, size, size, 1), **kwargs)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("groups", [2, 3])
def test_every_number_of_channels_and_filters_in_a_group(rng, dtype, groups):
    for n in range(1, 35):
        check(rng, dtype, (4, 9, groups * n), (groups * 5, 3, 3, n), groups=groups)
        check(rng, dtype, (4, 9, groups * 5), (groups * n, 3, 3, 5), groups=groups)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mixed_sizes(rng, dtype):
    for _ in range(150):
        channels, n_filters, width = rng.integers(1, 80, 3)
        kernel = rng.integers(1, 4, 2)
        check(
            rng,
            dtype,
            (2, 4, width + 6, channels),
            (n_filters, *kernel, channels),
            stride=(1, int(rng.integers(1, 4))),
            dilation=(1, int(rng.integers(1, 4))),
            padding=(0, int(rng.integers(0, 4))),
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_long_sum(rng, dtype):
    """512 channels of 3 x 3: the deepest layer of a common network."""
    check(rng, dtype, (5, 7, 512), (35, 3, 3, 512), padding=1)


@pytest.mark.parametrize("channels", [2, 33, 64, 128])
def test_every_one_of_24_bits_comes_through(rng, channels):
    """Numbers of 24 bits times one: a shorter format, or two of its parts, would lose the last."""
    x = rng.integers(-(2**24) + 1, 2**24, (12, 30, channels)).astype(np.float32)
    filters = np.zeros((40, 1, 1, channels), np.float32)
    chosen = np.arange(40) % channels
    filters[np.arange(40), 0, 0, chosen] = 1
    np.testing.assert_array_equal(pycnn.conv2d(x, filters), x[:, :, chosen])
    turned = x[:1, :40, :1].reshape(-1, 1, 1, 1) * np.ones((1, 1, 1, channels), np.float32)
    ones = np.zeros((5, 6, channels), np.float32)
    ones[:, :, -1] = 1
    expected = np.broadcast_to(turned[:, 0, 0, 0], (5, 6, len(turned)))
    np.testing.assert_array_equal(pycnn.conv2d(ones, turned), expected)


@pytest.mark.parametrize("channels", [4, 16, 64, 256])
def test_sums_just_below_the_limit(rng, channels):
    """Products of up to 23 bits and sums of sizes up to 2**24, positive, negative and mixed."""
    high = int((2**24 / channels) ** 0.5)
    for low, sign in [(high - 12, 1), (high - 12, -1), (high // 2, None), (1, None)]:
        x = rng.integers(max(low, 1), high + 1, (9, 17, channels))
        filters = rng.integers(max(low, 1), high + 1, (40, 1, 1, channels))
        x = x * (sign if sign is not None else rng.choice([-1, 1], x.shape))
        expected = reference.conv2d(x.astype(np.float32), filters.astype(np.float32))
        actual = pycnn.conv2d(x.astype(np.float32), filters.astype(np.float32))
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32", "float64"])
def test_pools_at_every_size(rng, dtype):
    for n in SIZES:
        for shape in [(5, n + 2, 1), (5, n + 2, 3), (4, 5, n)]:
            # A window of 2 x 2: the average of whole numbers is exact as well.
            x = rng.integers(0, 100, shape).astype(dtype)
            for stride in (1, 2):
                np.testing.assert_array_equal(
                    pycnn.max_pool2d(x, 2, stride), reference.max_pool2d(x, 2, stride)
                )
                np.testing.assert_array_equal(
                    pycnn.avg_pool2d(x, 2, stride), reference.avg_pool2d(x, 2, stride)
                )
            np.testing.assert_array_equal(
                pycnn.max_pool2d(x, 3, 2, padding=1), reference.max_pool2d(x, 3, 2, padding=1)
            )
