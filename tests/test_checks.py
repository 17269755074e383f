"""Every refusal: the right exception, and a sentence with function, argument, value and rule."""

import numpy as np
import pytest
from comparing import assert_helpful
from hypothesis import given
from hypothesis import strategies as st

import pycnn

GREY = np.ones((9, 8), np.float32)
IMAGE = np.ones((9, 8, 4), np.float32)
BATCH = np.ones((2, 9, 8, 4), np.float32)
GREY_FILTERS = np.ones((2, 3, 3), np.float32)
FILTERS = np.ones((2, 3, 3, 4), np.float32)


def conv2d(x=IMAGE, filters=FILTERS, bias=None, **kwargs):
    return pycnn.conv2d(x, filters, bias, **kwargs)


SHAPES = [
    # x, filters, keywords, words of the sentence
    (np.ones(5), GREY_FILTERS, {}, ["x", "(5,)"]),
    (np.ones((5, 5)), FILTERS, {}, ["x", "2 dimensions", "(5, 5)", "(2, 3, 3, 4)"]),
    (IMAGE, GREY_FILTERS, {}, ["3 dimensions", "(9, 8, 4)", "(2, 3, 3)"]),
    (BATCH, GREY_FILTERS, {}, ["4 dimensions", "(2, 9, 8, 4)", "(2, 3, 3)"]),
    (np.ones((1, 2, 9, 8, 4)), FILTERS, {}, ["5 dimensions", "(1, 2, 9, 8, 4)"]),
    (GREY, np.ones((3, 3)), {}, ["filters", "2 dimensions", "(3, 3)"]),
    (GREY, np.float32(1), {}, ["filters", "0 dimensions"]),
    (IMAGE, np.ones((2, 3, 3, 3)), {}, ["4 channels", "expect 3"]),
    (IMAGE, np.ones((2, 0, 3, 4)), {}, ["filters", "0 x 3"]),
    (GREY, np.ones((2, 3, 0)), {}, ["filters", "3 x 0"]),
    (IMAGE, FILTERS, {"groups": 3}, ["4 channels", "groups=3"]),
    (IMAGE, np.ones((3, 3, 3, 2)), {"groups": 2}, ["3 filters", "groups=2"]),
    (IMAGE, FILTERS, {"groups": 2}, ["4 channels", "2 groups", "expect 4"]),
    (np.ones((2, 9)), GREY_FILTERS, {}, ["height", "3", "2"]),
    (np.ones((9, 2)), GREY_FILTERS, {}, ["width", "3", "2"]),
    (GREY, GREY_FILTERS, {"dilation": 5}, ["height", "11", "9", "dilation 5"]),
    (GREY, GREY_FILTERS, {"dilation": (1, 5), "padding": 1}, ["width", "11", "10"]),
]


@pytest.mark.parametrize(("x", "filters", "kwargs", "words"), SHAPES)
def test_conv2d_shapes_that_do_not_fit(x, filters, kwargs, words):
    with pytest.raises(ValueError) as info:
        conv2d(x, filters, **kwargs)
    assert_helpful(info, "conv2d", *words)


def test_the_sentence_of_the_design():
    with pytest.raises(ValueError) as info:
        conv2d(IMAGE, np.ones((2, 3, 3, 3)))
    assert str(info.value) == (
        "conv2d: x has 4 channels but filters expect 3 "
        "(x.shape=(9, 8, 4), filters.shape=(2, 3, 3, 3))"
    )


WINDOW_NUMBERS = {
    # function: (call, {keyword: least value})
    "conv2d": (conv2d, {"stride": 1, "dilation": 1, "padding": 0, "groups": 1}),
    "max_pool2d": (
        lambda **kwargs: pycnn.max_pool2d(IMAGE, **kwargs),
        {"pool_size": 1, "stride": 1, "dilation": 1, "padding": 0},
    ),
    "avg_pool2d": (
        lambda **kwargs: pycnn.avg_pool2d(IMAGE, **kwargs),
        {"pool_size": 1, "stride": 1, "padding": 0},
    ),
}
NUMBERS = [
    (function, keyword, least)
    for function, (_, keywords) in WINDOW_NUMBERS.items()
    for keyword, least in keywords.items()
]


@pytest.mark.parametrize(("function", "keyword", "least"), NUMBERS)
def test_numbers_out_of_range(function, keyword, least):
    call = WINDOW_NUMBERS[function][0]
    for value in (least - 1, -5, -(2**63), -(2**64), 2**63, 2**64, 2**200, np.int64(-1)):
        with pytest.raises(ValueError) as info:
            call(**{keyword: value})
        assert_helpful(info, function, keyword, int(value))


@pytest.mark.parametrize(("function", "keyword", "least"), NUMBERS)
@pytest.mark.parametrize(
    "value", [True, False, np.True_, 1.0, 2.5, np.float64(2), np.nan, 1j, b"1", {}, object]
)
def test_numbers_of_the_wrong_type(function, keyword, least, value):
    """Even after a call with an equal number of the right type: True == 1 == 1.0."""
    WINDOW_NUMBERS[function][0](**{keyword: 1})
    with pytest.raises(TypeError) as info:
        WINDOW_NUMBERS[function][0](**{keyword: value})
    assert_helpful(info, function, keyword, repr(value))


@pytest.mark.parametrize(
    ("pool", "keyword"),
    [
        (pycnn.max_pool2d, "ceil_mode"),
        (pycnn.avg_pool2d, "ceil_mode"),
        (pycnn.avg_pool2d, "count_include_pad"),
    ],
)
@pytest.mark.parametrize("value", [0, 1, 1.0, None, "", np.int64(1)])
def test_flags_of_the_wrong_type(pool, keyword, value):
    """Even after a call with an equal flag of the right type."""
    for flag in (True, False, np.True_):
        pool(IMAGE, **{keyword: flag})
    with pytest.raises(TypeError) as info:
        pool(IMAGE, **{keyword: value})
    assert_helpful(info, pool.__name__, keyword, repr(value))


@pytest.mark.parametrize(
    ("function", "keyword", "least"), [n for n in NUMBERS if n[1] not in ("groups", "padding")]
)
def test_pairs_of_the_wrong_length_or_content(function, keyword, least):
    call = WINDOW_NUMBERS[function][0]
    for value in [(), (1,), (1, 2, 3), [1, 1, 1, 1], np.ones((3,), int), np.ones((0, 2), int)]:
        with pytest.raises(ValueError) as info:
            call(**{keyword: value})
        assert_helpful(info, function, keyword, len(value))
    for value in [(1, 2.0), (True, 1), ("1", 1), ((1, 1), (1, 1)), (None, 1)]:
        with pytest.raises(TypeError) as info:
            call(**{keyword: value})
        assert_helpful(info, function, keyword)


@pytest.mark.parametrize("function", list(WINDOW_NUMBERS))
def test_paddings_of_the_wrong_form(function):
    call = WINDOW_NUMBERS[function][0]
    for value in [
        "vaild",
        "SAME",
        "",
        (1,),
        (1, 2, 3),
        ((1, 2), (1, 2, 3)),
        (-1, 0),
        ((0, -1), (0, 0)),
    ]:
        with pytest.raises(ValueError) as info:
            call(padding=value)
        assert_helpful(info, function, "padding")
    for value in [None, 1.5, (1, 1.5), ((1, True), (1, 1)), (((1, 1), 1), 1), ("same", 1), {1, 2}]:
        with pytest.raises(TypeError) as info:
            call(padding=value)
        assert_helpful(info, function, "padding")
    with pytest.raises(ValueError) as info:
        call(padding="vaild")
    assert_helpful(info, function, "'vaild'", "'valid'", "'same'", "'full'")


@pytest.mark.parametrize("pool", [pycnn.max_pool2d, pycnn.avg_pool2d])
@pytest.mark.parametrize("padding", [3, (3, 0), ((0, 3), (0, 0)), ((0, 0), (0, 99))])
def test_pool_padding_must_be_smaller_than_the_window(pool, padding):
    with pytest.raises(ValueError) as info:
        pool(IMAGE, 3, padding=padding)
    assert_helpful(info, pool.__name__, "padding", "smaller than the window")


def test_a_dilated_window_of_padding_only_is_refused():
    with pytest.raises(ValueError) as info:
        pycnn.max_pool2d(IMAGE[:3], 2, padding=((3, 3), (0, 0)), dilation=(5, 1))
    assert_helpful(info, "max_pool2d", "only padding")


@given(*(st.integers(1, most) for most in (12, 4, 9, 15)), st.data())
def test_the_first_window_of_padding_only_is_found(size, k, stride, dilation, data):
    reach = (k - 1) * dilation + 1
    before, after = data.draw(st.tuples(*[st.integers(0, reach - 1)] * 2))
    n = (size + before + after - reach) // stride + 1
    starts = range(-before, 0, stride)[: max(n, 0)]
    empty = [
        o
        for o, start in enumerate(starts)
        if not any(0 <= start + tap < size for tap in range(0, reach, dilation))
    ]
    layer = pycnn.MaxPool2D(
        (k, 1), (stride, 1), dilation=(dilation, 1), padding=((before, after), (0, 0))
    )
    if n < 1 or empty:
        with pytest.raises(ValueError, match="window") as info:
            layer.output_shape((size, 1))
        assert n < 1 or f"output {empty[0]} holds only padding" in str(info.value)
    else:
        assert layer.output_shape((size, 1)) == (n, 1)


def test_numbers_of_numpy_are_numbers():
    for number in (np.float16(0.25), np.float32(0.25), np.longdouble(0.25), np.float64(0.25)):
        assert pycnn.leaky_relu(np.float32(-4.0), number) == -1.0  # and no warning


@pytest.mark.parametrize(
    ("call", "error", "name", "words"),
    [
        (lambda: conv2d(bias=np.ones(3)), ValueError, "conv2d", ["bias", "(3,)", "(2,)"]),
        (lambda: conv2d(bias=np.ones((2, 1))), ValueError, "conv2d", ["bias", "(2, 1)", "(2,)"]),
        (lambda: conv2d(bias=1.0), ValueError, "conv2d", ["bias", "()", "(2,)"]),
        (lambda: conv2d(bias=[1j, 0]), TypeError, "conv2d", ["bias", "complex128"]),
        (
            lambda: conv2d(activation="rleu"),
            ValueError,
            "conv2d",
            ["activation", "'rleu'", "'relu'"],
        ),
        (lambda: conv2d(activation=1), TypeError, "conv2d", ["activation", "1"]),
        (lambda: conv2d(activation=np.tanh), TypeError, "conv2d", ["activation", "tanh"]),
        (lambda: conv2d(precision="low"), ValueError, "conv2d", ["precision", "'low'", "'high'"]),
        (lambda: conv2d(precision=None), (TypeError, ValueError), "conv2d", ["precision", "None"]),
        (lambda: conv2d(precision=1), TypeError, "conv2d", ["precision", "1"]),
        (lambda: conv2d([[1, 2], [3]]), ValueError, "conv2d", ["x"]),
        (lambda: pycnn.max_pool2d(IMAGE, ceil_mode=1), TypeError, "max_pool2d", ["ceil_mode", "1"]),
        (
            lambda: pycnn.avg_pool2d(IMAGE, count_include_pad="no"),
            TypeError,
            "avg_pool2d",
            ["count_include_pad", "'no'"],
        ),
        (
            lambda: pycnn.global_max_pool2d(IMAGE, keepdims=2),
            TypeError,
            "global_max_pool2d",
            ["keepdims", "2"],
        ),
        (lambda: pycnn.max_pool2d(np.ones(3)), ValueError, "max_pool2d", ["x", "(3,)"]),
        (lambda: pycnn.avg_pool2d(np.ones((1,) * 5)), ValueError, "avg_pool2d", ["5 dimensions"]),
        (lambda: pycnn.max_pool2d(IMAGE, 10), ValueError, "max_pool2d", ["10", "9"]),
        (lambda: pycnn.max_pool2d(IMAGE[:0]), ValueError, "max_pool2d", ["2", "0"]),
        (
            lambda: pycnn.global_avg_pool2d(IMAGE[:, :0]),
            ValueError,
            "global_avg_pool2d",
            ["(9, 0, 4)"],
        ),
        (lambda: pycnn.global_avg_pool2d(np.ones(3)), ValueError, "global_avg_pool2d", ["(3,)"]),
        (lambda: pycnn.softmax(IMAGE, 3), ValueError, "softmax", ["axis", "3", "3 dimensions"]),
        (lambda: pycnn.softmax(IMAGE, -4), ValueError, "softmax", ["axis", "-4"]),
        (lambda: pycnn.softmax(IMAGE, 1.0), TypeError, "softmax", ["axis", "1.0"]),
        (lambda: pycnn.softmax(IMAGE, np.array([0])), TypeError, "softmax", ["axis", "array([0])"]),
        (lambda: pycnn.softmax(IMAGE, True), TypeError, "softmax", ["axis", "True"]),
        (lambda: pycnn.softmax(1.0), ValueError, "softmax", ["axis", "0 dimensions"]),
        (lambda: pycnn.leaky_relu(IMAGE, "a"), TypeError, "leaky_relu", ["negative_slope", "'a'"]),
        (
            lambda: pycnn.leaky_relu(IMAGE, None),
            TypeError,
            "leaky_relu",
            ["negative_slope", "None"],
        ),
        (
            lambda: pycnn.leaky_relu(IMAGE, np.inf),
            ValueError,
            "leaky_relu",
            ["negative_slope", "inf"],
        ),
        (
            lambda: pycnn.leaky_relu(IMAGE, np.nan),
            ValueError,
            "leaky_relu",
            ["negative_slope", "nan"],
        ),
        (lambda: pycnn.dense(np.ones(3), np.ones((4, 2))), ValueError, "dense", ["(3,)", "(4, 2)"]),
        (lambda: pycnn.dense(np.ones((2, 2, 2)), np.ones((2, 2))), ValueError, "dense", ["x", 3]),
        (lambda: pycnn.dense(np.float64(1), np.ones((1, 2))), ValueError, "dense", ["x", 0]),
        (lambda: pycnn.dense(np.ones(3), np.ones(3)), ValueError, "dense", ["weights", 1]),
        (
            lambda: pycnn.dense(np.ones(3), np.ones((3, 2)), np.ones(3)),
            ValueError,
            "dense",
            ["bias", "(3,)", "(2,)"],
        ),
        (
            lambda: pycnn.dense(np.ones(3), np.ones((3, 2)), activation="gelu"),
            ValueError,
            "dense",
            ["activation", "'gelu'"],
        ),
    ],
)
def test_sentences(call, error, name, words):
    with pytest.raises(error) as info:
        call()
    assert_helpful(info, name, *words)


ONE_ARRAY = {
    "max_pool2d": "x",
    "avg_pool2d": "x",
    "global_max_pool2d": "x",
    "global_avg_pool2d": "x",
    "relu": "x",
    "leaky_relu": "x",
    "sigmoid": "x",
    "softmax": "x",
}
WRONG_ARRAYS = {
    "complex64": np.ones((5, 5, 3), np.complex64),
    "complex128": np.ones((5, 5, 3), np.complex128),
    "object": np.ones((5, 5, 3), object),
    "<U1": np.full((5, 5, 3), "a"),
    "|S1": np.full((5, 5, 3), b"a"),
    "datetime64": np.zeros((5, 5, 3), "M8[s]"),
    "timedelta64": np.zeros((5, 5, 3), "m8[s]"),
    "'a'": np.zeros((5, 5, 3), [("a", "f4")]),
    "|V4": np.zeros((5, 5, 3), "V4"),
}
if np.dtype("g") != np.dtype("d"):
    WRONG_ARRAYS[str(np.dtype("g"))] = np.ones((5, 5, 3), np.longdouble)


@pytest.mark.parametrize("dtype", list(WRONG_ARRAYS))
@pytest.mark.parametrize("function", list(ONE_ARRAY))
def test_dtypes_without_a_meaning_here(function, dtype):
    with pytest.raises(TypeError) as info:
        getattr(pycnn, function)(WRONG_ARRAYS[dtype])
    assert_helpful(info, function, "x", "dtype", dtype, "float32")


@pytest.mark.parametrize("dtype", list(WRONG_ARRAYS))
def test_dtypes_of_filters_weights_and_bias(dtype):
    wrong = WRONG_ARRAYS[dtype]
    image, filters = np.ones((5, 5, 3)), np.ones((5, 5, 5, 3))
    for name, args in {
        "x": (wrong, filters),
        "filters": (image, wrong[np.newaxis]),
        "bias": (image, filters, wrong[0, :, 0]),
    }.items():
        with pytest.raises(TypeError) as info:
            pycnn.conv2d(*args)
        assert_helpful(info, "conv2d", name, dtype)
    matrix = np.ones((5, 5))
    for name, args in {
        "x": (wrong[..., 0], matrix),
        "weights": (matrix, wrong[..., 0]),
        "bias": (matrix, matrix, wrong[0, :, 0]),
    }.items():
        with pytest.raises(TypeError) as info:
            pycnn.dense(*args)
        assert_helpful(info, "dense", name, dtype)


@pytest.mark.parametrize("function", list(ONE_ARRAY))
def test_masked_arrays_must_be_filled_first(function):
    with pytest.raises(TypeError) as info:
        getattr(pycnn, function)(np.ma.masked_equal(IMAGE, 3))
    assert_helpful(info, function, "x", "masked", "fill")


def test_masked_filters_and_bias():
    for name, kwargs in {
        "filters": {"filters": np.ma.masked_array(FILTERS)},
        "bias": {"bias": np.ma.masked_array([1.0, 2])},
    }.items():
        with pytest.raises(TypeError) as info:
            conv2d(**kwargs)
        assert_helpful(info, "conv2d", name, "masked")


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_a_matrix_is_an_array():
    y = pycnn.conv2d(np.matrix(GREY), GREY_FILTERS)
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, pycnn.conv2d(GREY, GREY_FILTERS))
    assert type(pycnn.relu(np.matrix(GREY))) is np.ndarray


OUT_CALLS = {
    "conv2d": (lambda out: conv2d(out=out), (7, 6, 2)),
    "max_pool2d": (lambda out: pycnn.max_pool2d(IMAGE, out=out), (4, 4, 4)),
    "avg_pool2d": (lambda out: pycnn.avg_pool2d(IMAGE, out=out), (4, 4, 4)),
    "relu": (lambda out: pycnn.relu(IMAGE, out=out), (9, 8, 4)),
    "leaky_relu": (lambda out: pycnn.leaky_relu(IMAGE, out=out), (9, 8, 4)),
    "sigmoid": (lambda out: pycnn.sigmoid(IMAGE, out=out), (9, 8, 4)),
    "softmax": (lambda out: pycnn.softmax(IMAGE, out=out), (9, 8, 4)),
    "dense": (lambda out: pycnn.dense(GREY, np.ones((8, 2), np.float32), out=out), (9, 2)),
}


@pytest.mark.parametrize("function", list(OUT_CALLS))
def test_wrong_out(function):
    call, shape = OUT_CALLS[function]
    read_only = np.ones(shape, np.float32)
    read_only.flags.writeable = False
    for out, error, words in [
        (np.ones(shape, np.float64), TypeError, ["float64", "float32"]),
        (np.ones(shape, np.int32), TypeError, ["int32", "float32"]),
        (np.ones(shape, ">f4"), TypeError, [">f4", "float32"]),
        ([1.0], TypeError, ["list"]),
        (1.0, TypeError, ["float"]),
        (memoryview(np.ones(shape, np.float32)), TypeError, ["memoryview"]),
        (np.ma.masked_array(np.ones(shape, np.float32)), TypeError, ["Masked"]),
        (np.ones((*shape, 1), np.float32), ValueError, [(*shape, 1), shape]),
        (np.ones(shape[1:], np.float32), ValueError, [shape[1:], shape]),
        (np.ones((shape[0] + 1, *shape[1:]), np.float32), ValueError, [shape]),
        (np.float32(1), TypeError, ["float32"]),
        (read_only, ValueError, ["read-only"]),
    ]:
        with pytest.raises(error) as info:
            call(out)
        assert_helpful(info, function, "out", *words)
    assert (read_only == 1).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda: conv2d(GREY, GREY_FILTERS, padding=2**40),
        lambda: conv2d(GREY, GREY_FILTERS, padding=(2**30, 2**30)),
        lambda: pycnn.conv2d(np.broadcast_to(np.float32(1), (2**30, 2**30)), np.ones((9, 1, 1))),
    ],
)
def test_results_beyond_memory(call):
    with pytest.raises(MemoryError) as info:
        call()
    assert_helpful(info, "conv2d", "bytes")


@pytest.mark.parametrize(
    "kwargs",
    [
        {"padding": 2**62},
        {"padding": 2**63 - 1},
        {"padding": (2**62, 0)},
        {"dilation": 2**62},
        {"dilation": 2**63 - 1},
        {"dilation": 2**62, "padding": "full"},
        {"padding": ((2**63 - 1, 2**63 - 1), (0, 0)), "stride": 2**63 - 1},
    ],
)
def test_sizes_that_do_not_fit_63_bits(kwargs):
    with pytest.raises((ValueError, MemoryError)) as info:
        conv2d(**kwargs)
    assert_helpful(info, "conv2d")
