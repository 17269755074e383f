"""Sequential: layers one behind the other, whatever runs fused."""

import copy
import itertools
import pickle
import sys
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from children import run_well
from comparing import assert_helpful, assert_same_bits
from hypothesis import given
from hypothesis import strategies as st

import pycnn
from pycnn import (
    Add,
    AvgPool2D,
    BatchNorm,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    GlobalMaxPool2D,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
)
from pycnn.layers._plan import Plan


def small_net(**kwargs):
    """Return a network with every way in which layers are computed together."""
    rng = np.random.default_rng(7)
    return Sequential(
        [
            Conv2D(8, 3, padding="same", use_bias=False, seed=rng),
            normalization(rng, 8),
            ReLU(),
            MaxPool2D(3, 2, ceil_mode=True),
            Dropout(0.25),
            Sequential([Conv2D(8, 1, seed=rng), LeakyReLU(), AvgPool2D()]),
            Concatenate([Conv2D(4, 1, seed=rng, activation="relu"), [Conv2D(4, 3, padding=1)], []]),
            Add([[Conv2D(16, 3, padding=1, seed=rng), normalization(rng, 16)], []]),
            ReLU(),
            Flatten(),
            Dense(9, seed=rng),
            normalization(rng, 9),
            Softmax(),
        ],
        **kwargs,
    )


def normalization(rng, channels):
    gamma, beta, mean = rng.standard_normal((3, channels))
    return BatchNorm.from_arrays(gamma, beta, mean, rng.random(channels) + 0.5, epsilon=1e-3)


def images(rng, n, shape, dtype=np.float32):
    return rng.standard_normal((n, *shape)).astype(dtype)


# ---- the result ---------------------------------------------------------------------------------

CONVS = st.builds(
    Conv2D,
    st.integers(1, 5),
    st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.sampled_from(["valid", "same", 1]),
    use_bias=st.booleans(),
    activation=st.sampled_from([None, None, "relu", "sigmoid"]),
    seed=st.integers(0, 99),
)
OTHERS = st.one_of(
    st.builds(MaxPool2D, st.integers(1, 3), st.sampled_from([None, 1, 2]), ceil_mode=st.booleans()),
    st.builds(AvgPool2D, st.integers(1, 3), padding=st.sampled_from(["valid", "same"])),
    st.builds(BatchNorm),
    st.builds(ReLU),
    st.builds(LeakyReLU, st.sampled_from([0.01, 0.2])),
    st.builds(Sigmoid),
    st.builds(Softmax, st.sampled_from([-1, -2])),
    st.builds(Dropout),
)
LAYERS = st.recursive(
    CONVS | OTHERS,
    lambda inner: st.one_of(
        st.builds(Sequential, st.lists(inner, max_size=3)),
        st.builds(Concatenate, st.lists(st.lists(inner, max_size=2), min_size=1, max_size=3)),
        st.builds(Add, st.lists(st.lists(inner, max_size=2), min_size=1, max_size=3)),
    ),
    max_leaves=4,
)


@given(
    st.lists(LAYERS, min_size=1, max_size=6),
    st.sampled_from([(9, 8), (9, 8, 1), (9, 8, 3)]),
    st.sampled_from([np.float32, np.float64, np.int32, np.uint8]),
)
def test_the_fused_calls_are_the_layers_one_by_one(layers, shape, dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (3, *shape)).astype(dtype)
    before = x.copy()
    try:
        net = Sequential(layers, input_shape=shape)
    except ValueError:
        return  # layers that do not fit each other
    for _, layer in pycnn.layers._layer.walk(net):
        if isinstance(layer, BatchNorm):
            size = layer.gamma.size
            values = rng.standard_normal((3, size)), rng.random((1, size)) + 0.5
            layer._set_arrays(
                dict(zip(layer.arrays, np.concatenate(values), strict=True)), "batch_norm"
            )
    expected = x
    for layer in net.layers:
        expected = layer._forward(expected)
    actual = net(x)
    assert actual.dtype == expected.dtype
    epsilon = np.finfo(np.result_type(expected, np.float32)).eps
    scale = np.abs(expected).max(initial=1)
    np.testing.assert_allclose(actual, expected, 200 * epsilon, 200 * epsilon * scale)
    np.testing.assert_array_equal(x, before)
    for image, result in zip(x, actual, strict=True):
        assert_same_bits(net(image), result)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64, np.float16])
def test_a_batch_is_its_images(rng, dtype):
    net = small_net()
    x = (images(rng, 5, (13, 14, 3)) * 20).astype(dtype)
    batch = net(x)
    assert batch.dtype == np.result_type(dtype, np.float32)
    for image, expected in zip(x, batch, strict=True):
        assert_same_bits(net(image), expected)
    assert net(x[:0]).shape == (0, 9)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("wide", [None, 0, 1, 3])
def test_layers_in_a_row_have_the_bits_of_their_calls(rng, dtype, wide):
    """LeNet, with every layer in float32 or one of them, `wide`, in float64."""
    filters = [rng.standard_normal((n, 3, 3, c)).astype(np.float32) for n, c in ((6, 1), (16, 6))]
    matrices = [rng.standard_normal(shape).astype(np.float32) for shape in ((256, 20), (20, 3))]
    if wide is not None:
        chosen = filters if wide < 2 else matrices
        chosen[wide % 2] = chosen[wide % 2].astype(np.float64)
    biases = [rng.standard_normal(len(f)).astype(np.float32) for f in filters]
    net = Sequential(
        [
            Conv2D.from_arrays(filters[0], biases[0], activation="relu"),
            MaxPool2D(),
            Conv2D.from_arrays(filters[1], biases[1], padding=1),
            LeakyReLU(),
            AvgPool2D(),
            Flatten(),
            Dense.from_arrays(matrices[0], activation="relu"),
            Dense.from_arrays(matrices[1]),
        ]
    )
    for n in (2, 1, 3, 9, 8, 7, 6, 5, 4, 2):  # more than are kept
        x = rng.integers(0, 9, (n, 18, 18, 1)).astype(dtype)
        maps = pycnn.conv_relu_pool(x, filters[0], biases[0])
        maps = pycnn.conv_relu_pool(
            maps, filters[1], biases[1], padding=1, activation="leaky_relu", pool="avg"
        )
        expected = pycnn.dense(maps.reshape(n, -1), matrices[0], activation="relu")
        assert_same_bits(net(x), pycnn.dense(expected, matrices[1]))
    net["dense_1"].weights = 2 * matrices[0]
    expected = pycnn.dense(maps.reshape(n, -1), 2 * matrices[0], activation="relu")
    assert_same_bits(net(x), pycnn.dense(expected, matrices[1]))
    assert net(x[:0]).shape == (0, 3)


def test_a_batch_that_outgrows_the_cache(rng):
    """It goes through in parts, with the same bits."""
    net = Sequential([Conv2D(16, 3, padding="same", seed=0), ReLU(), GlobalAvgPool2D()])
    x = images(rng, 7, (150, 150, 4))
    batch = net(x)
    assert 1 <= net._plans[x.shape[1:]].samples < 7
    assert_same_bits(batch, np.stack([net(image) for image in x]))


@pytest.mark.parametrize("behind", [[], [ReLU()], [MaxPool2D(1)], [Softmax(), AvgPool2D(1)]])
@pytest.mark.parametrize("gamma", [1.0, 1e30])
def test_statistics_that_do_not_fit_into_filters(behind, gamma):
    """The filters would be 0, 1e50 and infinity; neither NaN nor a warning comes of it."""
    filters = np.array([0, 1e20, 1e38], np.float32).reshape(3, 1, 1, 1)
    norm = BatchNorm.from_arrays([gamma] * 3, [0.0] * 3, [1.0] * 3, [0.0] * 3, epsilon=1e-4)
    net = Sequential([Conv2D.from_arrays(filters), norm, *behind])
    x = np.full((2, 3, 3, 1), 1e-20, np.float32)
    assert_same_bits(net(x), list(net.feature_maps(x).values())[-1])
    dead = BatchNorm.from_arrays(*np.ones((3, 3)), np.zeros(3), epsilon=0.0)
    net = Sequential([Conv2D.from_arrays(filters), dead, *behind])
    assert_same_bits(net(x), list(net.feature_maps(x).values())[-1])


def test_float64_images_are_normalised_in_float64(rng):
    """Folded into float32 filters the statistics would lose half their digits."""
    conv = Conv2D(4, 3, seed=0, input_shape=(9, 9, 3))
    norm = normalization(rng, 4)
    net = Sequential([conv, norm])
    x = images(rng, 2, (9, 9, 3), np.float64)
    maps = pycnn.conv2d(x, conv.filters, conv.bias)
    expected = norm.gamma * (maps - norm.mean) / np.sqrt(norm.variance + 1e-3) + norm.beta
    np.testing.assert_allclose(net(x), expected, 1e-13, 1e-13)
    single = net(x.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, 1e-5, 1e-5)


def test_grey_images_alone_and_in_batches(rng):
    layers = [Conv2D(4, 3, seed=0), ReLU(), MaxPool2D(), GlobalMaxPool2D(), Dense(3, seed=1)]
    net = Sequential(layers, input_shape=(12, 12))
    assert layers[0].filters.shape == (4, 3, 3)
    x = images(rng, 6, (12, 12))
    batch = net(x)
    assert batch.shape == (6, 3)
    for image, expected in zip(x, batch, strict=True):
        assert_same_bits(net(image), expected)
    unbuilt = Sequential([MaxPool2D(), BatchNorm(), GlobalAvgPool2D()])
    np.testing.assert_allclose(
        unbuilt.predict(x), x.reshape(6, 6, 2, 6, 2).max((2, 4)).mean((1, 2)), 1e-4, 1e-6
    )


def test_the_input_is_never_overwritten_and_never_returned(rng):
    x = images(rng, 2, (6, 6, 3))
    before = x.copy()
    for layers in (
        [ReLU()],
        [Dropout(), ReLU()],
        [Flatten(), Sigmoid()],
        [BatchNorm()],
        [],
        [Flatten()],
    ):
        result = Sequential(layers)(x)
        np.testing.assert_array_equal(x, before)
        assert not np.shares_memory(result, x)
    residual = Sequential([Conv2D(3, 1, seed=0), Add([[ReLU()], [], [Sigmoid(), ReLU()]])])
    conv = residual.layers[0](x)
    expected = np.maximum(conv, 0) + conv + 1 / (1 + np.exp(-conv))
    np.testing.assert_allclose(residual(x), expected, 1e-5, 1e-6)


def test_other_sizes_where_the_layers_take_them(rng):
    net = Sequential([Conv2D(4, 3, seed=0), MaxPool2D(), GlobalAvgPool2D(), Dense(2, seed=0)])
    for size in (8, 9, 20, 8):
        assert net(images(rng, 3, (size, size + 1, 3))).shape == (3, 2)
    with pytest.raises(ValueError) as info:
        net(np.ones((9, 9, 4)))
    assert_helpful(info, "conv2d_1", "(9, 9, 4)", "(4, 3, 3, 3)")


def test_more_shapes_than_plans_are_kept(rng):
    net = Sequential([GlobalAvgPool2D()])
    for size in range(1, 200):
        assert net(np.ones((size, 3, 2), np.float32)).shape == (2,)
    assert len(net._plans) <= 64


def test_new_filters_are_used_at_once(rng):
    net = Sequential([Conv2D(4, 3, seed=0), normalization(rng, 4), Dense(2, seed=0)][:2])
    x = images(rng, 1, (9, 9, 3))
    first = net(x)
    conv = net["conv2d_1"]
    conv.filters = 2 * conv.filters
    conv.bias = 2 * conv.bias
    second = net(x)
    norm = net["batch_norm_1"]
    np.testing.assert_allclose(second, norm(pycnn.conv2d(x, conv.filters, conv.bias)), 1e-4, 1e-5)
    assert np.abs(first - second).max() > 0.1


def test_options_stay_so_that_plans_do(rng):
    net = Sequential([Conv2D(4, 3, seed=0), Flatten(), Dense(2, activation="softmax", seed=0)])
    net(images(rng, 1, (9, 9, 3)))
    with pytest.raises(AttributeError) as info:
        net["dense_1"].activation = None
    assert_helpful(info, "dense", "activation", "make another layer")
    for name, value in (("layers", ()), ("input_shape", (8, 8, 3)), ("name", "net")):
        with pytest.raises(AttributeError):
            setattr(net, name, value)


# ---- predict ------------------------------------------------------------------------------------


def test_predict_takes_any_iterable(rng):
    net, x = small_net(), images(rng, 11, (13, 14, 3))
    expected = net(x)
    for samples in (x[::-1][::-1], list(x), tuple(x), x.tolist(), iter(x)):
        np.testing.assert_allclose(net.predict(samples, 4), expected, 1e-5)
    for batch_size in (1, 3, 32):
        assert_same_bits(net.predict(x, batch_size), expected)
    assert net.predict(x[:0]).shape == (0, 9)


def test_predict_reads_a_generator_a_batch_at_a_time():
    net, asked = Sequential([GlobalAvgPool2D()]), []

    def samples():
        for index in range(10):
            asked.append(index)
            yield np.full((4, 4, 1), index)

    seen = []
    run, net._run = net._run, lambda batch: seen.append(len(asked)) or run(batch)
    np.testing.assert_array_equal(net.predict(samples(), 4)[:, 0], np.arange(10))
    assert seen == [4, 8, 10]


@pytest.mark.parametrize("end", ["sigmoid", "softmax"])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_of_whole_arrays_follow_layers_in_a_row(rng, end, pool, dtype):
    layers = [
        Conv2D(6, 3, activation="relu", seed=0),
        Conv2D(16, 3, activation="sigmoid", seed=1),
        *([MaxPool2D()] if pool else []),
        Conv2D(8, 3, seed=2),
        Flatten(),
        Flatten(),
        Dense(20, activation=end, seed=3),
        Dense(5, activation="relu", seed=4),
        Dense(3, activation=end, seed=5),
    ]
    net = Sequential(layers, input_shape=(12, 12, 1))
    for n in (1, 4):
        x = rng.standard_normal((n, 12, 12, 1)).astype(dtype)
        *_, expected = net.feature_maps(x).values()
        assert_same_bits(net(x), expected)


def test_batches_of_all_sizes_share_the_weights_in_another_dtype():
    net = Sequential([Dense(1000, seed=0), Dense(40, seed=1)], input_shape=(1000,))
    x = np.ones((9, 1000))
    tracemalloc.start()
    for n in range(1, 8):
        net(x[:n])
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1.5 * x.itemsize * sum(layer.weights.size for layer in net)


def test_weights_that_were_replaced_are_not_kept():
    net = Sequential([Dense(30, seed=0), Dense(2, seed=1)], input_shape=(8,))
    x = np.ones((6, 8), np.float32)
    old = []
    for n in (1, 2, 3, 2, 4, 5):
        net(x[:n])
        old.append(weakref.ref(net[0].weights))
        net[0].weights = 2 * net[0].weights
    net(x)
    assert all(ref() is None for ref in old)
    for last in (net.predict, net):
        net(x[0])
        old = weakref.ref(net[0].weights)
        net[0].weights = 2 * net[0].weights
        last(np.ones((60_000, 8), np.float32))  # more than go through all layers at once
        assert old() is None


@pytest.mark.parametrize("end", [None, "relu", "softmax"])
def test_a_call_like_the_last_one_is_not_planned(rng, monkeypatch, end):
    layers = [Conv2D(4, 3, seed=0), MaxPool2D(), Flatten(), Dense(3, activation=end, seed=1)]
    net, other = (Sequential(layers, input_shape=(9, 9, 1)) for _ in range(2))
    for x in (rng.random((9, 9, 1), np.float32), rng.random((5, 9, 9, 1))):
        net(x)
        expected = other(x)
        with monkeypatch.context() as patch:
            patch.setattr(Sequential, "_plan_for", None)
            assert_same_bits(net(x), expected)
            assert_same_bits(net(x[::-1][::-1]), expected)
            with pytest.raises(TypeError, match="not callable"):
                net(x.astype(np.uint8))


def test_weights_of_another_dtype_while_a_call_is_remembered(rng, monkeypatch):
    layers = [Dense(9, seed=0), Dense(5000, seed=1)]
    net = Sequential(layers, input_shape=(8,))
    x = rng.random(8, np.float32)
    last_call = Plan.last_call

    def late(*args):
        monkeypatch.undo()
        layers[0].weights = layers[0].weights.astype(float)
        net(x)
        return last_call(*args)

    monkeypatch.setattr(Plan, "last_call", late)
    assert net(x).dtype == np.float32
    for _ in range(2):
        assert_same_bits(net(x), Sequential(layers)(x))


def test_a_call_like_the_last_one_sees_what_was_changed(rng):
    layers = [Conv2D(4, 3, seed=0), BatchNorm(), MaxPool2D(), Flatten(), Dense(3, seed=1)]
    net = Sequential(layers, input_shape=(9, 9, 1))
    x = rng.random((5, 9, 9, 1), np.float32)

    def check():
        for value in (x[0], x[1], x, x, x[:2], x[0][::-1], x[0].astype(float), x[0].tolist()):
            for _ in range(2):
                actual = net(value)
                assert_same_bits(actual, Sequential(layers, input_shape=(9, 9, 1))(value))

    check()
    layers[4].bias = [1, 2, 3]
    check()
    layers[0].filters = rng.random((4, 3, 3, 1))
    check()
    layers[1]._set_arrays({name: 1 + rng.random(4) for name in layers[1].arrays}, "")
    check()
    for wrong in (x[0, :5], x[0, ..., 0], x[None], x[..., [0, 0]]):
        net(x[0])
        with pytest.raises(ValueError, match=r"conv2d_1|sequential|flatten|dense"):
            net(wrong)
    again = pickle.loads(pickle.dumps(net))
    assert_same_bits(again(x[0]), net(x[0]))
    del vars(again)["_last"]  # as in a pickle of an earlier version
    assert_same_bits(again(x[0]), net(x[0]))


def test_weights_cannot_be_changed_or_moved_under_the_engine():
    net = Sequential([Dense(30, seed=0), BatchNorm(), Dense(2, seed=1)], input_shape=(8,))
    net(np.ones((2, 8), np.float32))
    for layer in net:
        for array in layer.arrays.values():
            with pytest.raises(ValueError, match="WRITEABLE"):
                array.flags.writeable = True
            with pytest.raises(ValueError, match="own"):
                array.resize((1,), refcheck=False)


@pytest.mark.parametrize(
    ("net", "shape", "sample"),
    [
        (Sequential([Conv2D(2, 3)], input_shape=(9, 9)), (9, 9), (9,)),
        (Sequential([Conv2D(2, 3)], input_shape=(9, 9, 3)), (9, 9, 3), (9, 3)),
        (Sequential([Flatten(), Dense(2)], input_shape=(9, 9)), (9, 9), (9,)),
        (Sequential([Conv2D.from_arrays(np.ones((2, 3, 3)))]), (9, 9), (9,)),
    ],
)
def test_predict_says_how_to_give_a_single_sample(net, shape, sample):
    x = np.ones(shape, np.float32)
    for X in (x, list(x)):
        with pytest.raises(ValueError) as info:
            net.predict(X)
        assert_helpful(info, "sequential.predict", sample, len(sample) + 1, "X[None]")
    assert len(net.predict(x[None])) == 1


def test_predict_mixes_dtypes_that_are_computed_alike(rng):
    net, x = small_net(), images(rng, 4, (13, 14, 3), np.uint8)
    mixed = [x[0], x[1].astype(np.float32), x[2].astype(np.int16), x[3].astype(np.float16)]
    for batch_size in (1, 2, 4):
        assert_same_bits(net.predict(mixed, batch_size), net(x))


def test_predict_has_the_result_in_memory_once():
    net = Sequential([Conv2D(4, 1, seed=0)])
    x = np.ones((400, 32, 32, 1), np.uint8)
    net.predict(x[:32])
    tracemalloc.start()
    try:
        result = net.predict(x)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.nbytes < peak < 1.3 * result.nbytes


def test_predict_of_a_memory_mapped_file(tmp_path, rng):
    net, x = small_net(), images(rng, 9, (13, 14, 3))
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert_same_bits(net.predict(mapped, 4), net(x))


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ([], ValueError, ["no samples"]),
        (iter(()), ValueError, ["no samples"]),
        (
            [np.ones((9, 9, 3)), np.ones((9, 8, 3))],
            ValueError,
            ["sample 1", "(9, 8, 3)", "(9, 9, 3)"],
        ),
        (7, TypeError, ["int"]),
        ("images", TypeError, ["str"]),
        ([np.ones((9, 9, 3), complex)], TypeError, ["complex128"]),
        (np.ones((2, 9, 9, 3), object), TypeError, ["object"]),
        (np.array(1.0), ValueError, ["single numbers"]),
        (np.ones(3), ValueError, ["single numbers"]),
        (range(3), ValueError, ["single numbers"]),
        (
            [np.ones((9, 9, 3), "u1"), np.ones((9, 9, 3), "f4"), np.ones((9, 9, 3))],
            TypeError,
            ["sample 2", "float64", "uint8", "float32"],
        ),
    ],
)
def test_predict_refuses(given, error, words):
    with pytest.raises(error) as info:
        Sequential([GlobalAvgPool2D()]).predict(given)
    assert_helpful(info, "sequential.predict", *words)


def test_predict_of_other_bytes_is_native():
    net, x = Sequential([Flatten()]), np.arange(12, dtype=">f4").reshape(4, 3)
    for batch_size in (1, 2, 4):
        assert_same_bits(net.predict(x, batch_size), x.astype(np.float32))


@pytest.mark.parametrize("call", ["__call__", "feature_maps"])
def test_a_single_number_is_no_sample(call):
    net = Sequential([Flatten()])
    with pytest.raises(ValueError) as info:
        getattr(net, call)(np.float32(5))
    assert_helpful(info, "sequential", "single number")
    assert net.input_shape is None


def test_what_is_a_sample_stays_so():
    """Also where two threads made first calls of other dimensions."""
    net, x = Sequential([Flatten()]), np.ones((7, 5, 3), np.float32)
    net._plan_for((5, 3))
    net._plan_for((7, 5, 3))
    assert net(x).shape == (7, 15)
    assert net(x[:6]).shape == (6, 15)
    assert net(x[0]).shape == (15,)


@pytest.mark.parametrize("pool", [MaxPool2D, AvgPool2D])
@pytest.mark.parametrize("stride", [None, 1, 3])
@pytest.mark.parametrize("size", range(3, 10))
def test_a_pool_may_hang_over_all_of_a_convolution(pool, stride, size, rng):
    layers = [Conv2D(2, 3, seed=0), pool(3, stride, ceil_mode=True)]
    x = images(rng, 2, (size, size + 1, 1))
    try:
        expected = layers[1](layers[0](x))
    except ValueError:
        expected = None  # not even so
    if expected is None:
        with pytest.raises(ValueError, match="max_pool2d_1|avg_pool2d_1"):
            Sequential(layers)(x)
    else:
        assert_same_bits(Sequential(layers)(x), expected)


def test_the_progress_bar(capsys, rng, monkeypatch):
    pytest.importorskip("tqdm")
    net, x = Sequential([GlobalAvgPool2D()]), images(rng, 5, (4, 4, 2))
    assert_same_bits(net.predict(x, 2, progress=True), net(x))
    assert "5/5" in capsys.readouterr().err
    net.predict(iter(x), 2, progress=True)
    assert "5sample" in capsys.readouterr().err
    net.predict(x)
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError) as info:
        net.predict(x, progress=True)
    assert_helpful(info, "sequential.predict", "tqdm", "pip install")


# ---- what a network tells about itself ----------------------------------------------------------


def test_feature_maps(rng):
    net, x = small_net(), images(rng, 2, (13, 14, 3))
    maps = net.feature_maps(x)
    assert list(maps)[:6] == [
        "conv2d_1",
        "batch_norm_1",
        "relu_1",
        "max_pool2d_1",
        "dropout_1",
        "sequential_1/conv2d_1",
    ]
    assert "concatenate_1/branch_2/conv2d_1" in maps and "add_1" in maps
    assert [row.name for row in net.summary().rows] == list(maps)
    for row in net.summary().rows:
        assert maps[row.name].shape == (2, *row.output_shape)
    np.testing.assert_allclose(maps["softmax_1"], net(x), 1e-5)
    one = net.feature_maps(x[1])
    for name, array in maps.items():
        np.testing.assert_array_equal(one[name], array[1])


def test_summary_prints_and_counts():
    net = Sequential(
        [
            Conv2D(6, 5, groups=3, stride=2, padding=2),
            Concatenate([Conv2D(2, 1, use_bias=False), []], name="fork"),
            Flatten(),
            Dense(10),
        ],
    )
    with pytest.raises(ValueError) as info:
        net.summary()
    assert_helpful(info, "sequential.summary", "not built", "input_shape")
    summary = net.summary((8, 8, 3))
    assert [row[0] for row in summary.rows] == [
        "conv2d_1",
        "fork/branch_1/conv2d_1",
        "fork",
        "flatten_1",
        "dense_1",
    ]
    assert [row.n_parameters for row in summary.rows] == [6 * 25 + 6, 12, 0, 0, 1290]
    assert [row.multiply_adds for row in summary.rows] == [16 * 6 * 25, 16 * 12, 0, 0, 1280]
    assert summary.n_parameters == net.n_parameters == 156 + 12 + 1290
    text = str(summary)
    assert "fork/branch_1/conv2d_1" in text and "1,290" in text and "(4, 4, 8)" in text
    assert repr(summary) == text


def test_names():
    layers = [Conv2D(1, 1), Conv2D(1, 1, name="stem"), Conv2D(1, 1, name="conv2d_1"), Conv2D(1, 1)]
    net = Sequential([*layers, ReLU(), ReLU()])
    assert net.names == ("conv2d_2", "stem", "conv2d_1", "conv2d_3", "relu_1", "relu_2")
    assert net["stem"] is net[1] is layers[1]
    assert list(net) == list(net.layers) and len(net) == 6
    again = Sequential([layers[0]])  # names belong to networks
    assert again.names == ("conv2d_1",)
    with pytest.raises(KeyError, match="no layer 'head'"):
        net["head"]
    assert net[np.int64(-1)] is net.layers[5]
    for index in (6, -7, 2**70):
        with pytest.raises(IndexError, match=f"^sequential: no layer {index}; there are 6"):
            net[index]
    for index in (1.0, True, None):
        with pytest.raises(TypeError, match=f"^sequential: index={index} is a .*; expected an int"):
            net[index]
    with pytest.raises(ValueError) as info:
        Sequential([ReLU(name="a"), ReLU(name="a")])
    assert_helpful(info, "Sequential", "'a'", "two layers")


@pytest.mark.parametrize(
    "key", [slice(3), slice(2, None), slice(1, -1), slice(5, 5), slice(None), slice(None, None, 2)]
)
def test_a_slice_is_a_network_of_the_same_layers(rng, key):
    layers = [Conv2D(4, 3, padding=1, seed=0), ReLU(), BatchNorm(), Flatten(), Dense(256, seed=1)]
    for net in (Sequential(layers), Sequential(layers, input_shape=(8, 8))):
        part = net[key]
        assert type(part) is Sequential
        assert part.layers == net.layers[key]
    if key == slice(None, None, 2):
        assert part.input_shape is None
        return
    maps = [images(rng, 2, (8, 8))]
    for layer in layers:
        maps.append(layer(maps[-1]))
    start, stop, _ = key.indices(len(layers))
    assert part.input_shape == maps[start].shape[1:]
    result = part(maps[start])
    np.testing.assert_allclose(result, maps[max(start, stop)], 1e-5, 1e-5)
    assert_same_bits(part(maps[start][0]), result[0])


def test_the_network_and_its_slice_share_parameters(rng):
    net = Sequential([Conv2D(3, 3, seed=0), ReLU()])
    part = net[:1]
    x = images(rng, 1, (5, 5, 2))
    part(x)
    assert net[0].built
    net[0].filters = 2 * net[0].filters
    assert_same_bits(part(x), net[0](x))


def test_vectors_are_told_from_grey_images_as_by_a_layer_alone(rng):
    x = rng.standard_normal((32, 6))
    norm = normalization(rng, 6)
    inner = Add([[norm, ReLU()]])
    for net in (Sequential([norm, ReLU()]), Sequential([inner]), inner):
        assert_same_bits(net(x), ReLU()(norm(x)))


def test_one_layer_in_two_places(rng):
    shared = Conv2D(3, 3, padding=1, seed=0)
    net = Sequential([shared, ReLU(), shared])
    assert net.names == ("conv2d_1", "relu_1", "conv2d_2")
    x = images(rng, 2, (8, 8, 3))
    assert_same_bits(net(x), shared(pycnn.relu(shared(x))))


def test_repr_can_be_read_back():
    net = small_net()
    text = repr(net)
    assert "Conv2D(8, 3, padding='same', use_bias=False)" in text
    assert "MaxPool2D(pool_size=3, stride=2, ceil_mode=True)" in text
    again = eval(text, vars(pycnn))
    assert repr(again) == text
    assert again.names == net.names
    assert repr(Sequential()) == "Sequential([])"


# ---- what does not fit --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "shape", "name", "words"),
    [
        ([Conv2D(2, 3), Conv2D(2, 9)], (9, 9, 3), "conv2d_2", ["9", "7"]),
        ([Flatten(), Dense(3), Conv2D(2, 3)], (9, 9, 3), "conv2d_1", ["(3,)"]),
        ([Conv2D(2, 3), Dense(3)], (9, 9, 3), "dense_1", ["(7, 7, 2)", "Flatten"]),
        ([MaxPool2D(20)], (9, 9, 3), "max_pool2d_1", ["20", "9"]),
        ([Dense(3), GlobalAvgPool2D()], (4,), "global_avg_pool2d_1", ["(3,)"]),
        ([Conv2D(4, 1, groups=2)], (9, 9, 3), "conv2d_1", ["groups=2", "(9, 9, 3)"]),
        (
            [Conv2D.from_arrays(np.ones((2, 3, 3, 4)))],
            (9, 9, 3),
            "conv2d_1",
            ["(9, 9, 3)", "(2, 3, 3, 4)"],
        ),
        ([Dense.from_arrays(np.ones((5, 2)))], (4,), "dense_1", ["4", "(5, 2)"]),
        (
            [BatchNorm.from_arrays(*np.ones((4, 5)))],
            (9, 9, 3),
            "batch_norm_1",
            ["(9, 9, 3)", "(5,)"],
        ),
        ([Sequential([Conv2D(2, 9, name="deep")], name="in")], (3, 3, 1), "in/deep", ["9", "3"]),
        ([Add([Conv2D(2, 1), []])], (3, 3, 1), "add_1", ["(3, 3, 2)", "(3, 3, 1)"]),
        ([Concatenate([Conv2D(2, 2), []])], (3, 3, 1), "concatenate_1", ["(2, 2, 2)", "(3, 3, 1)"]),
        (
            [Concatenate([[ReLU()], [ReLU(), Conv2D(2, 5)]])],
            (3, 3, 1),
            "concatenate_1/branch_2/conv2d_1",
            ["5", "3"],
        ),
        ([Softmax(-3)], (3, 3), "softmax_1", ["(3, 3)", "-3"]),
    ],
)
def test_shapes_that_do_not_fit_are_named(layers, shape, name, words):
    for make in (
        lambda: Sequential(layers, input_shape=shape),
        lambda: Sequential(layers)(np.ones((1, *shape))[0]),
        lambda: Sequential(layers).output_shape(shape),
        lambda: Sequential(layers).predict(np.ones((2, *shape))),
    ):
        with pytest.raises(ValueError) as info:
            make()
        assert_helpful(info, name, *words)


def test_one_layer_that_does_not_fit_in_two_places_is_named():
    conv = Conv2D(4, 3, padding="same")
    net = Sequential([conv, conv])
    for _ in range(2):
        with pytest.raises(ValueError) as info:
            net(np.ones((8, 8, 3)))
        assert_helpful(info, "conv2d_2", "(8, 8, 4)", "(4, 3, 3, 3)")


def test_a_refused_input_builds_nothing():
    net = Sequential([Conv2D(2, 3, seed=0), Conv2D(2, 9)])
    with pytest.raises(ValueError):
        net(np.ones((9, 9, 4)))
    assert not net[0].built
    assert net(np.ones((11, 11, 3))).shape == (1, 1, 2)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (([Conv2D],), TypeError, ["not a layer"]),
        ((ReLU(),), TypeError, ["list of layers"]),
        (([], (1, 2, 3, 4)), ValueError, ["(1, 2, 3, 4)"]),
        (([], 7), ValueError, ["7", "(H, W)"]),
        (([], (0, 3)), ValueError, ["0", "at least 1"]),
        (([], (2**40, 2**40)), ValueError, ["too large"]),
        (([], None, "a/b"), ValueError, ["'a/b'"]),
        (([], None, 3), TypeError, ["3", "int"]),
        (([], None, "\n"), ValueError, ["printable"]),
        (([], None, ""), ValueError, ["1 to 100"]),
    ],
)
def test_refused_arguments(arguments, error, words):
    layers, shape, name = (*arguments, None, None)[:3]
    with pytest.raises(error) as info:
        Sequential(layers, input_shape=shape, name=name)
    who = "sequential" if shape else "Sequential"
    assert_helpful(info, who, *words)


def test_nesting_has_an_end():
    net = Sequential([ReLU()])
    for _ in range(15):
        net = Sequential([net])
    assert_same_bits(net(np.ones((2, 2))), np.ones((2, 2)))
    with pytest.raises(ValueError) as info:
        Sequential([net])
    assert_helpful(info, "Sequential", "16 deep")


def test_a_wrong_number_of_dimensions():
    net = Sequential([Conv2D(2, 3)], input_shape=(9, 9, 3))
    for shape in [(9,), (9, 9), (1, 1, 9, 9, 3)]:
        with pytest.raises(ValueError) as info:
            net(np.ones(shape))
        assert_helpful(info, "sequential", shape, "expected 3, or 4 for a batch")


# ---- copies, threads, processes -----------------------------------------------------------------


@pytest.mark.parametrize("built", [False, True])
def test_copies_and_pickles(rng, built):
    x = images(rng, 3, (13, 14, 3))
    net = small_net()
    if built:
        net(x)
    again = pickle.loads(pickle.dumps(net)), copy.deepcopy(net), copy.copy(net)
    for other in again:
        assert_same_bits(other(x), net(x))
        assert other.names == net.names and repr(other) == repr(net)


def test_threads_share_a_network_from_its_first_call(rng):
    x = images(rng, 16, (13, 14, 3))
    for attempt in range(10):
        net, alone = small_net(), small_net()
        net[6].branches[1][0]._seed = alone[6].branches[1][0]._seed = attempt
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(net, x))
        assert_same_bits(np.stack(results), alone(x))


def test_filters_that_are_assigned_while_another_thread_draws_some(monkeypatch):
    layer = Conv2D(2, 3, seed=0)
    given = np.ones((2, 3, 3, 1), np.float32)
    initialize = pycnn.layers._weighted.initialize

    def meanwhile(*args):
        layer.filters = given
        layer.bias = [1, 2]
        return initialize(*args)

    monkeypatch.setattr(pycnn.layers._weighted, "initialize", meanwhile)
    result = Sequential([layer])(np.ones((3, 3, 1), np.float32))
    assert_same_bits(layer.filters, given)
    assert_same_bits(result, np.float32([[[10, 11]]]))


def test_a_normalization_in_several_places_is_folded_once(rng, monkeypatch):
    norm = normalization(rng, 4)
    convs = [Conv2D(4, 1, seed=seed) for seed in range(3)]
    net = Sequential([layer for conv in convs for layer in (conv, norm)])
    x = images(rng, 2, (6, 6, 4))
    expected = net(x)
    folds = []
    scaled = Conv2D.scaled
    monkeypatch.setattr(Conv2D, "scaled", lambda *args: folds.append(args) or scaled(*args))
    assert_same_bits(net(x), expected)
    assert folds == []
    convs[1].bias = [1, 2, 3, 4]
    for _ in range(2):
        assert np.abs(net(x) - expected).max() > 0.1
    assert len(folds) == 1
    again = pickle.loads(pickle.dumps(net))
    assert_same_bits(again(x), net(x))


def test_processes(tmp_path):
    """Fork after use, spawn, and joblib's own processes: networks go there and compute the same."""
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "import numpy as np\n"
        "from test_sequential import small_net\n"
        "x = np.random.default_rng(0).standard_normal((6, 13, 14, 3)).astype('f4')\n"
        "def work(net): return net.predict(x, 2).tobytes()\n"
        "if __name__ == '__main__':\n"
        "    net = small_net()\n"
        "    net[6].branches[1][0]._seed = 3\n"
        "    right = work(net)\n"
        "    for method in multiprocessing.get_all_start_methods():\n"
        "        with multiprocessing.get_context(method).Pool(2) as pool:\n"
        "            assert pool.map(work, [net] * 3) == [right] * 3, method\n"
        "    try:\n"
        "        import joblib\n"
        "    except ImportError:\n"
        "        sys.exit()\n"
        "    done = joblib.Parallel(2)(joblib.delayed(work)(net) for _ in range(3))\n"
        "    assert done == [right] * 3, 'joblib'\n",
        encoding="utf-8",
    )
    run_well(str(script))


def test_generators_and_seeds():
    def parameters(seed):
        net = Sequential([Conv2D(4, 3, seed=seed), Flatten(), Dense(3, seed=seed)])
        net.build((6, 6, 3))
        return [array for layer in net for array in layer.arrays.values()]

    one, two = parameters(np.random.default_rng(3)), parameters(np.random.default_rng(3))
    for a, b in zip(one, two, strict=True):
        assert_same_bits(a, b)
    other = parameters(np.random.default_rng(4))
    assert any((a != b).any() for a, b in itertools.zip_longest(one, other))
