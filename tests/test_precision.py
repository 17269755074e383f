"""precision: "highest" sums directly; "high" and "medium" keep the bounds that conv2d states."""

import numpy as np
import pytest
from comparing import assert_same_bits, assert_within
from hypothesis import given
from hypothesis import strategies as st
from strategies import LAYOUTS, numbers

import pycnn
from pycnn import _conv, config
from pycnn import _reference as reference

LEVEL = config.get_config()["cpu"]["level"]
HAS_MATRIX_UNIT = LEVEL == "amx"
LOWER = ["high", "medium"]
U = 2.0**-24

# The transforms that kernels/winograd.inc.h multiplies with, for tiles of 2 and of 4 pixels.
A, B = np.sqrt(0.5), np.sqrt(2.0)
TRANSFORMS = {
    2: (
        [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]],
        [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
        [[1, 1, 1, 0], [0, 1, -1, 1]],
    ),
    4: (
        [
            [1, 0, -5 / 2, 0, 1, 0],
            [0, -2 * A, -2, A, 1, 0],
            [0, 2 * A, -2, -A, 1, 0],
            [0, -B / 2, -1 / 2, B, 1, 0],
            [0, B / 2, -1 / 2, -B, 1, 0],
            [0, 1, 0, -5 / 2, 0, 1],
        ],
        [
            [1, 0, 0],
            [-2 / 3, -2 * A / 3, -1 / 3],
            [-2 / 3, 2 * A / 3, -1 / 3],
            [1 / 6, B / 6, 1 / 3],
            [1 / 6, -B / 6, 1 / 3],
            [0, 0, 1],
        ],
        [
            [1, 1, 1, 1, 1, 0],
            [0, A, -A, B, -B, 0],
            [0, A**2, A**2, B**2, B**2, 0],
            [0, A**3, -(A**3), B**3, -(B**3), 1],
        ],
    ),
}
KAPPA = {2: 16, 4: 158}


def plan_of(x, filters, pads, precision):
    """Return the plan of a 3x3 convolution of stride 1 with ((top, bottom), (left, right))."""
    batch = x if x.ndim == 4 else x[None]
    out = tuple(n + sum(p) - 2 for n, p in zip(batch.shape[1:3], pads, strict=True))
    before = tuple(p[0] for p in pads)
    f4 = np.dtype(np.float32).num
    return _conv.ConvPlan(f4, batch.shape, filters.shape, out, (1, 1), before, (1, 1), 1, precision)


def tile_of(plan):
    return int(plan.packing[1].removeprefix("winograd"))


def gamma(n):
    return n * U / (1 - n * U)


def tiles_of(x, pads, tile):
    """Return what each output tile sees: (rows, columns, tile + 2, tile + 2, C)."""
    out = [n + sum(p) - 2 for n, p in zip(x.shape[:2], pads, strict=True)]
    more = [-n % tile for n in out]
    pads = [(p[0], p[1] + m) for p, m in zip(pads, more, strict=True)]
    padded = np.pad(x, [*pads, (0, 0)])
    seen = np.lib.stride_tricks.sliding_window_view(padded, (tile + 2, tile + 2), axis=(0, 1))
    return np.moveaxis(seen[::tile, ::tile], 2, -1), out


def assembled(tiles, out):
    """Return (rows, columns, m, m, F) as an image, without what hangs over its edges."""
    rows, columns, m, _, n_filters = tiles.shape
    image = tiles.transpose(0, 2, 1, 3, 4).reshape(rows * m, columns * m, n_filters)
    return image[: out[0], : out[1]]


def winograd_bound(x, filters, bias, pads, tile):
    """Return how far each output of one image may lie from the exact one; float64."""
    b, g, a = (np.abs(np.array(t)) for t in TRANSFORMS[tile])
    x, filters = np.abs(x).astype(float), np.abs(filters).astype(float)
    seen, out = tiles_of(x, pads, tile)
    v = np.einsum("ir,js,yxrsc->yxijc", b, b, seen, optimize=True)
    w = np.einsum("ir,js,frsc->fijc", g, g, filters, optimize=True)
    products = np.einsum("yxijc,fijc->yxijf", v, w, optimize=True)
    sums = assembled(np.einsum("pi,qj,yxijf->yxpqf", a, a, products, optimize=True), out)
    n = x.shape[-1] + 28
    subnormals = 8 * n * float(np.finfo(np.float32).smallest_subnormal)
    return gamma(n) * sums + 2 * U * np.abs(bias) + subnormals


def stated_bound(x, filters, bias, pads, tile):
    """Return the bound of conv2d's Notes, which sees only the largest pixel of a tile."""
    seen, out = tiles_of(np.abs(x).astype(float), pads, tile)
    largest = seen.max(axis=(2, 3))
    taps = np.abs(filters).astype(float).sum(axis=(1, 2))
    sums = np.einsum("yxc,fc->yxf", largest, taps)[:, :, None, None]
    sums = assembled(np.broadcast_to(sums, (*sums.shape[:2], tile, tile, len(filters))), out)
    return KAPPA[tile] * gamma(x.shape[-1] + 28) * sums + 2 * U * np.abs(bias) + 1e-40


def matrix_unit_bound(x, filters, bias, pads, precision):
    x, filters = np.abs(x).astype(float), np.abs(filters).astype(float)
    sums = reference.conv2d(x, filters, np.abs(bias).astype(float), padding=pads)
    k = filters[0].size
    if precision == "high":
        return (2**-15 + gamma(3 * k + 16)) * sums
    return (2**-7 + 2**-16 + gamma(k + 16)) * sums


@st.composite
def layers(draw):
    """Return x, filters, bias and pads of a 3x3 layer wide enough for any algorithm."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels, n_filters = draw(st.integers(8, 70)), draw(st.integers(8, 70))
    side = st.integers(0, 3)
    pads = tuple((draw(side), draw(side)) for _ in range(2))
    height, width = (draw(st.integers(max(1, 3 - sum(p)), 24)) for p in pads)
    kinds = st.sampled_from(["normal", "whole", "wide"])
    n = draw(st.integers(1, 3))
    x = numbers(rng, (n, height, width, channels), np.float32, draw(kinds))
    if draw(st.booleans()):
        x = np.abs(x)
    if draw(st.booleans()):
        x[:, :, width // 2 :] *= np.float32(2**-12)  # a dark part beside a bright one
    filters = numbers(rng, (n_filters, 3, 3, channels), np.float32, draw(kinds))
    return x, filters, numbers(rng, (n_filters,), np.float32), pads


@given(layers(), st.sampled_from(LOWER))
def test_lower_precisions_keep_their_bounds(layer, precision):
    x, filters, bias, pads = layer
    plan = plan_of(x, filters, pads, precision)
    actual = pycnn.conv2d(x, filters, bias, padding=pads, precision=precision)
    expected = reference.conv2d(x, filters, bias, padding=pads)
    for image, y, right in zip(x, actual, expected, strict=True):
        if plan.algorithm == "winograd":
            tile = tile_of(plan)
            bound = winograd_bound(image, filters, bias, pads, tile)
            bound = bound + 2 * U * np.abs(right)
            assert (
                bound
                <= stated_bound(image, filters, bias, pads, tile) * 1.001 + 2 * U * np.abs(right)
            ).all()
        elif plan.algorithm == "amx":
            bound = matrix_unit_bound(image, filters, bias, pads, precision)
        else:
            assert plan.algorithm in ("direct", "planes", "dots")
            bound = reference.conv2d_bound(image, filters, bias, padding=pads)
        assert_within(y, right, bound)


@given(layers())
def test_the_highest_precision_keeps_its_own(layer):
    x, filters, bias, pads = layer
    assert plan_of(x, filters, pads, "highest").algorithm != "winograd"
    actual = pycnn.conv2d(x, filters, bias, padding=pads)
    expected = reference.conv2d(x, filters, bias, padding=pads)
    bound = reference.conv2d_bound(x, filters, bias, padding=pads)
    assert_within(actual, expected, bound)


@pytest.mark.parametrize("precision", LOWER)
@pytest.mark.parametrize("size", [7, 14, 28, 56])
@pytest.mark.parametrize("channels", [64, 256])
def test_winograd_runs_where_it_pays(precision, size, channels):
    x = np.empty((size, size, channels), np.float32)
    filters = np.empty((channels, 3, 3, channels), np.float32)
    pads = ((1, 1), (1, 1))
    expected = "amx" if HAS_MATRIX_UNIT else "winograd"
    assert plan_of(x, filters, pads, precision).algorithm == expected
    assert plan_of(x, filters, pads, "highest").algorithm != "winograd"
    batch = np.empty((5, *x.shape), np.float32)
    alone, in_batch = (plan_of(a, filters, pads, precision) for a in (x, batch))
    assert alone.packing == in_batch.packing


def test_winograd_is_not_the_direct_sum(rng):
    """Its rounding shows, and is small on random data; the matrix unit leaves it wide padding."""
    x = rng.standard_normal((30, 31, 64)).astype(np.float32)
    filters = rng.standard_normal((64, 3, 3, 64)).astype(np.float32)
    assert plan_of(x, filters, ((3, 3), (3, 3)), "high").algorithm == "winograd"
    high = pycnn.conv2d(x, filters, padding=3, precision="high")
    assert_same_bits(pycnn.conv2d(x, filters, padding=3, precision="medium"), high)
    assert (high != pycnn.conv2d(x, filters, padding=3)).any()
    error = np.abs(high - reference.conv2d(x, filters, padding=3))[2:-2, 2:-2]
    sums = reference.conv2d(np.abs(x), np.abs(filters), padding=1)
    assert (error <= 2**-16 * sums).all()


@pytest.mark.parametrize(
    "kwargs", [{"stride": 2}, {"dilation": 2}, {"groups": 2}, {"stride": (1, 2)}]
)
def test_other_geometries_keep_the_bound(rng, kwargs):
    x = rng.standard_normal((21, 22, 64)).astype(np.float32)
    filters = rng.standard_normal((66, 3, 3, 64 // kwargs.get("groups", 1))).astype(np.float32)
    high = pycnn.conv2d(x, filters, padding=1, precision="high", **kwargs)
    expected = reference.conv2d(x, filters, padding=1, **kwargs)
    sums = reference.conv2d(np.abs(x), np.abs(filters), padding=1, **kwargs)
    assert (np.abs(high - expected) <= (2**-15 + gamma(3 * 9 * 64 + 16)) * sums).all()


@pytest.mark.parametrize("precision", LOWER)
def test_float64_is_never_less_than_float64(rng, precision):
    x, filters = rng.standard_normal((20, 21, 64)), rng.standard_normal((64, 3, 3, 64))
    assert_same_bits(pycnn.conv2d(x, filters, precision=precision), pycnn.conv2d(x, filters))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("precision", LOWER)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("where", ["image", "filters"])
def test_odd_numbers_give_the_direct_result(rng, precision, odd, where):
    x = rng.standard_normal((3, 20, 23, 64)).astype(np.float32)
    filters = rng.standard_normal((66, 3, 3, 64)).astype(np.float32)
    clean = pycnn.conv2d(x, filters, padding=1, precision=precision)
    if where == "image":
        x[1, 9, 11, 40] = odd
    else:
        filters[33, 1, 2, 7] = odd
    highest = pycnn.conv2d(x, filters, padding=1)
    actual = pycnn.conv2d(x, filters, padding=1, precision=precision)
    assert np.isfinite(highest).any()
    assert not np.isfinite(highest).all()
    if where == "image":
        assert_same_bits(actual[1], highest[1])
        assert_same_bits(actual[::2], clean[::2])
    else:
        np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(highest))
        assert_same_bits(actual, highest)


@pytest.mark.parametrize("precision", LOWER)
@pytest.mark.parametrize("odd", [0.5, np.nan])
@pytest.mark.parametrize("shape", [(7, 7, 512, 96), (14, 15, 64, 70), (57, 50, 32, 65)])
def test_batches_and_threads_do_not_change_a_bit(rng, precision, shape, odd):
    height, width, channels, n_filters = shape
    x = rng.standard_normal((4, height, width, channels)).astype(np.float32)
    x[2, -1, 3, 5] = odd
    filters = rng.standard_normal((n_filters, 3, 3, channels)).astype(np.float32)
    kwargs = {"padding": 1, "precision": precision, "activation": "relu"}
    with config.threads(1):
        expected = pycnn.conv2d(x, filters, **kwargs)
    packed = pycnn.PackedFilters(filters)
    for n in (1, 2, 3, 8):
        with config.threads(n):
            assert_same_bits(pycnn.conv2d(x, packed, **kwargs), expected)
            assert_same_bits(pycnn.conv2d(x[1:], packed, **kwargs), expected[1:])
            for image, alone in zip(x, expected, strict=True):
                assert_same_bits(pycnn.conv2d(image, packed, **kwargs), alone)


@given(
    layers(),
    st.sampled_from([(2, 2), (3, 2), (2, 1), (2, 3), ((3, 2), (2, 2)), ((1, 4), (1, 3))]),
    st.sampled_from(["max", "avg"]),
    st.sampled_from([1.0, np.nan]),
)
def test_fused_and_unfused_have_the_same_bits(layer, window, pool, odd):
    x, filters, bias, pads = layer
    x.flat[-1] = odd  # where most pools leave out the pixels it reaches
    kwargs = {"padding": pads, "precision": "high", "activation": "relu"}
    maps = pycnn.conv2d(x, filters, bias, **kwargs)
    if (np.array(maps.shape[1:3]) < window[0]).any():
        return
    expected = getattr(pycnn, f"{pool}_pool2d")(maps, *window)
    pooling = {"pool_size": window[0], "pool_stride": window[1], "pool": pool}
    actual = pycnn.conv_relu_pool(x, filters, bias, **pooling, **kwargs)
    assert_same_bits(actual, expected, any_nan=True)


@pytest.mark.parametrize("size", [(112, 113), (57, 301), (62, 50)])
@pytest.mark.parametrize("odd", [0.5, np.nan])
def test_large_stages_have_the_bits_of_their_layers(rng, size, odd):
    """Many blocks, which begin and end inside of tiles, and pools that leave out whole tiles."""
    x = rng.standard_normal((*size, 48)).astype(np.float32)
    x[-1, -1, 3] = odd
    filters = rng.standard_normal((70, 3, 3, 48)).astype(np.float32)
    maps = pycnn.conv2d(x, filters, padding=1, precision="high", activation="relu")
    for window, stride in [(2, 2), (3, 2), (3, 3), (2, 5)]:
        actual = pycnn.conv_relu_pool(
            x, filters, pool_size=window, pool_stride=stride, padding=1, precision="high"
        )
        assert_same_bits(actual, pycnn.max_pool2d(maps, window, stride), any_nan=True)


def test_packed_filters_serve_every_precision(rng):
    filters = rng.standard_normal((64, 3, 3, 64)).astype(np.float32)
    packed = pycnn.PackedFilters(filters)
    images = [rng.standard_normal((n, n, 64)).astype(np.float32) for n in (4, 9, 30, 9)]
    for precision in ("highest", "high", "medium", "highest", "high"):
        for x in images:
            for kwargs in ({"padding": 1}, {"stride": 2}):
                expected = pycnn.conv2d(x, filters, precision=precision, **kwargs)
                actual = pycnn.conv2d(x, packed, precision=precision, **kwargs)
                assert_same_bits(actual, expected)


@given(st.sampled_from([n for n in LAYOUTS if n != "zero stride"]), st.booleans())
def test_memory_layouts_do_not_change_a_bit(layout, of_filters):
    rng = np.random.default_rng(7)
    x = rng.standard_normal((13, 10, 33)).astype(np.float32)
    filters = rng.standard_normal((34, 3, 3, 33)).astype(np.float32)
    expected = pycnn.conv2d(x, filters, padding=2, precision="high")
    change = LAYOUTS[layout]
    args = (x, change(filters)) if of_filters else (change(x), filters)
    assert_same_bits(pycnn.conv2d(*args, padding=2, precision="high"), expected)


def test_padding_far_beyond_the_image(rng):
    x = rng.standard_normal((4, 5, 64)).astype(np.float32)
    filters = rng.standard_normal((64, 3, 3, 64)).astype(np.float32)
    inner = pycnn.conv2d(x, filters, padding=2, precision="high")
    outer = pycnn.conv2d(x, filters, padding=((18, 41), (10, 2)), precision="high")
    np.testing.assert_allclose(outer[16:22, 8:15], inner, rtol=0, atol=1e-3)
    outer[16:22, 8:15] = 0  # windows of padding share tiles with windows that see the image
    assert (np.abs(outer) <= 1e-3).all()
    assert (outer[30:] == 0).all()
