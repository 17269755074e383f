"""The layers alone: each against its function and the oracle, and what it says about itself."""

import copy
import json
import pickle

import numpy as np
import pytest
from comparing import assert_helpful, assert_same_bits, assert_within
from hypothesis import assume, given
from hypothesis import strategies as st

import pycnn
from pycnn import _reference as reference
from pycnn.layers import Layer, weights
from pycnn.layers._initializers import INITIALIZERS
from pycnn.layers._layer import config_options, walk

ONE_OF_EACH = [
    pycnn.Conv2D(3, (2, 3), stride=2, padding=1, dilation=2, seed=0, name="c"),
    pycnn.Dense(3, activation="relu", use_bias=False),
    pycnn.BatchNorm(epsilon=1e-3),
    pycnn.MaxPool2D(3, 2, padding=(1, 0), dilation=2, ceil_mode=True),
    pycnn.AvgPool2D(3, (2, 1), padding=((1, 0), (0, 1)), count_include_pad=True),
    pycnn.GlobalAvgPool2D(keepdims=True),
    pycnn.GlobalMaxPool2D(),
    pycnn.ReLU(),
    pycnn.LeakyReLU(0.5),
    pycnn.Sigmoid(),
    pycnn.Softmax(-2),
    pycnn.Flatten(),
    pycnn.Dropout(0.1),
    pycnn.Concatenate([pycnn.ReLU(), []]),
    pycnn.Add([[pycnn.ReLU(), pycnn.Sigmoid()], []]),
    pycnn.Sequential([pycnn.ReLU()], name="inner"),
]


def by_class(layers=ONE_OF_EACH):
    return pytest.mark.parametrize("layer", layers, ids=lambda layer: type(layer).__name__)


# ---- against the functions and the oracle -------------------------------------------------------

IMAGES = st.tuples(
    st.sampled_from([(9, 8), (9, 8, 1), (9, 8, 4), (2, 9, 8, 4)]),
    st.sampled_from([np.float32, np.float64, np.uint8, np.int32, bool]),
    st.integers(0, 99),
).map(lambda a: (np.random.default_rng(a[2]).random(a[0]) * 9 - 4).astype("i1").astype(a[1]))


@given(
    IMAGES,
    st.fixed_dictionaries(
        {
            "stride": st.sampled_from([1, 2, (2, 1)]),
            "padding": st.sampled_from(["valid", "same", "full", 1, (0, 2), ((1, 0), (0, 2))]),
            "dilation": st.sampled_from([1, 2, (1, 2)]),
            "activation": st.sampled_from([None, "relu", "leaky_relu"]),
        }
    ),
    st.integers(1, 5),
    st.booleans(),
)
def test_conv2d(x, kwargs, n_filters, use_bias):
    layer = pycnn.Conv2D(n_filters, (3, 2), use_bias=use_bias, seed=1, **kwargs)
    y = layer(x)
    assert_same_bits(y, pycnn.conv2d(x, layer.filters, layer.bias, **kwargs))
    assert layer.output_shape(x.shape[-3:]) == y.shape[-3:]
    activation = kwargs.pop("activation")
    bound = reference.conv2d_bound(x, layer.filters, layer.bias, **kwargs)
    exact = reference.conv2d(x, layer.filters, layer.bias, **kwargs)
    if activation != "leaky_relu":
        assert_within(y, reference._activate(exact, activation), bound)
    again = pycnn.Conv2D.from_arrays(layer.filters, layer.bias, activation=activation, **kwargs)
    assert_same_bits(again(x), y)


@given(IMAGES, st.sampled_from([1, 2, 4]), st.integers(1, 2))
def test_grouped_conv2d(x, groups, multiplier):
    assume(x.ndim > 2 and x.shape[-1] == 4)
    layer = pycnn.Conv2D(4 * multiplier, 3, groups=groups, seed=0)
    assert_same_bits(layer(x), pycnn.conv2d(x, layer.filters, layer.bias, groups=groups))
    assert layer.filters.shape == (4 * multiplier, 3, 3, 4 // groups)
    positions = 7 * 6
    assert layer.multiply_adds(x.shape[-3:]) == positions * layer.filters.size


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_the_precision_is_passed_on(rng, precision):
    x = rng.standard_normal((20, 20, 32)).astype(np.float32)
    layer = pycnn.Conv2D(32, 3, precision=precision, seed=0)
    expected = pycnn.conv2d(x, layer(x) is None or layer.filters, layer.bias, precision=precision)
    assert_same_bits(layer(x), expected)
    assert_same_bits(pycnn.Sequential([layer])(x), expected)


@given(IMAGES, st.sampled_from([2, 3, (1, 2)]), st.sampled_from([None, 1, (2, 1)]), st.booleans())
def test_pools(x, size, stride, ceil_mode):
    for layer, function, kwargs in [
        (pycnn.MaxPool2D, "max_pool2d", {"padding": "same"}),
        (pycnn.MaxPool2D, "max_pool2d", {"dilation": 2, "ceil_mode": ceil_mode}),
        (pycnn.AvgPool2D, "avg_pool2d", {"padding": "same", "count_include_pad": True}),
        (pycnn.AvgPool2D, "avg_pool2d", {"ceil_mode": ceil_mode}),
    ]:
        pool = layer(size, stride, **kwargs)
        y = pool(x)
        assert_same_bits(y, getattr(pycnn, function)(x, size, stride, **kwargs))
        np.testing.assert_allclose(y, getattr(reference, function)(x, size, stride, **kwargs), 1e-5)
        n = min(x.ndim, 3)
        assert pool.output_shape(x.shape[-n:]) == y.shape[-n:]


@given(IMAGES, st.booleans())
def test_global_pools(x, keepdims):
    for layer, function in [
        (pycnn.GlobalAvgPool2D, "global_avg_pool2d"),
        (pycnn.GlobalMaxPool2D, "global_max_pool2d"),
    ]:
        pool = layer(keepdims=keepdims)
        y = pool(x)
        assert_same_bits(y, getattr(pycnn, function)(x, keepdims=keepdims))
        np.testing.assert_allclose(y, getattr(reference, function)(x, keepdims=keepdims), 1e-5)
        assert pool.output_shape(x.shape[-3:]) == y.shape[x.ndim == 4 :]


@given(IMAGES)
def test_activations(x):
    for layer, function, args in [
        (pycnn.ReLU(), "relu", ()),
        (pycnn.LeakyReLU(0.3), "leaky_relu", (0.3,)),
        (pycnn.Sigmoid(), "sigmoid", ()),
        (pycnn.Softmax(), "softmax", ()),
        (pycnn.Softmax(-2), "softmax", (-2,)),
    ]:
        y = layer(x)
        assert_same_bits(y, getattr(pycnn, function)(x, *args))
        np.testing.assert_allclose(y, getattr(reference, function)(x, *args), 1e-5, 1e-37)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([np.float32, np.float64, np.int8]))
def test_dense(n_in, n_out, dtype):
    x = (np.random.default_rng(0).standard_normal((3, n_in)) * 9).astype(dtype)
    layer = pycnn.Dense(n_out, activation="relu", seed=0)
    y = layer(x)
    assert_same_bits(y, pycnn.dense(x, layer.weights, layer.bias, activation="relu"))
    bound = reference.dense_bound(x, layer.weights, layer.bias)
    assert_within(y, reference.dense(x, layer.weights, layer.bias, activation="relu"), bound)
    assert_same_bits(layer(x[1]), y[1])
    assert layer.output_shape((n_in,)) == (n_out,)
    assert layer.n_parameters == n_in * n_out + n_out
    assert_same_bits(pycnn.Dense.from_arrays(layer.weights, layer.bias, activation="relu")(x), y)


@given(IMAGES, st.sampled_from([0.0, 1e-5, 1e-3]))
def test_batch_norm(x, epsilon):
    n = 1 if x.ndim == 2 else x.shape[-1]
    rng = np.random.default_rng(0)
    gamma, beta, mean = rng.standard_normal((3, n))
    variance = rng.random(n) + 0.1
    layer = pycnn.BatchNorm.from_arrays(gamma, beta, mean, variance, epsilon=epsilon)
    y = layer(x)
    assert y.dtype == np.result_type(x, np.float32)
    rtol = 20 * np.finfo(y.dtype).eps
    expected = gamma * (x - mean) / np.sqrt(variance + epsilon) + beta
    np.testing.assert_allclose(y, expected, rtol, rtol * np.abs(expected).max() * 5)
    single = [a.astype(np.float32) for a in (gamma, beta, mean, variance)]
    layer = pycnn.BatchNorm.from_arrays(*single, epsilon=epsilon)
    np.testing.assert_allclose(layer(x.astype(np.float32)), y, 1e-5, 1e-5)
    np.testing.assert_allclose(pycnn.BatchNorm()(x), x / np.sqrt(1 + 1e-5), 1e-5)


def test_infinity_and_nan_go_through(rng):
    x = np.array([[np.inf, -np.inf, np.nan, 1.0]])
    y = pycnn.BatchNorm.from_arrays([1, 1, 1, 1], np.zeros(4), np.zeros(4), np.ones(4), epsilon=0)
    np.testing.assert_array_equal(y(x), x)
    np.testing.assert_array_equal(pycnn.Add([[], []])(x), 2 * x)


def test_flatten_and_dropout(rng):
    x = rng.random((2, 3, 4, 5))
    np.testing.assert_array_equal(pycnn.Flatten()(x), x.reshape(2, 60))
    np.testing.assert_array_equal(pycnn.Flatten()(x[0]), x[0].ravel())
    np.testing.assert_array_equal(
        pycnn.Flatten()(x[:, ::-1, :, ::2]), x[:, ::-1, :, ::2].reshape(2, 36)
    )
    assert pycnn.Flatten()(x[:0]).shape == (0, 60)
    np.testing.assert_array_equal(pycnn.Dropout(0.9)(x), x)


def test_branches(rng):
    x = rng.standard_normal((2, 9, 8, 4)).astype(np.float32)
    conv, other = pycnn.Conv2D(3, 3, padding=1, seed=0), pycnn.Conv2D(4, 1, seed=1)
    y = pycnn.Concatenate([conv, [other, pycnn.ReLU()], []])(x)
    np.testing.assert_array_equal(y, np.concatenate([conv(x), pycnn.relu(other(x)), x], -1))
    np.testing.assert_array_equal(pycnn.Add([other, []])(x[0]), other(x[0]) + x[0])
    total = pycnn.Sequential([pycnn.Add([[], other, other, [pycnn.ReLU()]])])(x)
    np.testing.assert_array_equal(total, x + other(x) + other(x) + pycnn.relu(x))
    small = np.full((2, 3, 3, 1), 200, np.uint8)
    np.testing.assert_array_equal(pycnn.Add([[], []])(small), np.full(small.shape, 400.0))
    np.testing.assert_array_equal(pycnn.Add([[]])(small), small)


# ---- parameters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers(name):
    conv = pycnn.Conv2D(64, 5, groups=2, initializer=name, seed=0, input_shape=(9, 9, 32))
    dense = pycnn.Dense(300, initializer=name, seed=np.random.default_rng(0), input_shape=(500,))
    grey = pycnn.Conv2D(64, 9, initializer=name, input_shape=(9, 9))
    for array, fan_in, fan_out in [
        (conv.filters, 16 * 25, 64 * 25),
        (dense.weights, 500, 300),
        (grey.filters, 81, 64 * 81),
    ]:
        assert array.dtype == np.float32
        if name in ("zeros", "ones"):
            assert (array == (name == "ones")).all()
            continue
        scale, kind = name.split("_")
        variance = {"he": 2 / fan_in, "lecun": 1 / fan_in, "glorot": 2 / (fan_in + fan_out)}[scale]
        spread = 5 * np.sqrt(2 / array.size)  # of five standard errors
        np.testing.assert_allclose(array.var(), variance, spread)
        assert abs(array.mean()) < 5 * np.sqrt(variance / array.size)
        largest = np.abs(array).max() / np.sqrt(variance)
        assert largest > 3 if kind == "normal" else 1.7 < largest <= np.sqrt(3) * (1 + 1e-6)
    for layer in (conv, dense, grey):
        assert layer.bias.dtype == np.float32 and not layer.bias.any()


def test_the_same_seed_gives_the_same_parameters():
    def filters(seed):
        return pycnn.Conv2D(4, 3, seed=seed, input_shape=(9, 9, 2)).filters

    assert_same_bits(filters(3), filters(3))
    assert_same_bits(filters(np.random.default_rng(3)), filters(np.random.default_rng(3)))
    assert (filters(3) != filters(4)).any() and (filters(None) != filters(None)).any()
    shared = np.random.default_rng(3)
    assert (filters(shared) != filters(shared)).any()
    unbuilt = pycnn.Conv2D(4, 3)
    x = np.ones((9, 9, 2))
    assert_same_bits(copy.deepcopy(unbuilt)(x), unbuilt(x))
    for wrong in ("seed", -1, 1.5):
        with pytest.raises((TypeError, ValueError)) as info:
            filters(wrong)
        assert_helpful(info, "Conv2D", "seed", repr(wrong))


def test_parameters_are_copied_and_read_only(rng):
    filters, bias = rng.random((2, 3, 3, 4)), rng.random(2)
    layer = pycnn.Conv2D.from_arrays(filters, bias)
    dense = pycnn.Dense.from_arrays(filters[0, 0], bias=rng.random(4))
    expected = layer(np.ones((3, 3, 4)))
    filters[:] = bias[:] = 0
    assert_same_bits(layer(np.ones((3, 3, 4))), expected)
    norm = pycnn.BatchNorm(input_shape=(4,))
    for array in (layer.filters, layer.bias, dense.weights, dense.bias, norm.gamma, norm.variance):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(AttributeError):
        layer.name = "other"


def test_assigning_parameters(rng):
    layer = pycnn.Conv2D(2, 3)
    with pytest.raises(ValueError) as info:
        layer.bias = [1, 2]
    assert_helpful(info, "conv2d", "filters first")
    layer.filters = rng.random((2, 3, 3, 4))
    assert layer.built and not layer.bias.any()
    layer.filters, layer.bias = np.ones((2, 3, 3, 4)), [1, 2]
    np.testing.assert_array_equal(layer(np.ones((3, 3, 4))), [[[37, 38]]])
    for wrong in (np.ones((2, 3, 3)), np.ones((2, 3, 3, 5)), np.ones((3, 3, 3, 4))):
        with pytest.raises(ValueError) as info:
            layer.filters = wrong
        assert_helpful(info, "conv2d", wrong.shape, "(2, 3, 3, 4)")
    with pytest.raises(ValueError) as info:
        layer.bias = [1]
    assert_helpful(info, "conv2d", "(1,)", "(2,)")
    with pytest.raises(TypeError) as info:
        layer.filters = np.ones((2, 3, 3, 4), complex)
    assert_helpful(info, "conv2d", "complex128")
    dense = pycnn.Dense(3, use_bias=False)
    dense.weights = np.ones((4, 3))
    assert dense.bias is None
    with pytest.raises(ValueError) as info:
        dense.bias = np.ones(3)
    assert_helpful(info, "dense", "use_bias=False")
    with pytest.raises(ValueError) as info:
        pycnn.Dense(3).weights = np.ones((4, 2))
    assert_helpful(info, "dense", "(4, 2)", "(n_in, 3)")


@pytest.mark.parametrize(
    "make",
    [
        lambda: pycnn.BatchNorm(input_shape=(2**50,), name="wide"),
        lambda: pycnn.Dense(2**50, input_shape=(1,), initializer="zeros", name="wide"),
        lambda: pycnn.Conv2D(2**50, 1, input_shape=(1, 1), name="wide"),
    ],
)
def test_parameters_beyond_memory(make):
    with pytest.raises(MemoryError) as info:
        make()
    assert_helpful(info, "wide", "1125899906842624")


def test_wrong_filters_of_a_layer_beyond_memory():
    for n_filters in (2**50, 2**62):
        with pytest.raises(ValueError) as info:
            pycnn.Conv2D(n_filters, 3).filters = np.ones((2, 3, 3))
        assert_helpful(info, "conv2d", "(2, 3, 3)", n_filters)


@pytest.mark.parametrize(
    ("make", "who", "words"),
    [
        (lambda: pycnn.Conv2D(0, 3), "Conv2D", ["n_filters", 0]),
        (lambda: pycnn.Conv2D(2.0, 3), "Conv2D", ["n_filters", "float"]),
        (lambda: pycnn.Conv2D(2, (3, 0)), "Conv2D", ["kernel_size", 0]),
        (lambda: pycnn.Conv2D(2, 3, stride="2"), "Conv2D", ["stride", "'2'"]),
        (lambda: pycnn.Conv2D(2, 3, padding="smae"), "Conv2D", ["padding", "'smae'"]),
        (lambda: pycnn.Conv2D(2, 3, padding=-1), "Conv2D", ["padding", -1]),
        (lambda: pycnn.Conv2D(3, 3, groups=2), "Conv2D", ["n_filters=3", "groups=2"]),
        (lambda: pycnn.Conv2D(2, 3, use_bias=1), "Conv2D", ["use_bias", 1]),
        (lambda: pycnn.Conv2D(2, 3, activation="tanh"), "Conv2D", ["'tanh'", "'relu'"]),
        (lambda: pycnn.Conv2D(2, 3, precision="low"), "Conv2D", ["'low'"]),
        (lambda: pycnn.Conv2D(2, 3, initializer="he"), "Conv2D", ["'he'", "'he_normal'"]),
        (lambda: pycnn.Conv2D(2, 3, initializer=None), "Conv2D", ["None", "'he_normal'"]),
        (lambda: pycnn.Conv2D.from_arrays(np.ones((2, 3))), "Conv2D", ["(2, 3)"]),
        (lambda: pycnn.Conv2D.from_arrays(np.ones((2, 3, 3)), [1]), "Conv2D", ["(1,)", "(2,)"]),
        (lambda: pycnn.Conv2D.from_arrays(np.ones((2, 3, 3)), groups=2), "Conv2D", ["groups=2"]),
        (lambda: pycnn.Conv2D.from_arrays(np.ones((2, 3, 3, 0))), "Conv2D", ["(2, 3, 3, 0)"]),
        (lambda: pycnn.Dense(0), "Dense", ["n_outputs", 0]),
        (lambda: pycnn.Dense(2, input_shape=(3, 3)), "dense", ["(3, 3)", "Flatten"]),
        (lambda: pycnn.Dense.from_arrays([1.0, 2.0]), "Dense", ["(2,)"]),
        (lambda: pycnn.Dense.from_arrays(np.ones((0, 2))), "Dense", ["(0, 2)"]),
        (lambda: pycnn.MaxPool2D(0), "MaxPool2D", ["pool_size", 0]),
        (lambda: pycnn.MaxPool2D(ceil_mode=None), "MaxPool2D", ["ceil_mode"]),
        (lambda: pycnn.AvgPool2D(count_include_pad=2), "AvgPool2D", ["count_include_pad", 2]),
        (lambda: pycnn.GlobalAvgPool2D(keepdims="no"), "GlobalAvgPool2D", ["keepdims", "'no'"]),
        (lambda: pycnn.LeakyReLU("0"), "LeakyReLU", ["negative_slope", "'0'"]),
        (lambda: pycnn.LeakyReLU(float("nan")), "LeakyReLU", ["nan"]),
        (lambda: pycnn.Softmax(0), "Softmax", ["axis=0", "negative"]),
        (lambda: pycnn.Softmax(-4), "Softmax", ["axis=-4"]),
        (lambda: pycnn.Softmax(None), "Softmax", ["axis=None"]),
        (lambda: pycnn.Dropout(2), "Dropout", ["rate=2"]),
        (lambda: pycnn.BatchNorm(epsilon=-1), "BatchNorm", ["epsilon=-1"]),
        (
            lambda: pycnn.BatchNorm.from_arrays(*np.ones((4, 2, 2))),
            "BatchNorm",
            ["gamma", "(2, 2)"],
        ),
        (lambda: pycnn.BatchNorm.from_arrays([1], [1], [1], [1, 2]), "BatchNorm", ["variance"]),
        (lambda: pycnn.BatchNorm.from_arrays([1], [1], [1], [-1]), "BatchNorm", ["negative", "-1"]),
        (lambda: pycnn.Add([]), "Add", ["at least one"]),
        (lambda: pycnn.Add(pycnn.ReLU()), "Add", ["ReLU()"]),
        (lambda: pycnn.Add(["relu"]), "Sequential", ["'relu'"]),
        (lambda: pycnn.Concatenate([[3]]), "Sequential", ["3 is not a layer"]),
        (lambda: pycnn.ReLU(name="a" * 101), "ReLU", ["1 to 100"]),
    ],
)
def test_refused_arguments(make, who, words):
    with pytest.raises((TypeError, ValueError)) as info:
        make()
    assert_helpful(info, who, *words)


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (pycnn.Conv2D(2, 3), (5,), ["(5,)", "(H, W, C)"]),
        (pycnn.Conv2D(2, 3, groups=2), (9, 9), ["groups=2", "(9, 9)"]),
        (pycnn.Conv2D(2, 3, input_shape=(9, 9)), (9, 9, 1, 1), ["4 dimensions"]),
        (pycnn.Dense(2, input_shape=(4,)), (5,), ["5 features", "(4, 2)"]),
        (pycnn.MaxPool2D(), (5,), ["(5,)", "(H, W)"]),
        (pycnn.GlobalAvgPool2D(), (0, 3, 1), ["no pixels"]),
        (pycnn.BatchNorm(input_shape=(9, 9, 3)), (2, 9, 9, 4), ["4 channels", "(3,)"]),
        (pycnn.Concatenate([pycnn.GlobalAvgPool2D(), []]), (4, 4, 3), ["(3,)", "(4, 4, 3)"]),
        (pycnn.Concatenate([pycnn.ReLU(), []]), (4, 4), ["grey", "(4, 4)"]),
    ],
)
def test_refused_inputs(layer, shape, words):
    with pytest.raises(ValueError) as info:
        layer(np.ones(shape))
    assert_helpful(info, layer.kind, *words)


def test_an_input_is_refused_again_after_one_that_fits():
    """Shapes are looked at once, and again after others or a change."""
    layer = pycnn.Conv2D(2, 3)
    fits, small, deep = np.ones((5, 5, 3)), np.ones((2, 5, 3)), np.ones((5, 5, 4))
    for wrong in [small, deep, small[None]]:
        assert layer(fits).shape == layer(fits).shape == (3, 3, 2)
        for _ in range(2):
            with pytest.raises(ValueError, match="conv2d"):
                layer(wrong)
    norm = pycnn.BatchNorm()
    norm(fits)
    norm._set_arrays({name: np.ones(4) for name in norm.arrays}, "norm")
    with pytest.raises(ValueError, match="3 channels but the statistics are of 4"):
        norm(fits)


# ---- what layers say about themselves -----------------------------------------------------------


def test_every_layer_is_here():
    exported = {
        value
        for value in vars(pycnn).values()
        if isinstance(value, type) and issubclass(value, Layer)
    }
    assert {type(layer) for layer in ONE_OF_EACH} == exported
    assert set(pycnn.layers._layer.LOADABLE.values()) == exported


@by_class()
def test_options_stay(layer):
    """A network that has planned its calls by them would not notice."""
    for option in config_options(type(layer)):
        with pytest.raises(AttributeError):
            setattr(layer, option, 1)


@by_class()
def test_reprs_and_configs_are_complete(layer):
    again = eval(repr(layer), vars(pycnn))
    assert repr(again) == repr(layer)
    config = layer.get_config()
    assert json.loads(json.dumps(config)) == json.loads(json.dumps(again.get_config()))
    assert config["class"] == type(layer).__name__


@by_class()
def test_copies_and_pickles(layer, rng):
    x = rng.random((6, 6) if not isinstance(layer, pycnn.Dense) else (6,)).astype(np.float32)
    if isinstance(layer, pycnn.Concatenate):
        x = x[..., None]
    for _ in range(2):  # the second time it is built
        copies = pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)
        assert all(again.get_config() == layer.get_config() for again in copies)
        for again in copies:
            assert_same_bits(again(x), layer(x))
            parameters = [a for _, inner in walk(again) for a in inner.arrays.values()]
            assert not any(a.flags.writeable for a in [*again.arrays.values(), *parameters])


def test_calls_leave_no_trace_in_pickles():
    for layer in (pycnn.Conv2D(2, 3, input_shape=(9, 9)), pycnn.MaxPool2D(), pycnn.ReLU()):
        before = pickle.dumps(layer)
        layer(np.ones((9, 9)))
        assert pickle.dumps(layer) == before


def test_a_pickle_holds_each_parameter_once():
    for layer in (pycnn.Conv2D(64, 3, input_shape=(8, 8, 64)), pycnn.Dense(99, input_shape=(99,))):
        n_bytes = sum(array.nbytes for array in layer.arrays.values())
        assert len(pickle.dumps(layer)) < n_bytes + 2000


def test_reprs():
    assert repr(pycnn.Conv2D(8, (3, 3), padding=((1, 1), (1, 1)))) == "Conv2D(8, 3, padding=1)"
    assert repr(pycnn.Conv2D(8, (3, 5), padding=(0, 2))) == "Conv2D(8, (3, 5), padding=(0, 2))"
    assert repr(pycnn.Conv2D(8, 3, padding=0)) == "Conv2D(8, 3, padding=0)"
    assert repr(pycnn.ReLU(name="a")) == "ReLU(name='a')"
    assert repr(pycnn.Add([pycnn.ReLU(), []])) == (
        "Add([\n    Sequential([\n        ReLU(),\n    ]),\n    Sequential([]),\n])"
    )


# ---- weights of other libraries -----------------------------------------------------------------


def test_keras_orders(rng):
    kernel = rng.random((3, 2, 4, 6))
    filters = weights.conv_from_keras(kernel)
    assert filters.shape == (6, 3, 2, 4)
    assert filters[5, 2, 1, 3] == kernel[2, 1, 3, 5]
    depthwise = weights.depthwise_from_keras(kernel)
    assert depthwise.shape == (24, 3, 2, 1)
    x = rng.random((7, 7, 4))
    y = pycnn.conv2d(x, depthwise, groups=4)
    for c in range(4):
        for m in range(6):
            expected = pycnn.conv2d(x[..., c], kernel[None, :, :, c, m])[..., 0]
            np.testing.assert_allclose(y[..., c * 6 + m], expected, 1e-12)


def test_torch_orders(rng):
    weight = rng.random((6, 4, 3, 2))
    filters = weights.conv_from_torch(weight)
    assert filters.shape == (6, 3, 2, 4) and filters[5, 2, 1, 3] == weight[5, 3, 2, 1]
    linear = rng.random((5, 24))
    np.testing.assert_array_equal(weights.dense_from_torch(linear), linear.T)
    image = rng.random((3, 2, 4))
    expected = linear @ image.transpose(2, 0, 1).ravel()
    again = image.ravel() @ weights.dense_from_torch(linear, (3, 2, 4))
    np.testing.assert_allclose(again, expected, 1e-12)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("conv_from_torch", (np.ones((3, 3)),), ["weight", "(3, 3)", "(F, C // groups, KH, KW)"]),
        ("conv_from_keras", (np.ones(3),), ["kernel", "(3,)"]),
        ("depthwise_from_keras", (np.ones(3),), ["multiplier"]),
        ("dense_from_torch", (np.ones(3),), ["(n_out, n_in)"]),
        ("dense_from_torch", (np.ones((3, 8)), (2, 2, 3)), ["(2, 2, 3)", "8"]),
        ("dense_from_torch", (np.ones((3, 8)), (8,)), ["(8,)"]),
        ("dense_from_torch", (np.ones((3, 8)), (0, 2, 4)), ["image_shape=0"]),
        ("dense_from_torch", (np.ones((3, 8), complex),), ["complex128"]),
    ],
)
def test_orders_are_checked(name, arguments, words):
    with pytest.raises((TypeError, ValueError)) as info:
        getattr(weights, name)(*arguments)
    assert_helpful(info, name, *words)
