"""conv_relu_pool: a convolution, an activation and a pool in one pass over the image."""

import numpy as np
import pytest
from comparing import activated_bound, assert_helpful, assert_same_bits, assert_within
from hypothesis import given
from hypothesis import strategies as st
from strategies import conv_cases, one_or_two, out_like

import pycnn
from pycnn import _reference as reference
from pycnn import config


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(
    conv_cases(work=100_000),
    one_or_two(1, 4),
    st.none() | one_or_two(1, 4),
    st.sampled_from(["max", "avg"]),
    st.sampled_from([None, "relu", "leaky_relu"]),
)
def test_conv_relu_pool_keeps_the_bound(case, pool_size, pool_stride, pool, activation):
    x, filters, bias = case.plain_args()
    pooling = {"pool_size": pool_size, "pool_stride": pool_stride}
    conv = reference.conv2d(x, filters, bias, **case.kwargs)
    kwargs = {**case.kwargs, **pooling, "pool": pool, "activation": activation}
    if (np.array(conv.shape[-3:-1]) < pool_size).any():
        with pytest.raises(ValueError, match="^conv_relu_pool: "):
            pycnn.conv_relu_pool(*case.args, **kwargs)
        return
    dtype = np.result_type(x, filters, np.float32)
    bound = reference.conv2d_bound(x, filters, bias, **case.kwargs)
    bound = activated_bound(conv, bound, activation, dtype)
    active = np.where(np.isnan(conv), 0, reference._activate(conv, activation))
    if pool == "max":
        bound = reference.max_pool2d(bound, pool_size, pool_stride)
    else:
        bound = reference._avg_pool(bound, pool_size, pool_stride)
        mean = reference._avg_pool(np.abs(active), pool_size, pool_stride)
        n_taps = int(np.prod(np.broadcast_to(pool_size, 2)))
        bound = bound + reference._rounding_bound(n_taps + 1, mean + bound, dtype)
    expected = reference.conv_relu_pool(x, filters, bias, **kwargs)
    out = None
    if case.out_layout is not None:
        out = out_like(np.empty(expected.shape, dtype), case.out_layout)
    actual = pycnn.conv_relu_pool(*case.args, **kwargs, out=out)
    assert out is None or actual is out
    assert actual.dtype == dtype
    assert_within(actual, expected, bound)


@given(conv_cases(specials=False, work=100_000), one_or_two(1, 3), st.sampled_from(["max", "avg"]))
def test_conv_relu_pool_is_the_layers_one_by_one(case, pool_size, pool):
    conv = pycnn.conv2d(*case.args, **case.kwargs, activation="relu")
    if (np.array(conv.shape[-3:-1]) < pool_size).any():
        return
    expected = getattr(pycnn, f"{pool}_pool2d")(conv, pool_size)
    actual = pycnn.conv_relu_pool(*case.args, **case.kwargs, pool_size=pool_size, pool=pool)
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("activation", [None, "relu"])
def test_whole_numbers_are_exact(rng, activation):
    for channels, n_filters in [(1, 2), (2, 3), (3, 1), (5, 17), (16, 33)]:
        for width in range(6, 40):
            x = rng.integers(-9, 10, (9, width, channels)).astype(np.float32)
            filters = rng.integers(-9, 10, (n_filters, 3, 3, channels)).astype(np.float32)
            kwargs = {"activation": activation, "pool_size": (2, 3), "pool_stride": (1, 2)}
            np.testing.assert_array_equal(
                pycnn.conv_relu_pool(x, filters, **kwargs),
                reference.conv_relu_pool(x, filters, **kwargs),
            )


def test_shapes():
    filters = np.ones((2, 3, 3, 4))
    assert pycnn.conv_relu_pool(np.ones((9, 8, 4)), filters).shape == (3, 3, 2)
    assert pycnn.conv_relu_pool(np.ones((5, 9, 8, 4)), filters, pool_size=3).shape == (5, 2, 2, 2)
    assert pycnn.conv_relu_pool(np.ones((0, 9, 8, 4)), filters).shape == (0, 3, 3, 2)
    assert pycnn.conv_relu_pool(np.ones((300, 451)), np.ones((2, 3, 3))).shape == (149, 224, 2)


@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize("channels", [1, 3, 16])
def test_nan_stays_in_its_windows(pool, channels):
    x = np.zeros((12, 40, channels), np.float32)
    x[6, 20, channels // 2] = np.nan
    filters = np.zeros((5, 3, 3, channels), np.float32)
    y = pycnn.conv_relu_pool(x, filters, padding=1, pool=pool)
    expected = np.zeros((6, 20, 5), bool)
    expected[2:4, 9:11] = True
    np.testing.assert_array_equal(np.isnan(y), expected)


@pytest.mark.parametrize("shift", [0, 1, 17])
def test_out_may_overlap_the_image(rng, shift):
    memory = rng.standard_normal(12 * 10 * 3 + 20)
    x = memory[: 12 * 10 * 3].reshape(12, 10, 3)
    filters = rng.standard_normal((3, 3, 3, 3))
    expected = pycnn.conv_relu_pool(x.copy(), filters)
    out = memory[shift : shift + expected.size].reshape(expected.shape)
    assert pycnn.conv_relu_pool(x, filters, out=out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"pool": "mean"}, ValueError, ["pool", "'mean'", "'max'", "'avg'"]),
        ({"pool": None}, (TypeError, ValueError), ["pool", "None"]),
        ({"pool": max}, TypeError, ["pool"]),
        ({"pool_size": 0}, ValueError, ["pool_size", 0]),
        ({"pool_size": 8}, ValueError, [8, 7]),
        ({"pool_size": (2, 1.0)}, TypeError, ["pool_size", 1.0]),
        ({"pool_size": True}, TypeError, ["pool_size", "True"]),
        ({"pool_stride": 0}, ValueError, ["pool_stride", 0]),
        ({"pool_stride": 1.0}, TypeError, ["pool_stride", 1.0]),
        ({"pool_stride": 2**63}, ValueError, ["pool_stride", 2**63]),
        ({"activation": "tanh"}, ValueError, ["activation", "'tanh'"]),
        ({"stride": -1}, ValueError, ["stride", -1]),
        ({"padding": "vaild"}, ValueError, ["padding", "'vaild'"]),
        ({"groups": 3}, ValueError, ["groups=3", "4 channels"]),
        ({"precision": "low"}, ValueError, ["precision", "'low'"]),
        ({"bias": np.ones(3)}, ValueError, ["bias", "(3,)"]),
        ({"out": np.ones((3, 3, 3), np.float32)}, ValueError, ["out", "(3, 3, 3)", "(3, 3, 2)"]),
        ({"out": np.ones((3, 3, 2))}, TypeError, ["out", "float64", "float32"]),
    ],
)
def test_sentences(kwargs, error, words):
    x, filters = np.ones((9, 9, 4), np.float32), np.ones((2, 3, 3, 4), np.float32)
    with pytest.raises(error) as info:
        pycnn.conv_relu_pool(x, filters, **kwargs)
    assert_helpful(info, "conv_relu_pool", *words)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_filters", range(1, 9))
def test_few_filters_are_the_layers_one_by_one(rng, n_filters, dtype):
    """Whichever kernel pools them, and whatever their edges."""
    windows = [(2, 2), (3, 3), (3, 2), (2, 3), ((1, 2), 2), ((4, 2), (1, 2)), (5, 1)]
    for width, channels, padding in [(16, 1, 0), (37, 3, 1), (70, 2, "full"), (150, 1, "same")]:
        x = rng.standard_normal((2, 23, width, channels)).astype(dtype)
        x[1, 5, 7:9] = [[np.nan], [-np.inf]]
        filters = rng.standard_normal((n_filters, 3, 5, channels)).astype(dtype)
        for pool_size, pool_stride in windows:
            for pool, activation in [("max", "relu"), ("max", None), ("avg", "relu")]:
                actual = pycnn.conv_relu_pool(
                    x,
                    filters,
                    padding=padding,
                    activation=activation,
                    pool=pool,
                    pool_size=pool_size,
                    pool_stride=pool_stride,
                )
                conv = pycnn.conv2d(x, filters, padding=padding, activation=activation)
                expected = getattr(pycnn, f"{pool}_pool2d")(conv, pool_size, pool_stride)
                np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("threads", [1, 5])  # five share the panels of filters
@pytest.mark.parametrize("precision", ["highest", "high"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("pool", ["max", "avg"])
@pytest.mark.parametrize(("pool_size", "pool_stride"), [(2, 2), (3, 2), (3, 1), ((1, 4), (2, 3))])
def test_filters_larger_than_the_caches_are_the_layers_one_by_one(
    rng, pool_size, pool_stride, pool, groups, dtype, precision, threads
):
    x = rng.standard_normal((2, 19, 17, 96)).astype(dtype)
    x[1, 4, 5, 6] = np.nan
    filters = rng.standard_normal((330, 3, 3, 96 // groups)).astype(dtype)
    kwargs = {"padding": 1, "groups": groups, "activation": "relu", "precision": precision}
    convolved = pycnn.conv2d(x, filters, **kwargs)
    expected = getattr(pycnn, f"{pool}_pool2d")(convolved, pool_size, pool_stride)
    out = np.full_like(expected, -1)
    with config.threads(threads):
        pooling = {"pool": pool, "pool_size": pool_size, "pool_stride": pool_stride}
        pycnn.conv_relu_pool(x, filters, **pooling, **kwargs, out=out)
    assert_same_bits(out, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("pool_size", "pool_stride"), [((4, 8), 4), ((9, 3), (8, 2)), (7, 3)])
def test_narrow_blocks_add_up_means_in_the_order_of_the_image(rng, pool_size, pool_stride, dtype):
    """As high and wide windows over many filters make them: of one column each."""
    x = rng.standard_normal((24, 31, 8)).astype(dtype)
    filters = rng.standard_normal((801, 1, 1, 8)).astype(dtype)
    expected = pycnn.avg_pool2d(pycnn.conv2d(x, filters), pool_size, pool_stride)
    pooling = {"pool": "avg", "pool_size": pool_size, "pool_stride": pool_stride}
    assert_same_bits(pycnn.conv_relu_pool(x, filters, **pooling, activation=None), expected)


@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_filters", [1, 2, 3, 4, 5, 8, 16, 17])
def test_zeros_have_the_sign_of_the_layers_one_by_one(rng, n_filters, dtype, activation):
    """leaky_relu makes -0 of what is too small, and a maximum of zeros may be either of them."""
    smallest = np.finfo(dtype).smallest_subnormal
    x = rng.integers(-2, 2, (2, 6, 64)).astype(dtype) * smallest
    filters = np.ones((n_filters, 1, 1, 1), dtype)
    for pool_size, pool_stride in [(2, 2), (3, 3), (2, 1)]:
        conv = pycnn.conv2d(x[..., None], filters, activation=activation)
        assert_same_bits(
            pycnn.conv_relu_pool(
                x[..., None],
                filters,
                activation=activation,
                pool_size=pool_size,
                pool_stride=pool_stride,
            ),
            pycnn.max_pool2d(conv, pool_size, pool_stride),
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("groups", "n_filters"), [(2, 2), (4, 4), (2, 8), (3, 24)])
def test_threads_leave_the_signs_of_zeros(rng, groups, n_filters, dtype):
    """Groups of few filters, whose maxima the pool shuffles together."""
    smallest = np.finfo(dtype).smallest_subnormal
    x = rng.choice([-300, -1, 0], (95, 95, 7 * groups)).astype(dtype) * smallest
    filters = np.zeros((n_filters, 7, 7, 7), dtype)
    filters[:, 1, 1, 0] = 1
    kwargs = {"groups": groups, "activation": "leaky_relu"}
    conv = pycnn.conv2d(x, filters, **kwargs)
    for threads in (1, 5):
        with config.threads(threads):
            actual = pycnn.conv_relu_pool(x, filters, **kwargs)
        assert_same_bits(actual, pycnn.max_pool2d(conv, 2))
