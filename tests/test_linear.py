"""dense: a matrix product within the bound."""

import numpy as np
import pytest
from comparing import activated_bound, assert_same_bits, assert_within
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, LAYOUTS, NUMBERS, OUT_LAYOUTS, numbers, out_like, plain, poison

import pycnn
from pycnn import _reference as reference


@st.composite
def dense_cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_in, n_out = draw(st.integers(1, 200)), draw(st.integers(1, 100))
    shape = draw(st.sampled_from([(n_in,), (draw(st.integers(0, 9)), n_in)]))
    kind = st.sampled_from(NUMBERS)
    x = numbers(rng, shape, draw(st.sampled_from(DTYPES)), draw(kind))
    weights = numbers(rng, (n_in, n_out), draw(st.sampled_from(DTYPES)), draw(kind))
    if draw(st.booleans()):
        poison(rng, x, 1)
        poison(rng, weights, 1)
    bias = numbers(rng, (n_out,), "float64") if draw(st.booleans()) else None
    layout = st.sampled_from(list(LAYOUTS))
    x, weights = LAYOUTS[draw(layout)](x), LAYOUTS[draw(layout)](weights)
    return x, weights, bias, draw(st.sampled_from([None, *OUT_LAYOUTS]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(dense_cases(), st.sampled_from([None, "relu", "leaky_relu", "sigmoid", "softmax"]))
def test_dense_keeps_the_bound(case, activation):
    x, weights, bias, out_layout = case
    expected = reference.dense(x, weights, bias)
    dtype = np.result_type(x.dtype.newbyteorder("="), weights.dtype.newbyteorder("="), np.float32)
    bound = reference.dense_bound(x, weights, bias)
    out = None
    if out_layout is not None:
        out = out_like(np.empty(expected.shape, dtype), out_layout)
    actual = pycnn.dense(x, weights, bias, activation=activation, out=out)
    assert out is None or actual is out
    assert type(actual) is np.ndarray
    assert actual.dtype == dtype
    bound = activated_bound(expected, bound, activation, dtype)
    assert_within(actual, reference._activate(expected, activation), bound)


@pytest.mark.parametrize("n_in", [0, 1, 2, 17, 1000])
@pytest.mark.parametrize("n_out", [1, 2, 31, 33, 130])
def test_whole_numbers_are_exact(rng, n_in, n_out):
    x = rng.integers(-9, 10, (3, n_in)).astype(np.float32)
    weights = rng.integers(-9, 10, (n_in, n_out)).astype(np.float32)
    bias = rng.integers(-9, 10, n_out)
    y = pycnn.dense(x, weights, bias)
    np.testing.assert_array_equal(y, x.astype(int) @ weights.astype(int) + bias)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_number_of_inputs_and_outputs(rng, dtype):
    for n in range(1, 67):
        for rows, n_in, n_out in [(1, n, 3), (5, n, 33), (1, 3, n), (5, 17, n), (n, 9, 5)]:
            x = rng.integers(-9, 10, (rows, n_in)).astype(dtype)
            weights = rng.integers(-9, 10, (n_in, n_out)).astype(dtype)
            bias = rng.integers(-9, 10, n_out).astype(dtype)
            expected = reference.dense(x, weights, bias)
            for layout in ("C", "Fortran", "every other"):
                y = pycnn.dense(x, LAYOUTS[layout](weights), bias)
                np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_every_layout_gives_the_same_bits(rng, layout):
    x = LAYOUTS[layout](rng.standard_normal((6, 70)))
    weights = LAYOUTS[layout](rng.standard_normal((70, 40)))
    assert_same_bits(pycnn.dense(x, weights), pycnn.dense(plain(x), plain(weights)))


def test_shapes():
    weights = np.ones((4, 3))
    assert pycnn.dense(np.ones(4), weights).shape == (3,)
    assert pycnn.dense(np.ones((2, 4)), weights).shape == (2, 3)
    assert pycnn.dense(np.ones((0, 4)), weights).shape == (0, 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_out", [*range(1, 20), 33, 65])
def test_one_row_has_the_bits_it_has_in_a_batch(rng, dtype, n_out):
    for n_in in (3, 8, 23, 301):
        x = rng.standard_normal((11, n_in)).astype(dtype)
        weights = rng.standard_normal((n_in, n_out)).astype(dtype)
        batch = pycnn.dense(x, weights)
        for row, expected in zip(x, batch, strict=True):
            assert_same_bits(pycnn.dense(row, weights), expected)
        layers = [pycnn.Dense(n, use_bias=False) for n in (n_out, 5)]
        network = pycnn.Sequential(layers, input_shape=(n_in,))
        layers[0].weights, layers[1].weights = weights, np.ones((n_out, 5), dtype)
        assert_same_bits(network(x), pycnn.dense(batch, layers[1].weights))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_place_of_the_weights_in_a_cache_line_changes_no_bit(rng, dtype):
    n_in = 20_000  # too large a matrix to be read by columns
    for n_out in [4, *range(7, 20), 31, 32, 33, 40]:
        memory = np.empty(n_in * n_out + 32, dtype)
        start = -memory.ctypes.data % 64 // memory.itemsize
        weights = rng.standard_normal((n_in, n_out)).astype(dtype)
        x = rng.standard_normal(n_in).astype(dtype)
        expected = pycnn.dense(np.stack([x, x]), weights)[0]
        for place in range(start, start + 16):
            placed = memory[place : place + weights.size].reshape(weights.shape)
            placed[...] = weights
            out = np.full(n_out, np.nan, dtype)
            assert_same_bits(pycnn.dense(x, placed, out=out), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_in", [127, 128])
@pytest.mark.parametrize("n_out", [1, 2, 3, 5, 9, 256])
def test_the_sign_of_a_zero_does_not_depend_on_the_batch(dtype, n_in, n_out):
    """The first product is too small for the dtype, and negative: a sum of -0, but no bias is."""
    tiny = np.finfo(dtype).tiny
    weights = np.full((n_in, n_out), -0.0, dtype)
    weights[0] = -tiny
    x = np.zeros((3, n_in), dtype)
    x[:, 0] = tiny
    y = pycnn.dense(x, weights, np.full(n_out, -0.0, dtype))
    assert not np.signbit(y).any()
    assert_same_bits(pycnn.dense(x[:1], weights, np.full(n_out, -0.0, dtype)), y[:1])


@pytest.mark.parametrize("n_out", [1, 3, 10, 16, 65, 500, 1025])
def test_many_vectors_are_shared_out_to_threads(rng, n_out):
    x = rng.standard_normal((9000 // n_out + 600, 301)).astype(np.float32)
    weights = rng.standard_normal((301, n_out)).astype(np.float32)
    with pycnn.config.threads(1):
        expected = pycnn.dense(x, weights)
    for n in (2, 3, 8):
        with pycnn.config.threads(n):
            assert_same_bits(pycnn.dense(x, weights), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_out", [128, 256, 1024, 2048 + 64])
@pytest.mark.parametrize("n_in", [63, 64, 65, 200])
def test_rows_that_share_a_place_in_the_cache(rng, dtype, n_in, n_out):
    """They are read some at a time, with the same bits for one vector or many, on any threads."""
    x = rng.standard_normal((150, n_in)).astype(dtype)
    weights = rng.standard_normal((n_in, n_out)).astype(dtype)
    bias = rng.standard_normal(n_out).astype(dtype)
    y = pycnn.dense(x, weights, bias, activation="relu")
    bound = reference.dense_bound(x, weights, bias)
    assert_within(y, np.maximum(reference.dense(x, weights, bias), 0), bound)
    for n in (1, 2, 15):
        assert_same_bits(pycnn.dense(x[:n], weights, bias, activation="relu"), y[:n])
    with pycnn.config.threads(3):
        assert_same_bits(pycnn.dense(x, weights, bias, activation="relu"), y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n_out", [1, 2, 3, 5, 7, 8, 9, 15, 17, 31, 33, 65])
def test_large_matrices_of_any_width(rng, dtype, n_out):
    """Some of them are read some rows at a time."""
    x = rng.integers(-3, 4, (3, 40_000)).astype(dtype)
    weights = rng.integers(-3, 4, (40_000, n_out)).astype(dtype)
    bias = rng.integers(-3, 4, n_out).astype(dtype)
    y = pycnn.dense(x, weights, bias)
    np.testing.assert_array_equal(y, x.astype(int) @ weights.astype(int) + bias)
    assert_same_bits(pycnn.dense(x[:1], weights, bias), y[:1])


def test_out_may_overlap(rng):
    x = rng.standard_normal((6, 6))
    weights = rng.standard_normal((6, 6))
    expected = pycnn.dense(x.copy(), weights)
    pycnn.dense(x, weights, out=x)
    assert_same_bits(x, expected)
