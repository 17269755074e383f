"""conv2d: every geometry, dtype and layout within the promised bound."""

import numpy as np
import pytest
from comparing import activated_bound, assert_same_bits, assert_within
from hypothesis import given
from hypothesis import strategies as st
from strategies import LAYOUTS, OUT_LAYOUTS, conv_cases, numbers, out_like

import pycnn
from pycnn import _reference as reference
from pycnn import config

ACTIVATIONS = [None, "relu", "leaky_relu", "sigmoid", "softmax"]


def computing_dtype(*arrays):
    return np.result_type(*(a.dtype.newbyteorder("=") for a in arrays), np.float32)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(conv_cases(), st.sampled_from(ACTIVATIONS))
def test_conv2d_keeps_the_bound(case, activation):
    x, filters, bias = case.plain_args()
    expected = reference.conv2d(x, filters, bias, **case.kwargs)
    bound = reference.conv2d_bound(x, filters, bias, **case.kwargs)
    dtype = computing_dtype(x, filters)
    out = None
    if case.out_layout is not None:
        out = out_like(np.empty(expected.shape, dtype), case.out_layout)
    actual = pycnn.conv2d(*case.args, **case.kwargs, activation=activation, out=out)
    assert out is None or actual is out
    assert type(actual) is np.ndarray
    assert actual.dtype == dtype
    bound = activated_bound(expected, bound, activation, dtype)
    assert_within(actual, reference._activate(expected, activation), bound)
    for given_, before in zip(case.args, (x, filters, bias), strict=True):
        if before is not None:
            np.testing.assert_array_equal(given_, before, "an input was written to")


@given(conv_cases(specials=False), st.sampled_from(["relu", "leaky_relu"]))
def test_activation_is_the_function_applied_to_the_sum(case, activation):
    expected = getattr(pycnn, activation)(pycnn.conv2d(*case.args, **case.kwargs))
    actual = pycnn.conv2d(*case.args, **case.kwargs, activation=activation)
    np.testing.assert_array_equal(actual, expected)


def test_filters_are_not_flipped():
    x = np.arange(9.0).reshape(3, 3)
    corner = np.zeros((1, 2, 2))
    corner[0, 0, 1] = 1
    assert pycnn.conv2d(x, corner)[..., 0].tolist() == [[1, 2], [4, 5]]


@pytest.mark.parametrize(
    ("shape", "filters", "expected"),
    [
        ((9, 8), (5, 3, 2), (7, 7, 5)),
        ((9, 8, 4), (5, 3, 2, 4), (7, 7, 5)),
        ((6, 9, 8, 4), (5, 3, 2, 4), (6, 7, 7, 5)),
        ((0, 9, 8, 4), (5, 3, 2, 4), (0, 7, 7, 5)),
        ((1, 9, 8, 1), (5, 9, 8, 1), (1, 1, 1, 5)),
    ],
)
def test_shapes(shape, filters, expected):
    assert pycnn.conv2d(np.ones(shape), np.ones(filters)).shape == expected


@pytest.mark.parametrize(
    ("padding", "expected"),
    [
        ("valid", (3, 3)),
        ("same", (4, 4)),
        ("full", (5, 6)),
        (1, (4, 4)),
        ((1, 2), (4, 5)),
        (((1, 0), (2, 3)), (3, 5)),
        ([1, 2], (4, 5)),
        (np.int64(1), (4, 4)),
        (np.array([1, 2]), (4, 5)),
    ],
)
def test_padding_forms(padding, expected):
    y = pycnn.conv2d(np.ones((7, 8)), np.ones((1, 3, 4)), stride=2, padding=padding)
    assert y.shape == (*expected, 1)


def test_same_puts_the_odd_pixel_at_the_bottom_and_right():
    y = pycnn.conv2d(np.ones((3, 3)), np.ones((1, 2, 2)), padding="same")[..., 0]
    assert y.tolist() == [[4, 4, 2], [4, 4, 2], [2, 2, 1]]


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
def test_same_gives_the_ceiling_of_size_by_stride(size, stride):
    y = pycnn.conv2d(np.ones((size, 4)), np.ones((1, 3, 3)), stride=stride, padding="same")
    assert y.shape[0] == -(-size // stride)


@pytest.mark.parametrize(
    ("image", "filters", "expected"),
    [
        ("bool", "bool", "float32"),
        ("int8", "int16", "float32"),
        ("uint16", "float16", "float32"),
        ("float16", "float32", "float32"),
        ("int32", "float32", "float64"),
        ("uint32", "int8", "float64"),
        ("int64", "int64", "float64"),
        ("float32", "float64", "float64"),
        (">f4", "<f4", "float32"),
        (">f8", "float32", "float64"),
    ],
)
def test_dtype_rule(image, filters, expected):
    y = pycnn.conv2d(np.ones((3, 3), image), np.ones((1, 2, 2), filters))
    assert y.dtype == expected
    assert y.dtype.isnative
    assert (y == 4).all()


def test_bias_does_not_take_part_in_the_dtype_rule():
    x, filters = np.ones((3, 3), np.float32), np.ones((1, 2, 2), np.float32)
    y = pycnn.conv2d(x, filters, np.array([0.1]))
    assert y.dtype == np.float32
    assert (y == np.float32(4) + np.float32(0.1)).all()


def test_integers_never_wrap():
    x = np.full((4, 4, 3), 255, np.uint8)
    assert (pycnn.conv2d(x, np.full((2, 3, 3, 3), -128, np.int8)) == 255 * -128 * 27).all()


def test_lists_and_other_array_likes():
    y = pycnn.conv2d([[1, 2], [3, 4]], [[[1.0, 0.0], [0.0, 1.0]]], [0.5])
    assert y.tolist() == [[[5.5]]]
    y = pycnn.conv2d(memoryview(np.ones((2, 2), np.float32)), np.ones((1, 2, 2), np.float32))
    assert y.tolist() == [[[4.0]]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 3, 16, 33, 64])
@pytest.mark.parametrize("n_filters", [1, 4, 40, 64])
def test_special_values_stay_in_their_windows(channels, n_filters, value):
    """0 * inf is NaN where the window holds the infinity, and nothing anywhere else."""
    x = np.zeros((9, 40, channels), np.float32)
    x[4, 20, channels // 2] = value
    filters = np.zeros((n_filters, 3, 3, channels), np.float32)
    y = pycnn.conv2d(x, filters, padding=2)
    assert np.isnan(y[4:7, 20:23]).all()
    y[4:7, 20:23] = 0
    assert (y == 0).all()


@pytest.mark.parametrize("where", ["image", "filters"])
@pytest.mark.parametrize("channels", [5, 17, 23, 33])
@pytest.mark.parametrize("n_filters", [1, 2, 3, 4, 9])
def test_every_product_counts_once(where, n_filters, channels):
    """Infinity times one is infinity: NaN, were it multiplied by some zero as well."""
    for channel in range(channels):
        x, filters = np.ones((5, 9, channels)), np.ones((n_filters, 2, 2, channels))
        (x if where == "image" else filters)[..., 1:2, 1:2, channel] = np.inf
        for dtype in (np.float32, np.float64):
            y = pycnn.conv2d(x.astype(dtype), filters.astype(dtype))
            met = y[:2, :2] if where == "image" else y
            assert (met == np.inf).all()
            assert np.isfinite(y).sum() == y.size - met.size


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 2), (2, 3), (6, 5)])
@pytest.mark.parametrize("threads", [1, 2])
def test_filters_larger_than_the_caches_at_borders(rng, threads, shape, groups, dtype):
    x = rng.standard_normal((*shape, 160 * groups)).astype(dtype)
    filters = rng.standard_normal((205 * groups, 3, 3, 160)).astype(dtype)
    bias = rng.standard_normal(205 * groups).astype(dtype)
    kwargs = {"padding": "same", "groups": groups}
    expected = reference.conv2d(x, filters, bias, **kwargs)
    bound = reference.conv2d_bound(x, filters, bias, **kwargs)
    out = np.full(expected.shape, np.nan, dtype)
    with config.threads(threads):
        pycnn.conv2d(x, filters, bias, **kwargs, out=out)
    assert_within(out, expected, bound)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("channels", "n_filters"), [(1, 1), (3, 8), (32, 32), (64, 65)])
def test_subnormals_are_computed(rng, dtype, channels, n_filters):
    tiny = np.finfo(dtype).smallest_subnormal
    x = (rng.integers(1, 9, (8, 8, channels)) * tiny).astype(dtype)
    filters = np.ones((n_filters, 3, 3, channels), dtype)
    expected = reference.conv2d((x / tiny).astype(dtype), filters)
    np.testing.assert_array_equal((pycnn.conv2d(x, filters) / tiny).astype(dtype), expected)


def test_subnormals_still_work_after_a_call(rng):
    """The engine leaves the flush-to-zero bits of the processor as it found them."""
    x = rng.standard_normal((32, 32, 32)).astype(np.float32)
    pycnn.conv2d(x, rng.standard_normal((32, 3, 3, 32)).astype(np.float32))
    for dtype in (np.float32, np.float64):
        tiny = np.full(64, np.finfo(dtype).smallest_normal)
        assert (tiny / dtype(4) * dtype(4) == tiny).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("magnitude", [1e-30, 1e-18, 1e17])
@pytest.mark.parametrize(("channels", "n_filters"), [(1, 2), (8, 24), (64, 64)])
def test_bound_at_the_ends_of_the_range(rng, dtype, magnitude, channels, n_filters):
    x = (rng.standard_normal((12, 13, channels)) * magnitude).astype(dtype)
    filters = (rng.standard_normal((n_filters, 3, 3, channels)) * magnitude).astype(dtype)
    y = pycnn.conv2d(x, filters, padding=1)
    expected = reference.conv2d(x, filters, padding=1)
    assert_within(y, expected, reference.conv2d_bound(x, filters, padding=1))


@pytest.mark.parametrize(("channels", "n_filters"), [(1, 2), (8, 5), (64, 64)])
def test_overflow_gives_infinity(channels, n_filters):
    x = np.full((4, 4, channels), 3e38, np.float32)
    filters = np.ones((n_filters, 2, 2, channels), np.float32)
    assert (pycnn.conv2d(x, filters) == np.inf).all()
    assert (pycnn.conv2d(x, -filters) == -np.inf).all()


@pytest.mark.parametrize("odd", [np.nan, np.inf, 3e38, 1e-44, 1e-38])
@pytest.mark.parametrize("where", ["image", "filters"])
def test_one_number_at_the_end_of_the_range(rng, odd, where):
    """Whatever a number needs of care, the outputs that do not meet it keep their bound."""
    x = rng.standard_normal((20, 30, 64)).astype(np.float32)
    filters = rng.standard_normal((48, 3, 3, 64)).astype(np.float32)
    if where == "image":
        x[9, 11, 40] = odd
        filters *= np.float32(1e-3)
    else:
        filters[30, 1, 2, 7] = odd
        x *= np.float32(1e-3)
    with np.errstate(invalid="ignore"):
        expected = reference.conv2d(x, filters, padding=1)
        bound = reference.conv2d_bound(x, filters, padding=1)
    assert_within(pycnn.conv2d(x, filters, padding=1), expected, bound)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_precision_keeps_its_own_bound(rng, precision):
    x = rng.standard_normal((20, 21, 48)).astype(np.float32)
    filters = rng.standard_normal((40, 3, 3, 48)).astype(np.float32)
    y = pycnn.conv2d(x, filters, precision=precision)
    magnitude = reference.conv2d(np.abs(x), np.abs(filters))
    bound = reference.conv2d_bound(x, filters)
    bound = (
        bound
        + {"highest": 0, "high": 2.0**-16, "medium": 2.0**-7 + 2.0**-16}[precision] * magnitude
    )
    assert_within(y, reference.conv2d(x, filters), bound)


@pytest.mark.parametrize("layout", OUT_LAYOUTS)
def test_out_of_any_layout(rng, layout):
    x, filters = rng.standard_normal((2, 9, 8, 3)), rng.standard_normal((4, 3, 3, 3))
    expected = pycnn.conv2d(x, filters, padding="same")
    out = out_like(expected, layout)
    assert pycnn.conv2d(x, filters, padding="same", out=out) is out
    assert_same_bits(out, expected)


def test_out_leaves_the_memory_between_its_elements_alone(rng):
    host = np.full((2 * 9, 2 * 8, 4 + 2), 113.0)
    out = host[::2, ::2, 1:5]
    pycnn.conv2d(rng.random((9, 8, 3)), rng.random((4, 3, 3, 3)), padding=1, out=out)
    assert (out != 113).all()
    assert (host == 113).sum() == host.size - out.size


@pytest.mark.parametrize("shift", [0, 1, 8, 30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_out_may_overlap_the_image(rng, shift, dtype):
    memory = rng.standard_normal(9 * 8 * 4 + 64).astype(dtype)
    filters = rng.standard_normal((4, 3, 3, 4)).astype(dtype)
    x = memory[32 : 32 + 9 * 8 * 4].reshape(9, 8, 4)
    expected = pycnn.conv2d(x.copy(), filters, padding=1)
    out = memory[32 + shift : 32 + shift + 9 * 8 * 4].reshape(9, 8, 4)
    pycnn.conv2d(x, filters, padding=1, out=out)
    assert_same_bits(out, expected)


def test_out_may_be_the_filters_or_the_bias(rng):
    filters = rng.standard_normal((4, 4, 4, 4))
    x = rng.standard_normal((7, 7, 4))
    expected = pycnn.conv2d(x, filters.copy())
    pycnn.conv2d(x, filters, out=filters[0])
    assert_same_bits(filters[0], expected)
    bias = rng.standard_normal(5)
    filters = rng.standard_normal((5, 7, 7, 4))
    expected = pycnn.conv2d(x, filters, bias.copy())
    pycnn.conv2d(x, filters, bias, out=bias.reshape(1, 1, 5))
    assert_same_bits(bias, expected[0, 0])


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float32", "float64"])
def test_every_layout_by_name(rng, layout, dtype):
    x = LAYOUTS[layout](numbers(rng, (2, 6, 7, 3), dtype))
    filters = LAYOUTS[layout](numbers(rng, (5, 2, 3, 3), dtype))
    bias = LAYOUTS[layout](numbers(rng, (5,), dtype))
    y = pycnn.conv2d(x, filters, bias)
    assert_within(y, reference.conv2d(x, filters, bias), reference.conv2d_bound(x, filters, bias))


def test_enormous_padding_and_stride_need_no_memory():
    x, filters = np.ones((3, 3), np.float32), np.ones((1, 2, 2), np.float32)
    y = pycnn.conv2d(x, filters, stride=2**40, padding=2**40)
    np.testing.assert_array_equal(y[..., 0], [[0, 0, 0], [0, 4, 0], [0, 0, 0]])
    y = pycnn.conv2d(x, filters, dilation=2**40, padding=2**40, stride=2**39)
    expected = reference.conv2d(x, filters, dilation=2**40, padding=2**40, stride=2**39)
    np.testing.assert_array_equal(y, expected)
