"""relu, leaky_relu, sigmoid and softmax: any rank, any dtype, any layout."""

import numpy as np
import pytest
from comparing import assert_same_bits, assert_within
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, FLOATS, LAYOUTS, OUT_LAYOUTS, arrays, numbers, out_like, plain

import pycnn
from pycnn import _reference as reference

NAMES = ["relu", "leaky_relu", "sigmoid", "softmax"]


def computing_dtype(x):
    return np.result_type(x.dtype.newbyteorder("="), np.float32)


def result_dtype(name, x):
    return x.dtype.newbyteorder("=") if name == "relu" else computing_dtype(x)


@given(arrays())
def test_relu_is_exact(x):
    y = pycnn.relu(x)
    assert type(y) is np.ndarray
    assert y.dtype == x.dtype.newbyteorder("=")
    np.testing.assert_array_equal(y, reference.relu(plain(x)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(arrays(), st.floats(-2, 2, width=32))
def test_leaky_relu_rounds_once_or_twice(x, slope):
    y = pycnn.leaky_relu(x, slope)
    dtype = computing_dtype(x)
    assert y.dtype == dtype
    expected = reference.leaky_relu(plain(x), slope)
    info = np.finfo(dtype)
    assert_within(y, expected, np.abs(expected) * info.eps + 2 * info.smallest_subnormal)


@given(arrays())
def test_sigmoid_is_within_4_units_in_the_last_place(x):
    y = pycnn.sigmoid(x)
    dtype = computing_dtype(x)
    assert y.dtype == dtype
    expected = reference.sigmoid(plain(x))
    info = np.finfo(dtype)
    assert_within(y, expected, 4 * np.abs(expected) * info.eps + 4 * info.smallest_subnormal)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(arrays(), st.data())
def test_softmax_keeps_its_bound(x, data):
    if x.ndim == 0:
        with pytest.raises(ValueError, match="^softmax: "):
            pycnn.softmax(x)
        return
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    y = pycnn.softmax(x, axis)
    dtype = computing_dtype(x)
    assert y.dtype == dtype
    expected = reference.softmax(plain(x), axis)
    info = np.finfo(dtype)
    wide = plain(x).astype(dtype).astype(expected.dtype)
    spread = 0
    if x.size:
        # x - max is rounded once, which moves exp(x - max) by |x - max| u; 800 is as good as inf.
        spread = np.clip(wide.max(axis=axis, keepdims=True) - wide, 0, 800)
        spread = np.nan_to_num(spread + spread.max(axis=axis, keepdims=True), nan=0)
    relative = (8 + x.shape[axis] + spread) * info.eps
    assert_within(y, expected, relative * np.nan_to_num(expected) + 4 * info.smallest_subnormal)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1,), (5,), (3, 4), (2, 3, 4), (2, 0, 3), (2, 1, 2, 1, 2, 1, 3)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_and_shape(name, shape, dtype):
    x = np.ones(shape, dtype)
    y = getattr(pycnn, name)(x)
    assert y.shape == shape
    assert y.dtype == result_dtype(name, x)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "sigmoid"])
def test_0d_in_0d_out(name):
    y = getattr(pycnn, name)(2.0)
    assert isinstance(y, np.ndarray)
    assert y.shape == ()


@pytest.mark.parametrize("dtype", FLOATS)
def test_relu_of_special_values(dtype):
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, -1, 1] * 20, dtype)
    np.testing.assert_array_equal(pycnn.relu(x), [np.nan, np.inf, 0, 0, 0, 0, 1] * 20)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_smooth_functions_of_special_values(dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0, 1e30, -1e30], dtype)
    with np.errstate(all="raise"):  # no warning reaches the caller
        np.testing.assert_array_equal(pycnn.sigmoid(x), [np.nan, 1, 0, 0.5, 1, 0])
        y = pycnn.softmax(np.array([[-np.inf, 0.0], [3e38, -3e38], [np.nan, 0]], dtype))
        np.testing.assert_array_equal(y, [[0, 1], [1, 0], [np.nan, np.nan]])


def test_leaky_relu_refuses_a_slope_that_the_result_cannot_hold():
    x = np.array([0.0, -0.0, 2, -1] * 9)
    np.testing.assert_array_equal(pycnn.leaky_relu(x, 1e60), [0, 0, 2, -1e60] * 9)
    with pytest.raises(ValueError, match=r"^leaky_relu: negative_slope=1e\+60 .* float32$"):
        pycnn.leaky_relu(x.astype(np.float32), 1e60)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 21, 24, 25, 100])
def test_softmax_of_a_row_has_the_bits_it_has_among_others(rng, dtype, length):
    x = 5 * rng.standard_normal((20_000 // length + 65, length)).astype(dtype)
    x[3, -1], x[4, 0], x[5] = np.nan, np.inf, -np.inf
    y = pycnn.softmax(x)
    for rows in [
        slice(1),
        slice(3, 4),
        slice(2, 9),
        slice(7, 70),
        slice(-63, None),
        slice(-64, None),
    ]:
        assert_same_bits(pycnn.softmax(x[rows]), y[rows])
    assert_same_bits(pycnn.softmax(x, out=x), y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "row", [[-np.nan, np.inf], [np.inf, np.nan], [np.inf, np.inf], [-np.nan] * 30]
)
def test_softmax_has_one_nan_wherever_a_row_stands(dtype, row):
    row = np.array(row, dtype)
    for n in [1, 2, 3, 5, 8, 9, 63, 64, 100]:
        for i in range(n):
            x = np.zeros((n, row.size), dtype)
            x[i] = row
            assert_same_bits(pycnn.softmax(x)[i], np.full_like(row, np.nan))


def test_softmax_sums_to_one_far_from_zero(rng):
    x = rng.standard_normal((50, 10)).astype(np.float32) * 80 + 1e4
    np.testing.assert_allclose(pycnn.softmax(x).sum(axis=-1), 1, rtol=2e-6)


@pytest.mark.parametrize("n", [*range(1, 40), 63, 64, 65, 127, 129, 1000])
@pytest.mark.parametrize("dtype", DTYPES)
def test_relu_at_every_length(rng, n, dtype):
    x = numbers(rng, (n,), dtype)
    assert_same_bits(pycnn.relu(x), np.where(x > 0, x, np.zeros((), dtype)))


@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["int16", "float16", "float32", "float64"])
def test_every_layout_by_name(rng, name, layout, dtype):
    x = LAYOUTS[layout](numbers(rng, (4, 5, 6), dtype))
    function = getattr(pycnn, name)
    assert_same_bits(function(x), function(plain(x)))


@pytest.mark.parametrize("layout", OUT_LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_out_of_any_layout(rng, name, layout):
    x = rng.standard_normal((4, 5, 6)).astype(np.float32)
    function = getattr(pycnn, name)
    expected = function(x)
    out = out_like(expected, layout)
    assert function(x, out=out) is out
    assert_same_bits(out, expected)


@pytest.mark.parametrize("shift", [0, 1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_out_may_overlap_the_input(rng, name, shift):
    memory = rng.standard_normal(70_000)
    x = memory[:60_000].reshape(200, 300)
    function = getattr(pycnn, name)
    expected = function(x.copy())
    out = memory[shift : shift + 60_000].reshape(200, 300)
    function(x, out=out)
    assert_same_bits(out, expected)


@pytest.mark.parametrize("name", NAMES)
def test_in_place(rng, name):
    x = rng.standard_normal((20, 30))
    function = getattr(pycnn, name)
    expected = function(x.copy())
    assert function(x, out=x) is x
    assert_same_bits(x, expected)


KEEP_THE_DTYPE = [("relu", dtype) for dtype in DTYPES]
KEEP_THE_DTYPE += [("leaky_relu", "float32"), ("leaky_relu", "float64")]


@pytest.mark.parametrize("n", [*range(1, 36), 63, 64, 65, 127, 129, 1000, 4099])
@pytest.mark.parametrize(("name", "dtype"), KEEP_THE_DTYPE)
def test_in_place_and_beside_it_at_every_length_and_start(rng, name, dtype, n):
    """In the memory of the input, and in memory that begins some elements before or behind it."""
    function = getattr(pycnn, name)
    numbers_around = numbers(rng, (n + 4,), dtype)
    for start in (0, 1, 3):
        for target in (start, 0, 1, 4):
            memory = numbers_around.copy()
            x, out = memory[start : start + n], memory[target : target + n]
            expected = memory.copy()
            expected[target : target + n] = function(x.copy())
            assert function(x, out=out) is out
            assert_same_bits(memory, expected)


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize(("name", "dtype"), KEEP_THE_DTYPE[-4:])
def test_in_place_beyond_the_caches(rng, name, dtype, start):
    function = getattr(pycnn, name)
    x = rng.standard_normal(2**24 // np.dtype(dtype).itemsize + 39).astype(dtype)[start:]
    expected = function(x)
    function(x, out=x)
    assert_same_bits(x, expected)
