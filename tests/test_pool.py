"""The pools: maxima exact, averages within the bound, in every geometry, dtype and layout."""

import numpy as np
import pytest
from comparing import assert_same_bits, assert_within
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, LAYOUTS, OUT_LAYOUTS, numbers, out_like, plain, pool_cases

import pycnn
from pycnn import _reference as reference


def check_pool(name, case, dtype, bound_of):
    """Compare one call with the oracle; a refusal must be of the oracle's making, too."""
    args = case.plain_args()
    pool = getattr(pycnn, name)
    try:
        expected = getattr(reference, name)(*args, **case.kwargs)
    except ValueError:
        with pytest.raises(ValueError, match=f"^{name}: "):
            pool(*case.args, **case.kwargs)
        return
    out = None
    if case.out_layout is not None:
        out = out_like(np.empty(expected.shape, dtype), case.out_layout)
    actual = pool(*case.args, **case.kwargs, out=out)
    assert out is None or actual is out
    assert type(actual) is np.ndarray
    assert actual.dtype == dtype
    assert_within(actual, expected, bound_of(*args))
    np.testing.assert_array_equal(case.args[0], args[0], "the input was written to")


@given(pool_cases())
def test_max_pool_is_exact(case):
    dtype = case.args[0].dtype.newbyteorder("=")
    if dtype.kind == "f":
        check_pool("max_pool2d", case, dtype, lambda *_: np.float64(0))
    else:
        check_exactly(case)


def check_exactly(case):
    """Compare integers as integers: a difference of unsigned numbers could wrap."""
    args = case.plain_args()
    try:
        expected = reference.max_pool2d(*args, **case.kwargs)
    except ValueError:
        with pytest.raises(ValueError, match="^max_pool2d: "):
            pycnn.max_pool2d(*case.args, **case.kwargs)
        return
    out = None if case.out_layout is None else out_like(expected, case.out_layout)
    actual = pycnn.max_pool2d(*case.args, **case.kwargs, out=out)
    assert out is None or actual is out
    assert_same_bits(actual, expected)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(pool_cases(dilated=False), st.booleans())
def test_avg_pool_keeps_the_bound(case, count_include_pad):
    case.kwargs["count_include_pad"] = count_include_pad

    def bound_of(*args):
        return reference.avg_pool2d_bound(*args, **case.kwargs)

    dtype = np.result_type(case.args[0].dtype.newbyteorder("="), np.float32)
    check_pool("avg_pool2d", case, dtype, bound_of)


@pytest.mark.parametrize("pool", ["max_pool2d", "avg_pool2d"])
def test_pools_keep_the_rank(pool):
    function = getattr(pycnn, pool)
    assert function(np.ones((9, 8))).shape == (4, 4)
    assert function(np.ones((9, 8, 3)), 3).shape == (3, 2, 3)
    assert function(np.ones((2, 9, 8, 3)), (2, 3), (3, 1)).shape == (2, 3, 6, 3)
    assert function(np.ones((0, 9, 8, 3)), 3).shape == (0, 3, 2, 3)
    assert function(np.ones((9, 8, 0)), 3).shape == (3, 2, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_max_pool_keeps_every_dtype(rng, dtype):
    x = numbers(rng, (7, 9, 5), dtype)
    y = pycnn.max_pool2d(x, 3, 2, padding=1)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, reference.max_pool2d(x, 3, 2, padding=1))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "float16", "float32"])
def test_padding_never_wins(dtype):
    lowest = -np.inf if dtype.startswith("float") else np.iinfo(dtype).min
    x = np.full((3, 3), lowest, dtype)
    assert (pycnn.max_pool2d(x, 3, 1, padding=2) == lowest).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("pool", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("channels", [1, 5, 16, 40])
def test_nan_fills_its_windows_and_no_other(pool, dtype, channels):
    x = np.zeros((9, 30, channels), dtype)
    x[4, 15, channels // 2] = np.nan
    y = getattr(pycnn, pool)(x, 3, 1)
    expected = np.zeros(y.shape, bool)
    expected[2:5, 13:16, channels // 2] = True
    np.testing.assert_array_equal(np.isnan(y), expected)


@pytest.mark.parametrize("position", range(9))
def test_nan_wins_in_every_place_of_the_window(position):
    x = np.arange(9, dtype=np.float32)
    x[position] = np.nan
    assert np.isnan(pycnn.max_pool2d(x.reshape(3, 3), 3)).all()


def test_infinities():
    x = np.array([[-np.inf, 1, np.inf, -np.inf]])
    assert pycnn.max_pool2d(x, (1, 2)).tolist() == [[1, np.inf]]
    with np.errstate(all="raise"):
        y = pycnn.avg_pool2d(x, (1, 2))
    assert y[0, 0] == -np.inf
    assert np.isnan(y[0, 1])


def test_avg_pool_does_not_wrap_integers():
    assert (pycnn.avg_pool2d(np.full((8, 8), 255, np.uint8), 8) == 255).all()
    assert (pycnn.avg_pool2d(np.full((4, 4), -(2**62), np.int64)) == -(2.0**62)).all()


@pytest.mark.parametrize(
    ("count_include_pad", "expected"),
    [(False, [[1, 1.5, 2], [2, 2.5, 3], [3, 3.5, 4]]), (True, [[0.25, 0.75, 0.5], [1, 2.5, 1.5]])],
)
def test_count_include_pad(count_include_pad, expected):
    x = np.array([[1.0, 2], [3, 4]])
    y = pycnn.avg_pool2d(x, 2, 1, padding=1, count_include_pad=count_include_pad)
    assert y[: len(expected)].tolist() == expected


def test_count_include_pad_never_counts_the_overhang():
    """The last window of ceil_mode reaches one column past the padding."""
    x = np.ones((1, 4))
    kwargs = {"padding": ((0, 0), (1, 1)), "ceil_mode": True}
    y = pycnn.avg_pool2d(x, (1, 3), (1, 2), **kwargs, count_include_pad=True)
    np.testing.assert_array_equal(y, [[2 / 3, 1, 1 / 2]])
    y = pycnn.avg_pool2d(x, (1, 3), (1, 2), **kwargs, count_include_pad=False)
    np.testing.assert_array_equal(y, [[1, 1, 1]])


def test_ceil_mode_keeps_a_window_larger_than_the_image():
    """PyTorch's rule: it overhangs by less than a stride, and starts in the image."""
    x = np.array([[1.0, 2]])
    assert pycnn.max_pool2d(x, (1, 3), (1, 2), ceil_mode=True).tolist() == [[2]]
    assert pycnn.avg_pool2d(x, (1, 3), (1, 2), ceil_mode=True).tolist() == [[1.5]]
    for stride in (1, 2):
        with pytest.raises(ValueError, match="^max_pool2d: "):
            pycnn.max_pool2d(x, (1, 4 + stride - 1), (1, stride), ceil_mode=True)


def test_ceil_mode_drops_a_window_that_starts_in_the_padding():
    x = np.ones((1, 4))
    kwargs = {"padding": ((0, 0), (0, 1)), "ceil_mode": True}
    assert pycnn.max_pool2d(x, (1, 2), (1, 2), **kwargs).shape == (1, 2)
    assert pycnn.max_pool2d(x, (1, 2), (1, 3), ceil_mode=True).shape == (1, 2)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("uint8", "max_pool2d"), ("float32", "max_pool2d"), ("float32", "avg_pool2d")],
)
@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_layout_by_name(rng, layout, name, dtype):
    x = LAYOUTS[layout](numbers(rng, (2, 6, 7, 3), dtype))
    pool = getattr(pycnn, name)
    assert_same_bits(pool(x, 3, 2, padding=1), pool(plain(x), 3, 2, padding=1))


@pytest.mark.parametrize("layout", OUT_LAYOUTS)
@pytest.mark.parametrize("pool", ["max_pool2d", "avg_pool2d"])
def test_out_of_any_layout(rng, pool, layout):
    function = getattr(pycnn, pool)
    x = rng.standard_normal((2, 9, 8, 3))
    expected = function(x, 3, 2)
    out = out_like(expected, layout)
    assert function(x, 3, 2, out=out) is out
    assert_same_bits(out, expected)


@pytest.mark.parametrize("shift", [0, 1, 9])
@pytest.mark.parametrize("pool", ["max_pool2d", "avg_pool2d"])
def test_out_may_overlap_the_image(rng, pool, shift):
    function = getattr(pycnn, pool)
    memory = rng.standard_normal(9 * 8 * 4 + 16)
    x = memory[: 9 * 8 * 4].reshape(9, 8, 4)
    expected = function(x.copy(), 3, 1, padding=1)
    out = memory[shift : shift + 9 * 8 * 4].reshape(9, 8, 4)
    function(x, 3, 1, padding=1, out=out)
    assert_same_bits(out, expected)


@pytest.mark.parametrize("pool", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize(
    ("size", "stride", "padding", "expected"),
    [
        (2**31, 2**31, 2**31 - 1, (2, 2)),
        (2**40, 2**40, 2**40 - 1, (2, 2)),
        (2**40, 1, 2**39, (3, 3)),
        (2**62, 1, 2**61, (3, 3)),
        (2**62 + 1, 2**62, 2**61, (1, 1)),
        ((2**62, 1), (1, 1), ((2**62 - 2, 0), (0, 0)), (1, 2)),
    ],
)
def test_a_window_far_larger_than_the_image(pool, size, stride, padding, expected):
    y = getattr(pycnn, pool)(np.ones((2, 2), np.float32), size, stride, padding=padding)
    np.testing.assert_array_equal(y, np.ones(expected))


@pytest.mark.parametrize(
    ("shape", "flat", "kept"),
    [
        ((7, 9), (), (1, 1)),
        ((7, 9, 5), (5,), (1, 1, 5)),
        ((2, 7, 9, 5), (2, 5), (2, 1, 1, 5)),
    ],
)
@pytest.mark.parametrize("name", ["global_max_pool2d", "global_avg_pool2d"])
def test_global_pools_shapes(name, shape, flat, kept):
    pool = getattr(pycnn, name)
    for y, expected in [(pool(np.ones(shape)), flat), (pool(np.ones(shape), keepdims=True), kept)]:
        assert isinstance(y, np.ndarray)
        assert y.shape == expected
        assert (y == 1).all()


@pytest.mark.parametrize("name", ["global_max_pool2d", "global_avg_pool2d"])
def test_global_pools_zero_images_and_zero_channels(name):
    pool = getattr(pycnn, name)
    assert pool(np.ones((0, 7, 9, 5))).shape == (0, 5)
    assert pool(np.ones((7, 9, 0))).shape == (0,)


@pytest.mark.parametrize("name", ["global_max_pool2d", "global_avg_pool2d"])
def test_global_pools_an_image_without_pixels_is_refused(name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        getattr(pycnn, name)(np.ones((0, 5, 3)))


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("dtype", DTYPES)
def test_global_pools_values(rng, dtype, layout):
    x = LAYOUTS[layout](numbers(rng, (2, 13, 11, 5), dtype))
    y = pycnn.global_max_pool2d(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, reference.global_max_pool2d(x))
    y = pycnn.global_avg_pool2d(x)
    dtype = np.result_type(dtype, np.float32)
    assert y.dtype == dtype
    mean = reference.global_avg_pool2d(np.abs(x.astype(dtype)))
    bound = reference._rounding_bound(13 * 11 + 1, mean, dtype)
    assert_within(y, reference.global_avg_pool2d(x), bound)


def test_global_pools_nan_stays_in_its_channel(rng):
    x = rng.standard_normal((6, 7, 40)).astype(np.float32)
    x[3, 4, 20] = np.nan
    for y in (pycnn.global_max_pool2d(x), pycnn.global_avg_pool2d(x)):
        assert np.flatnonzero(np.isnan(y)).tolist() == [20]
