"""Saved networks come back whole; what is no network is a ValueError, whatever it is."""

import copy
import json
import time

import numpy as np
import pytest
from comparing import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from test_sequential import normalization, small_net

import pycnn
from pycnn import Conv2D, Flatten, MaxPool2D, ReLU, Sequential
from pycnn._model_files import read_model, write_model
from pycnn.layers import Layer, _model
from pycnn.layers._layer import MAX_DEPTH, walk


def described(net=None):
    """Return a network's description, as a file gives it, and its arrays."""
    config, arrays = _model.describe(net or small_net(input_shape=(13, 14, 3)))
    return json.loads(json.dumps(config)), arrays


def restore(config, arrays):
    return _model.restore("net.npz", config, arrays)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_network_comes_back(tmp_path, rng, suffix, dtype):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    net = small_net(input_shape=(13, 14, 3), name="small")
    net[0].filters = net[0].filters.astype(dtype)
    x = rng.standard_normal((3, 13, 14, 3)).astype(np.float32)
    net.save(tmp_path / f"net{suffix}")
    again = Sequential.load(tmp_path / f"net{suffix}")
    assert_same_bits(again(x), net(x))
    assert repr(again) == repr(net) and again.names == net.names
    assert again.input_shape == (13, 14, 3) and again.name == "small"
    for (path, layer), (path_again, layer_again) in zip(walk(net), walk(again), strict=True):
        assert path == path_again
        for name, array in layer.arrays.items():
            assert_same_bits(layer_again.arrays[name], array)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float16, ">f4", bool])
def test_weights_of_other_dtypes_compute_the_same(tmp_path, rng, dtype):
    """They are saved in the dtype in which they are computed."""
    net = Sequential([Conv2D.from_arrays(rng.integers(0, 9, (2, 3, 3, 4)).astype(dtype))])
    x = rng.standard_normal((9, 9, 4)).astype(np.float32)
    expected = net(x)
    net.save(tmp_path / "net.npz")
    assert_same_bits(Sequential.load(tmp_path / "net.npz")(x), expected)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_metadata_come_back(tmp_path, suffix):
    metadata = {"classes": ["a", "\u732b", "\ud800"], "nested": {"range": [0, 1.5, None, True]}}
    Sequential([ReLU()], metadata=metadata).save(tmp_path / f"net{suffix}")
    assert Sequential.load(tmp_path / f"net{suffix}").metadata == metadata
    for wrong, sentence in (({"a": {1}}, "set"), ({"a": float("nan")}, "JSON")):
        with pytest.raises((TypeError, ValueError), match=sentence):
            Sequential([ReLU()], metadata=wrong).save(tmp_path / f"net{suffix}")
    with pytest.raises(TypeError, match="Sequential: metadata is a list; expected a dict"):
        Sequential([ReLU()], metadata=[1])
    config, arrays = described(Sequential([ReLU()]))
    assert_refused({**config, "metadata": "a"}, arrays, "metadata is a str")


def test_a_layer_used_twice_is_saved_twice(tmp_path, rng):
    shared = Conv2D(3, 3, padding=1, seed=0)
    net = Sequential([shared, Sequential([shared], input_shape=(8, 8, 3))], input_shape=(8, 8, 3))
    net.save(tmp_path / "net.npz")
    x = rng.random((8, 8, 3))
    assert_same_bits(Sequential.load(tmp_path / "net.npz")(x), net(x))


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("name", [None, "n" * 100, "\N{SNOWMAN}" * 100], ids=["own", "n", "u"])
def test_the_deepest_network_with_the_longest_names(tmp_path, suffix, name):
    net = Sequential([Conv2D(2, 1, seed=0, name=name)])
    while net.depth < MAX_DEPTH:
        net = Sequential([net], name=name)
    net.build((4, 4, 1))
    net.save(tmp_path / f"deep{suffix}")
    x = np.ones((4, 4, 1), np.float32)
    assert_same_bits(Sequential.load(tmp_path / f"deep{suffix}")(x), net(x))


def test_what_cannot_be_saved(tmp_path):
    class Own(Layer):
        def __init__(self):
            super().__init__("mine")

        def _forward(self, x):
            return x

    class OwnNetwork(Sequential):
        pass

    target = tmp_path / "net.npz"
    for net, words in [
        (OwnNetwork([ReLU()], input_shape=(3, 3)), ["a OwnNetwork", "pycnn.layers"]),
        (Sequential([Conv2D(2, 3)]), ["sequential", "build it first"]),
        (Sequential([Own()], input_shape=(3, 3)), ["mine is a Own", "pycnn.layers"]),
    ]:
        with pytest.raises(ValueError) as info:
            net.save(target)
        assert all(word in str(info.value) for word in words)
    assert not target.exists()


# ---- hostile files ------------------------------------------------------------------------------


def assert_refused(config, arrays, *words):
    with pytest.raises(ValueError) as info:
        restore(config, arrays)
    sentence = str(info.value)
    assert sentence.startswith("net.npz: not a valid model: "), sentence
    assert len(sentence) < 600
    for word in words:
        assert word in sentence, (word, sentence)


CHANGES = [
    (lambda c: c["layers"][0].update({"class": "eval"}), ["model.layers[0]", "'eval'"]),
    (lambda c: c["layers"][0].update({"class": "Layer"}), ["unknown class", "'Layer'"]),
    (lambda c: c["layers"][0].update({"class": "os.system"}), ["unknown class"]),
    (lambda c: c["layers"][0].update({"class": ["Conv2D"]}), ["unknown class"]),
    (lambda c: c["layers"][0].pop("class"), ["unknown class None"]),
    (lambda c: c["layers"][0].pop("stride"), ["a Conv2D", "lacks", "'stride'"]),
    (lambda c: c["layers"][0].update(seed=0), ["a Conv2D", "'seed'"]),
    (lambda c: c["layers"][0].update({"__init__": 0}), ["'__init__'"]),
    (lambda c: c["layers"][0].update(n_filters="8"), ["n_filters", "'8'"]),
    (lambda c: c["layers"][0].update(n_filters=8.0), ["n_filters"]),
    (lambda c: c["layers"][0].update(n_filters=True), ["n_filters"]),
    (lambda c: c["layers"][0].update(n_filters=2**40), ["filters have shape"]),
    (lambda c: c["layers"][0].update(n_filters=10**400), ["number of 1329 bits"]),
    (lambda c: c["layers"][0].update(n_filters=-1), ["at least 1"]),
    (lambda c: c["layers"][0].update(kernel_size=[3, 3, 3]), ["kernel_size"]),
    (lambda c: c["layers"][0].update(kernel_size={}), ["kernel_size"]),
    (lambda c: c["layers"][0].update(kernel_size=[3] * 10**5), ["kernel_size"]),
    (lambda c: c["layers"][0].update(groups=3), ["groups=3"]),
    (lambda c: c["layers"][0].update(groups=2), ["conv2d_1"]),
    (lambda c: c["layers"][0].update(padding=[[1, 1], [1]]), ["padding"]),
    (lambda c: c["layers"][0].update(padding=2**62), ["conv2d_1", "too large"]),
    (lambda c: c["layers"][0].update(padding="x" * 10**6), ["padding"]),
    (lambda c: c["layers"][0].update(padding=2**40), ["dense_1"]),
    (lambda c: c["layers"][0].update(activation=3), ["activation"]),
    (lambda c: c["layers"][0].update(precision=None), ["precision"]),
    (lambda c: c["layers"][0].update(use_bias=True), ["no array 'conv2d_1/bias'"]),
    (lambda c: c["layers"][0].update(name="a/../b"), ["name"]),
    (lambda c: c["layers"][0].update(name="\x1b[2J"), ["printable"]),
    (lambda c: c["layers"][0].update(name="relu_1"), ["no array 'relu_1/filters'"]),
    (lambda c: c["layers"][0].update(name=7), ["name=7"]),
    (lambda c: c["layers"][1].update(epsilon="0"), ["epsilon"]),
    (lambda c: c["layers"][1].update(epsilon=float("nan")), ["epsilon"]),
    (lambda c: c["layers"][3].update(pool_size=2**62), ["max_pool2d_1"]),
    (lambda c: c["layers"][3].update(stride=0), ["stride"]),
    (lambda c: c["layers"][3].update(dilation=2**41, padding=2**40), ["max_pool2d_1"]),
    (lambda c: c["layers"].append(None), ["model.layers[13] is a NoneType"]),
    (lambda c: c.update(layers={}), ["layers is a dict"]),
    (lambda c: c.update(layers="abc"), ["layers is a str"]),
    (lambda c: c["layers"][6].update(branches=[]), ["at least one"]),
    (lambda c: c["layers"][6].update(branches=[[]]), ["branches[0] is a list"]),
    (lambda c: c.update(input_shape=[13, 14]), ["conv2d_1"]),
    (lambda c: c.update(input_shape=[2**62, 2**62, 3]), ["input_shape", "too large"]),
    (lambda c: c.update(input_shape=[2**28, 2**28, 3]), ["dense_1"]),
    (lambda c: c.update(input_shape="abc"), ["'abc'"]),
    (lambda c: c.update(input_shape=[[13], 14, 3]), ["list"]),
    (lambda c: c.update({"class": "Flatten"}), ["a Flatten"]),
    (lambda c: c.clear(), ["unknown class None"]),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_changed_descriptions_are_refused(change, words):
    config, arrays = described()
    change(config)
    assert_refused(config, arrays, *words)


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("conv2d_1/filters", None, ["no array 'conv2d_1/filters'"]),
        ("conv2d_1/filters", np.ones((8, 3, 3)), ["conv2d_1", "(13, 14, 3)"]),
        ("conv2d_1/filters", np.ones((8, 3, 3, 2)), ["conv2d_1", "3 channels"]),
        ("conv2d_1/filters", np.ones((8, 3, 3, 0)), ["(8, 3, 3, 0)"]),
        ("conv2d_1/filters", np.ones(()), ["conv2d_1", "()"]),
        ("conv2d_1/filters", np.ones((8, 3, 3, 3), int), ["floating-point"]),
        ("conv2d_1/filters", np.ones((8, 3, 3, 3), object), ["floating-point"]),
        ("conv2d_1/filters", [[[[1.0]]]], ["floating-point"]),
        ("conv2d_1/filters", np.ones((8, 3, 3, 3), np.longdouble), ["float128"]),
        ("batch_norm_1/variance", np.full(8, -1.0), ["negative"]),
        ("batch_norm_1/mean", np.ones(7), ["(7,)"]),
        ("batch_norm_1/gamma", np.ones((8, 1)), ["(8, 1)"]),
        ("dense_1/weights", np.ones((9, 9)), ["dense_1"]),
        ("dense_1/bias", np.ones(3), ["(3,)"]),
        ("other", np.ones(3), ["no layer has the array 'other'"]),
        ("relu_1/filters", np.ones(3), ["no layer has"]),
    ],
)
def test_changed_arrays_are_refused(name, array, words):
    config, arrays = described()
    arrays = {**arrays, name: array}
    if array is None:
        del arrays[name]
    assert_refused(config, arrays, *words)


def test_nothing_that_nests_deep_ends_the_stack():
    inner = Sequential().get_config()
    for depth in range(2000):
        inner = {**inner, "layers": [inner]}
        if depth in (17, 100, 1999):
            assert_refused(inner, {}, "deep")
    endless = []
    endless.append(endless)
    for option in ("padding", "kernel_size", "name"):
        config, arrays = described()
        config["layers"][0][option] = endless
        assert_refused(config, arrays, "deep")


def test_many_layers_take_no_long_time():
    flat = Sequential([ReLU(name=f"r{i}") for i in range(20_000)], input_shape=(2, 2))
    config, arrays = described(flat)
    assert len(restore(config, arrays)) == 20_000
    deep = Sequential([MaxPool2D(1) for _ in range(5000)])
    while deep.depth < MAX_DEPTH:
        deep = Sequential([deep], input_shape=(2, 2))
    start = time.perf_counter()
    assert restore(*described(deep)).input_shape == (2, 2)
    assert time.perf_counter() - start < 120  # hours, were it quadratic
    config["layers"][-1]["name"] = "r19998"
    assert_refused(config, arrays, "'r19998'", "two layers")


def test_padding_does_not_take_long_to_check():
    """Of every pool's million windows that start in the padding, none holds nothing else."""
    size = 2**21
    pool = MaxPool2D(
        (2, 1), (2, 1), padding=((size, size), (0, 0)), dilation=(size + 1, 1)
    ).get_config()
    config, _ = described(Sequential([ReLU()], input_shape=(size, 1)))
    config["layers"] = [pool] * 5000
    start = time.perf_counter()
    assert len(restore(config, {})) == 5000
    assert time.perf_counter() - start < 120


@given(st.data())
def test_a_value_of_a_description_may_be_anything(data):
    """Right by chance, or a ValueError."""
    net = Sequential(
        [Conv2D(2, 3, seed=0), normalization(np.random.default_rng(0), 2), MaxPool2D(), Flatten()],
        input_shape=(8, 8, 1),
    )
    config, arrays = described(net)
    spot = data.draw(st.sampled_from([config, *config["layers"]]))
    key = data.draw(st.sampled_from(sorted(spot)))
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    leaves |= st.sampled_from([0, 1, 2, 2**31, 2**63, 2**64 - 1, *pycnn.layers._layer.LOADABLE])
    spot[key] = data.draw(
        st.recursive(
            leaves,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
        )
    )
    try:
        restored = restore(config, arrays)
    except ValueError as error:
        assert str(error).startswith("net.npz: not a valid model: ")
    else:
        assert restored.built


def test_files_without_a_network(tmp_path):
    config, arrays = described()
    path = tmp_path / "net.npz"
    write_model(path, config["layers"][2], {})
    with pytest.raises(ValueError, match=r"the model is a ReLU, no Sequential"):
        Sequential.load(path)
    changed = copy.deepcopy(config)
    changed["layers"][0]["class"] = "Conv3D"
    write_model(path, changed, arrays)
    with pytest.raises(ValueError, match=r"net\.npz: not a valid model: .*'Conv3D'"):
        Sequential.load(path)
    assert read_model(path)[0] == changed
