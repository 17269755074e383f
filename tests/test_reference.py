"""The oracle itself, against SciPy and, where it is installed, PyTorch."""

import itertools

import numpy as np
import pytest
from scipy.signal import correlate2d
from scipy.special import expit
from scipy.special import softmax as scipy_softmax

from pycnn import _reference as reference


def channels_first(x):
    return np.ascontiguousarray(np.moveaxis(x, -1, -3))


@pytest.mark.parametrize("mode", ["valid", "same", "full"])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 5), (4, 1), (6, 6)])
def test_conv2d_is_scipys_correlation(rng, mode, kernel):
    x = rng.standard_normal((11, 9))
    filters = rng.standard_normal((3, *kernel))
    # SciPy puts the odd pixel of "same" at the top and left; ours is at the bottom and right.
    skipped = {
        "valid": [k - 1 for k in kernel],
        "same": [k - 1 - (k - 1) // 2 for k in kernel],
        "full": [0, 0],
    }
    top, left = skipped[mode]
    y = reference.conv2d(x, filters, padding=mode).astype(float)
    for number, f in enumerate(filters):
        full = correlate2d(x, f, "full")
        expected = full[top : top + y.shape[0], left : left + y.shape[1]]
        np.testing.assert_allclose(y[..., number], expected, rtol=1e-12, atol=1e-13)


def test_conv2d_sums_over_channels_and_adds_the_bias(rng):
    x, filters, bias = (rng.standard_normal(s) for s in [(2, 8, 7, 5), (4, 3, 2, 5), (4,)])
    y = reference.conv2d(x, filters, bias)
    assert y.shape == (2, 6, 6, 4)
    for n, f in itertools.product(range(2), range(4)):
        expected = bias[f] + sum(
            correlate2d(x[n, :, :, c], filters[f, :, :, c], "valid") for c in range(5)
        )
        np.testing.assert_allclose(y[n, :, :, f].astype(float), expected, rtol=1e-12)


def test_conv2d_works_in_a_wider_format(rng):
    x = rng.standard_normal((5, 5))
    assert reference.conv2d(x.astype(np.float32), np.ones((1, 2, 2))).dtype == np.longdouble
    assert reference.conv2d(x.astype(np.float32), np.ones((1, 2, 2), "f4")).dtype == np.float64
    assert reference.conv2d(x, np.ones((1, 2, 2))).dtype == np.longdouble


def test_bound_is_the_formula_by_hand():
    x = np.array([[1, -2], [3, 4]], np.float32)
    filters = np.array([[[5, 6], [-7, 8]]], np.float32)
    bias = np.array([-9], np.float32)
    u = 2.0**-24
    expected = 6 * u / (1 - 6 * u) * (9 + 5 + 12 + 21 + 32) + 6 * 2.0**-149
    assert reference.conv2d_bound(x, filters, bias).item() == pytest.approx(expected, rel=1e-15)


def test_bound_counts_the_whole_window_at_the_edges():
    x, filters = np.ones((4, 4), np.float32), np.ones((1, 3, 3), np.float32)
    bound = reference.conv2d_bound(x, filters, padding=1)[..., 0]
    u = 2.0**-24
    gamma = 11 * u / (1 - 11 * u)
    assert bound[0, 0] == pytest.approx(4 * gamma, rel=1e-12)
    assert bound[1, 1] == pytest.approx(9 * gamma, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bound_holds_for_a_naive_sum_and_is_not_idle(rng, dtype):
    """A loop in the format itself keeps the bound; one with a lost product does not."""
    x = rng.standard_normal((6, 6, 40)).astype(dtype)
    filters = rng.standard_normal((5, 3, 3, 40)).astype(dtype)
    expected = reference.conv2d(x, filters)
    bound = reference.conv2d_bound(x, filters)
    naive = np.zeros(expected.shape, dtype)
    for i, j, c in np.ndindex(3, 3, 40):
        naive += x[i : i + 4, j : j + 4, c, None] * filters[:, i, j, c]
    assert (np.abs(naive - expected) <= bound).all()
    assert (np.abs(naive - expected) > 0).any()
    less = naive - x[:4, :4, 0, None] * filters[:, 0, 0, 0]
    assert (np.abs(less - expected) > bound).mean() > 0.9
    assert (np.abs(naive - expected).max() / bound.max()) > 1e-4
    assert bound.dtype == (np.longdouble if dtype == np.float64 else np.float64)
    assert (reference.conv2d_bound(x, filters, dtype=np.float64) <= bound).all()


def test_padding_never_touches_nan_or_infinity():
    x = np.zeros((5, 5), np.float32)
    x[2, 2] = np.inf
    with np.errstate(invalid="ignore"):
        y = reference.conv2d(x, np.zeros((1, 3, 3), np.float32), padding=2)[..., 0]
    inside = np.zeros((7, 7), bool)
    inside[2:5, 2:5] = True
    np.testing.assert_array_equal(np.isnan(y), inside)


def test_enormous_padding_needs_no_memory():
    x, filters = np.ones((3, 3), np.float32), np.ones((1, 2, 2), np.float32)
    y = reference.conv2d(x, filters, stride=2**40, padding=2**40)
    np.testing.assert_array_equal(y[..., 0], [[0, 0, 0], [0, 4, 0], [0, 0, 0]])


def test_a_window_of_padding_only_is_refused():
    x = np.ones((3, 3), np.float32)
    with pytest.raises(ValueError, match="only padding"):
        reference.max_pool2d(x, 2, padding=2)
    with pytest.raises(ValueError, match="only padding"):
        reference.max_pool2d(x[:1], 2, padding=((3, 3), (0, 0)), dilation=(5, 1))


def test_max_pool_padding_is_below_every_number():
    x = np.full((2, 2), -128, np.int8)
    assert reference.max_pool2d(x, 2, padding=1).tolist() == [[-128, -128], [-128, -128]]
    y = reference.max_pool2d(np.full((2, 2), -np.inf, np.float32), 2, padding=1)
    assert np.isneginf(y).all()


def test_smooth_activations_are_scipys(rng):
    x = rng.standard_normal((4, 6)) * 50
    np.testing.assert_allclose(reference.sigmoid(x).astype(float), expit(x), rtol=1e-14)
    for axis in (0, 1, -1):
        ours = reference.softmax(x, axis).astype(float)
        np.testing.assert_allclose(ours, scipy_softmax(x, axis=axis), rtol=1e-13)


def test_relu_and_leaky_relu_by_hand():
    x = np.array([-2.0, -0.0, 0.0, 3.0, np.nan, -np.inf, np.inf])
    np.testing.assert_array_equal(reference.relu(x), [0, 0, 0, 3, np.nan, 0, np.inf])
    np.testing.assert_array_equal(
        reference.leaky_relu(x, 0.5), [-1, 0, 0, 3, np.nan, -np.inf, np.inf]
    )
    assert reference.relu(np.array([-3, 4], np.int8)).dtype == np.int8


def test_dense_is_a_matrix_product(rng):
    x, weights, bias = (rng.standard_normal(s) for s in [(3, 5), (5, 4), (4,)])
    expected = x @ weights + bias
    np.testing.assert_allclose(reference.dense(x, weights, bias).astype(float), expected)
    np.testing.assert_allclose(reference.dense(x[0], weights, bias).astype(float), expected[0])


def test_conv_relu_pool_is_the_three_after_another(rng):
    x, filters = rng.standard_normal((9, 9, 2)), rng.standard_normal((3, 2, 2, 2))
    y = reference.conv_relu_pool(x, filters, pool_size=3, pool_stride=2)
    assert y.shape == (3, 3, 3)
    conv = np.maximum(reference.conv2d(x, filters), 0)
    np.testing.assert_array_equal(y[1, 2], conv[2:5, 4:7].max(axis=(0, 1)))


@pytest.fixture
def torch():
    """Return PyTorch, with one thread: its tiny calls wait longer for others than they take."""
    module = pytest.importorskip("torch")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_conv2d_is_pytorchs(torch, rng, groups):
    for stride, padding, dilation in itertools.product(
        [1, (2, 3)], [0, (2, 1), (0, 4)], [1, (1, 2)]
    ):
        x = rng.standard_normal((2, 11, 12, 6))
        filters = rng.standard_normal((6, 3, 4, 6 // groups))
        bias = rng.standard_normal(6)
        theirs = torch.nn.functional.conv2d(
            *(torch.from_numpy(channels_first(a)) for a in (x, filters)),
            torch.from_numpy(bias),
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )
        ours = reference.conv2d(
            x, filters, bias, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
        np.testing.assert_allclose(
            channels_first(ours).astype(float), theirs.numpy(), rtol=1e-11, atol=1e-12
        )


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, (3, 2)])
def test_pools_are_pytorchs(torch, rng, size, ceil_mode):
    functional = torch.nn.functional
    compared = 0
    for side, stride, padding in itertools.product(range(1, 9), range(1, 5), range(2)):
        if padding * 2 > min(np.broadcast_to(size, 2)):
            continue  # PyTorch allows half of the window
        x = rng.standard_normal((2, side, side + 1, 3))
        tensor = torch.from_numpy(channels_first(x))
        kwargs = {"padding": padding, "ceil_mode": ceil_mode}
        for ours, theirs, more in [
            (reference.max_pool2d, functional.max_pool2d, {}),
            (reference.avg_pool2d, functional.avg_pool2d, {"count_include_pad": True}),
            (reference.avg_pool2d, functional.avg_pool2d, {"count_include_pad": False}),
        ]:
            try:
                expected = theirs(tensor, size, stride, **kwargs, **more).numpy()
            except RuntimeError:  # the window does not fit
                with pytest.raises(ValueError, match="does not fit"):
                    ours(x, size, stride, **kwargs, **more)
                continue
            y = channels_first(ours(x, size, stride, **kwargs, **more)).astype(float)
            np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14)
            compared += 1
    assert compared >= 72
