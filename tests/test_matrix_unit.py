"""Layers that the matrix unit takes where there is one: each promise, for any shape and number.

The other levels compute the same layers by other algorithms, and keep the same promises.
"""

import numpy as np
import pytest
from comparing import assert_same_bits, assert_within
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import LAYOUTS, numbers, poison

import pycnn
from pycnn import _conv, config
from pycnn import _reference as reference

HAS_MATRIX_UNIT = config.get_config()["cpu"]["level"] == "amx"
PRECISIONS = ["highest", "high", "medium"]
KEEPS_VALUES = [name for name in LAYOUTS if name != "zero stride"]
U = 2.0**-24


class Layer:
    """The arrays and keywords of a convolution."""

    def __init__(self, x, filters, bias, **kwargs):
        self.x, self.filters, self.bias, self.kwargs = x, filters, bias, kwargs

    def __repr__(self):
        return f"Layer({self.x.shape}, {self.filters.shape}, {self.kwargs})"

    def __call__(self, function=pycnn.conv2d, x=None, filters=None, **kwargs):
        x = self.x if x is None else x
        filters = self.filters if filters is None else filters
        return function(x, filters, self.bias, **self.kwargs, **kwargs)

    def algorithm(self, precision="highest"):
        return algorithm(self.x.shape, self.filters.shape, precision=precision, **self.kwargs)


def algorithm(image, filters, stride, padding, precision):
    """What computes these shapes, (N, H, W, C) and (F, KH, KW, C)."""
    out = tuple(
        (size + sum(p) - k) // s + 1
        for size, p, k, s in zip(image[1:3], padding, filters[1:3], stride, strict=True)
    )
    before = tuple(p[0] for p in padding)
    f4 = np.dtype(np.float32).num
    plan = _conv.ConvPlan(f4, image, filters, out, stride, before, (1, 1), 1, precision)
    return plan.algorithm


def exponents(rng, shape, low, high):
    """Return floats of 24 random bits, either sign and exponents from `low` to `high`."""
    values = rng.integers(2**23, 2**24, shape) * rng.choice([-1.0, 1.0], shape)
    return np.ldexp(values, rng.integers(low, high + 1, shape) - 23).astype(np.float32)


@st.composite
def layers(draw, kinds=("normal", "whole", "zeros", "wide", "any", "small", "large")):
    """Return layers of at least 16 filters, of one group and without dilation.

    Most are large enough for the matrix unit to pay, half of these with few channels.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    few = draw(st.booleans())
    if few:
        kernel = draw(st.integers(3, 5)), draw(st.integers(2, 6))
        channels = draw(st.integers(3, 22))
    else:
        channels = draw(st.integers(1, 96) | st.sampled_from([64, 96]))
    n_filters = draw(st.integers(16, 70) | st.integers(49, 100) | st.integers(65, 110))
    pads = tuple((draw(st.integers(0, k - 1)), draw(st.integers(0, k - 1))) for k in kernel)
    # Hypothesis likes what is small.
    sizes = [
        draw(st.integers(max(1, k - sum(p)), 24) | st.integers(9, 24).map(lambda size: 33 - size))
        for k, p in zip(kernel, pads, strict=True)
    ]
    shapes = (draw(st.integers(1, 3)), *sizes, channels), (n_filters, *kernel, channels)
    kind = draw(st.sampled_from(kinds))
    if kind == "any":  # from the smallest subnormal on
        x, filters = (exponents(rng, shape, -149, 55) for shape in shapes)
    elif kind in ("small", "large"):  # at either end of what bfloat16 parts can hold
        total = draw(st.integers(-106, -90) if kind == "small" else st.integers(95, 105))
        of_x = draw(st.integers(max(-110, total - 110), min(110, total + 110)))
        x, filters = (
            exponents(rng, shape, e, e + draw(st.integers(0, 4)))
            for shape, e in zip(shapes, (of_x, total - of_x), strict=True)
        )
        x[rng.random(x.shape) < 0.3] = 0
    else:
        x = numbers(rng, shapes[0], np.float32, kind)
        filters = numbers(rng, shapes[1], np.float32, draw(st.sampled_from(["normal", kind])))
    bias = numbers(rng, (n_filters,), np.float32) if draw(st.booleans()) else None
    of_strides = st.sampled_from([1, 1, 1, 1, 2] if few else [1, 1, 2, 3])
    strides = draw(of_strides), draw(of_strides)
    return Layer(x, filters, bias, stride=strides, padding=pads)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_matrix_unit_takes_them(precision):
    for kernel, channels in [((1, 1), 64), ((3, 3), 24), ((2, 5), 12), ((4, 4), 32), ((3, 3), 64)]:
        size = 40 if channels < 64 or kernel == (1, 1) else 9
        x = np.empty((1, size, size, channels), np.float32)
        filters = np.empty((64, *kernel, channels), np.float32)
        layer = Layer(x, filters, None, stride=(2, 1), padding=((0, 0), (0, 0)))
        assert layer.algorithm(precision) == ("amx" if HAS_MATRIX_UNIT else "direct")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("kernel", "channels", "n_filters", "sooner"),
    [
        (7, 3, 64, PRECISIONS),
        (3, 3, 64, ["high", "medium"]),
        (1, 64, 16, ["medium"]),
        (5, 3, 16, ["medium"]),
        (3, 3, 16, []),
    ],
)
def test_it_takes_what_it_computes_sooner(precision, kernel, channels, n_filters, sooner):
    """The fewer the filters, the less the splitting of the image pays."""
    x = np.empty((1, 40, 40, channels), np.float32)
    filters = np.empty((n_filters, kernel, kernel, channels), np.float32)
    layer = Layer(x, filters, None, stride=(1, 1), padding=((0, 0), (0, 0)))
    takes = HAS_MATRIX_UNIT and precision in sooner
    assert (layer.algorithm(precision) == "amx") == takes


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("image", "filters", "stride"),
    [
        # Images and results of less than 2**63 bytes: larger ones are refused before.
        ((1, 2**43, 1), (16, 1, 2**20, 1), (1, 1)),
        ((8, 2**55, 1), (16, 4, 64, 1), (4, 1)),
        ((8, 2**50, 32), (64, 3, 3, 32), (1, 1)),
        ((2**17, 2**43, 1), (16, 2**17, 1, 1), (1, 1)),
        ((1, 2**40, 1), (16, 1, 2**30, 1), (1, 1)),
        ((2**29, 2**29, 6), (64, 2**28, 3, 6), (1, 2**28)),
        ((9, 2**55, 3), (64, 7, 7, 3), (2, 2**54)),
    ],
)
def test_layers_too_large_to_plan_for_it_are_left_to_others(image, filters, stride, precision):
    assert algorithm((1, *image), filters, stride, ((0, 0), (0, 0)), precision) != "amx"


@given(layers(), st.sampled_from(PRECISIONS))
def test_every_precision_keeps_its_bound(layer, precision):
    algorithm = layer.algorithm(precision)
    assume(algorithm != "winograd")  # test_precision.py has its bound
    bound = layer(reference.conv2d_bound)
    if algorithm == "amx" and precision != "highest":
        sizes = (np.abs(a).astype(float) for a in (layer.x, layer.filters))
        sums = reference.conv2d(*sizes, **layer.kwargs)
        sums = sums if layer.bias is None else sums + np.abs(layer.bias)
        k = layer.filters[0].size
        roundings = 3 * k + 16 if precision == "high" else k + 16
        lost = 2**-15 if precision == "high" else 2**-7 + 2**-16
        bound = np.maximum(bound, (lost + roundings * U / (1 - roundings * U)) * sums)
    assert_within(layer(precision=precision), layer(reference.conv2d), bound)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(layers(), st.sampled_from(PRECISIONS), st.integers(0, 3))
def test_nan_and_infinity_stay_in_their_windows(layer, precision, count):
    rng = np.random.default_rng(count)
    clean = layer(precision=precision)
    poison(rng, layer.x, count)
    actual, expected = layer(precision=precision), layer(reference.conv2d)
    np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))
    np.testing.assert_array_equal(actual[np.isinf(actual)], expected[np.isinf(expected)])
    for image, y, before in zip(layer.x, actual, clean, strict=True):
        if np.isfinite(image).all():
            assert_same_bits(y, before)


@given(layers(), st.sampled_from(PRECISIONS), st.sampled_from([0.5, np.nan, 1e-41]), st.data())
def test_nothing_else_changes_a_bit(layer, precision, odd, data):
    """Alone or in a batch, any number of threads, any memory, packed filters."""
    layer.x[-1].flat[data.draw(st.integers(0, layer.x[-1].size - 1))] = odd
    with config.threads(1):
        expected = layer(precision=precision)
    change_x, change_filters = (LAYOUTS[data.draw(st.sampled_from(KEEPS_VALUES))] for _ in range(2))
    with config.threads(data.draw(st.integers(2, 5))):
        actual = layer(
            x=change_x(layer.x), filters=change_filters(layer.filters), precision=precision
        )
        assert_same_bits(actual, expected)
        packed = pycnn.PackedFilters(layer.filters)
        for image, alone in zip(layer.x, expected, strict=True):
            assert_same_bits(layer(x=image, filters=packed, precision=precision), alone)


@given(
    layers(),
    st.sampled_from(PRECISIONS),
    st.sampled_from([(2, 2), (3, 2), (2, 1), (1, 2), ((3, 2), (2, 3)), ((1, 4), (1, 3))]),
    st.sampled_from(["max", "avg"]),
    st.sampled_from([None, "relu", "leaky_relu"]),
    st.sampled_from([0.5, np.inf, 1e-41]),
)
def test_fused_and_unfused_have_the_same_bits(layer, precision, window, pool, activation, odd):
    layer.x[0].flat[-1] = odd  # which most pools leave out
    kwargs = {"precision": precision, "activation": activation}
    maps = layer(**kwargs)
    assume((np.array(maps.shape[1:3]) >= window[0]).all())
    expected = getattr(pycnn, f"{pool}_pool2d")(maps, *window)
    pooling = {"pool_size": window[0], "pool_stride": window[1], "pool": pool}
    assert_same_bits(layer(pycnn.conv_relu_pool, **pooling, **kwargs), expected, any_nan=True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("odd", [0.5, np.nan, 1e-41])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_network_has_the_bits_of_its_layers(rng, precision, odd):
    filters = [
        rng.standard_normal(shape).astype(np.float32) for shape in [(33, 3, 3, 12), (40, 2, 2, 33)]
    ]
    net = pycnn.Sequential(
        [
            pycnn.Conv2D.from_arrays(filters[0], padding=1, activation="relu", precision=precision),
            pycnn.MaxPool2D(2),
            pycnn.Conv2D.from_arrays(filters[1], stride=2, precision=precision),
            pycnn.Flatten(),
            pycnn.Dense(5),
        ]
    )
    x = rng.standard_normal((4, 22, 23, 12)).astype(np.float32)
    x[1, 20, 20, 3] = odd
    expected = x
    actual = net(x)
    for layer in net.layers:
        expected = layer(expected)
    assert_same_bits(actual, expected, any_nan=True)
    for image, alone in zip(x, expected, strict=True):
        assert_same_bits(net(image), alone, any_nan=True)


@pytest.mark.parametrize(
    ("shape", "kernel", "n_filters", "stride"),
    [
        ((5, 3000, 64), (3, 3), 33, (1, 1)),  # columns that are cut: a row alone is too large
        ((7, 2500, 40), (3, 5), 70, (2, 2)),
        ((60, 61, 96), (3, 3), 100, (1, 1)),  # bands of rows, groups of panels
        ((35, 36, 160), (5, 5), 70, (2, 3)),
        ((2, 9, 10, 200), (3, 3), 150, (1, 1)),  # filters that are larger than the images
        ((70, 71, 12), (3, 3), 200, (1, 1)),  # whole windows, in bands and in groups of panels
        ((9, 5000, 3), (7, 7), 64, (2, 1)),  # and in columns
        ((60, 61, 5), (5, 3), 150, (2, 1)),
    ],
)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_large_layers_are_cut_without_a_trace(rng, shape, kernel, n_filters, stride, precision):
    """Whole numbers of few bits, which every precision holds."""
    x = rng.integers(-3, 4, shape).astype(np.float32)
    filters = rng.integers(-3, 4, (n_filters, *kernel, shape[-1])).astype(np.float32)
    kwargs = {"stride": stride, "padding": (1, 2)}
    # Winograd's transforms of such numbers are no whole numbers.
    if kernel == (3, 3) and not HAS_MATRIX_UNIT:
        precision = "highest"
    if HAS_MATRIX_UNIT:
        image, pads = (1, *shape)[-4:], ((1, 1), (2, 2))
        assert algorithm(image, filters.shape, stride, pads, precision) == "amx"
    expected = reference.conv2d(x, filters, **kwargs)
    for n in (1, 2, 3, 7):
        with config.threads(n):
            actual = pycnn.conv2d(x, filters, **kwargs, precision=precision)
            np.testing.assert_array_equal(actual, expected)
    pooled = pycnn.conv_relu_pool(x, filters, **kwargs, precision=precision)
    np.testing.assert_array_equal(pooled, reference.max_pool2d(np.maximum(expected, 0), 2))


@pytest.mark.parametrize("shape", [(12, 12, 64, 3), (30, 30, 256, 1), (9, 9, 24, 5)])
def test_random_data_is_no_worse_than_in_a_plain_loop(rng, shape):
    """Of fused products, one after the other: the matrix unit is as good, a direct sum is near."""
    height, width, channels, kernel = shape
    x = rng.standard_normal((height, width, channels)).astype(np.float32)
    filters = rng.standard_normal((64, kernel, kernel, channels)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(0, 1))
    windows = np.moveaxis(windows, 2, -1).reshape(*windows.shape[:2], -1)
    loop = np.zeros((*windows.shape[:2], 64), np.float32)
    for pixels, weights in zip(np.moveaxis(windows, -1, 0), filters.reshape(64, -1).T, strict=True):
        products = np.multiply.outer(pixels, weights, dtype=np.float64)  # exact
        loop = (loop + products).astype(np.float32)
    exact = reference.conv2d(x, filters)
    error, of_loop = (np.abs(y - exact) for y in (pycnn.conv2d(x, filters), loop))
    most = 1 if HAS_MATRIX_UNIT else 1.5
    assert error.max() <= most * of_loop.max()
    assert np.sqrt(np.mean(error**2)) <= most * np.sqrt(np.mean(of_loop**2))
