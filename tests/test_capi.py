"""The C API: the bits of the Python functions, hostile arguments, and what may never change."""

import ctypes
import re
from concurrent.futures import ThreadPoolExecutor
from ctypes import byref, c_void_p, sizeof
from pathlib import Path

import c_api
import numpy as np
import pytest
from c_api import API, params
from comparing import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st

import pycnn
from pycnn import capi

HEADER = Path(pycnn.get_include()) / "pycnn" / "pycnn.h"
ACTIVATIONS = {None: 1, "relu": 2, "leaky_relu": 3}
PRECISIONS = ["highest", "high", "medium"]
sizes = st.integers(1, 12)
dtypes = st.sampled_from([np.float32, np.float64])


def numbers(rng, shape, dtype):
    """Return whole numbers, with an infinity now and then for the algorithms that hand it back."""
    array = rng.integers(-9, 10, shape).astype(dtype)
    if array.size and rng.random() < 0.2:
        array.flat[rng.integers(array.size)] = np.inf
    return array


def views(draw, array):
    """Return the array in one of several memory layouts, and its strides for params."""
    layout = draw(st.sampled_from(["C", "rows", "reversed", "planes", "every other", "broadcast"]))
    host = np.full([2 * n + 1 for n in array.shape], 55, array.dtype)
    if layout == "C":
        return array, (0, 0, 0, 0)
    if layout == "planes":
        view = np.moveaxis(np.moveaxis(array, -1, 1).copy(), 1, -1)
    elif layout == "broadcast":
        array[...] = array[:, :1]
        view = np.broadcast_to(array[:, :1].copy(), array.shape)
    else:
        n, h, w, c = array.shape
        view = {
            "rows": host[:n, 1 : h + 1, 1 : w + 1, :c],
            "reversed": host[n - 1 :: -1, h - 1 :: -1, w - 1 :: -1, c - 1 :: -1],
            "every other": host[: 2 * n : 2, : 2 * h : 2, : 2 * w : 2, : 2 * c : 2],
        }[layout]
        view[...] = array
    return view, view.strides


def results(draw, shape, dtype):
    """Return memory for a result in one of several layouts, and its strides for params."""
    out, strides = views(draw, np.zeros(shape, dtype))
    if not out.flags.writeable:
        out, strides = np.zeros(shape, dtype), (0, 0, 0, 0)
    return out, strides


@st.composite
def conv_calls(draw):
    """A convolution's arrays, keywords of the Python function, and params without out_strides."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(dtypes)
    groups = draw(st.sampled_from([1, 1, 1, 2, 16]))
    channels = groups * draw(st.sampled_from([1, 2, 3] if groups > 1 else [1, 2, 3, 16, 33]))
    n_filters = groups * draw(st.sampled_from([1, 2] if groups > 1 else [1, 2, 7, 16, 40]))
    n, height, width = draw(st.integers(1, 3)), draw(st.integers(3, 20)), draw(st.integers(3, 20))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pads = draw(st.tuples(*[st.integers(0, 3)] * 4))
    dilation = draw(st.sampled_from([(1, 1), (1, 1), (1, 1), (2, 1)]))
    if kernel[0] == 3 and dilation[0] == 2:
        height += 2
    x, x_strides = views(draw, numbers(rng, (n, height, width, channels), dtype))
    filters = numbers(rng, (n_filters, *kernel, channels // groups), dtype)
    bias = numbers(rng, n_filters, dtype) if draw(st.booleans()) else None
    activation = draw(st.sampled_from([None, "relu", "leaky_relu"]))
    precision = draw(st.sampled_from(PRECISIONS))
    kwargs = {
        "stride": stride,
        "padding": (pads[:2], pads[2:]),
        "dilation": dilation,
        "groups": groups,
        "activation": activation,
        "precision": precision,
    }
    members = {
        **dict(zip(("images", "height", "width", "channels"), x.shape)),
        **dict(zip(("filters", "kernel_height", "kernel_width"), filters.shape)),
        **dict(zip(("stride_y", "stride_x"), stride)),
        **dict(zip(("pad_top", "pad_bottom", "pad_left", "pad_right"), pads)),
        **dict(zip(("dilation_y", "dilation_x"), dilation)),
        "groups": groups,
        "x_strides": x_strides,
        "activation": ACTIVATIONS[activation],
        "precision": PRECISIONS.index(precision),
        "num_threads": draw(st.integers(0, 3)),
    }
    return (x, filters, bias), kwargs, members


def check_layer(data, name, expected, arrays, members):
    """Run a layer planned, with and without workspace, and once; each gives the expected bits."""
    x, filters, bias = arrays
    out, strides = results(data.draw, expected.shape, expected.dtype)
    given_params = params(name, **members, out_strides=strides)
    with (
        c_api.plan(name, x.dtype, given_params) as plan,
        c_api.packed(plan, filters) as packed,
    ):
        assert c_api.shape_of(plan) == expected.shape
        for workspace in (c_api.workspace_of(plan), None):
            out[...] = 99
            assert c_api.run(plan, packed, x, bias, out, workspace) == 0
            assert_same_bits(out, expected)
    out[...] = 99
    once = [x, out] if filters is None else [x, filters, bias, out]
    status = c_api.function(name, x.dtype)(byref(given_params), *map(c_api.address, once))
    assert status == 0, c_api.status_name(status)
    assert_same_bits(out, expected)


@given(conv_calls(), st.data())
def test_conv2d_gives_the_bits_of_python(call, data):
    arrays, kwargs, members = call
    expected = pycnn.conv2d(*arrays, **kwargs)
    check_layer(data, "conv2d", expected, arrays, members)


@given(conv_calls(), st.data())
def test_conv_relu_pool_gives_the_bits_of_python(call, data):
    arrays, kwargs, members = call
    maps = pycnn.conv2d(*arrays, **kwargs).shape
    window = [data.draw(st.integers(1, min(n, 4))) for n in maps[1:3]]
    stride = [data.draw(st.integers(1, 4)) for _ in window]
    pool = data.draw(st.sampled_from(["max", "avg"]))
    expected = pycnn.conv_relu_pool(
        *arrays, **kwargs, pool_size=window, pool_stride=stride, pool=pool
    )
    members |= {
        **dict(zip(("pool_height", "pool_width"), window)),
        **dict(zip(("pool_stride_y", "pool_stride_x"), stride)),
        "pool": ["max", "avg"].index(pool),
    }
    check_layer(data, "conv_relu_pool", expected, arrays, members)


def test_conv_relu_pool_whose_band_does_not_pay(rng):
    """A window as high as a large image: the maps are computed in the workspace, then pooled."""
    x, filters = rng.random((1, 400, 30, 3), np.float32), rng.random((70, 3, 3, 3), np.float32)
    expected = pycnn.conv_relu_pool(x, filters, pool_size=(390, 20))
    out = np.empty_like(expected)
    members = dict(zip(("images", "height", "width", "channels"), x.shape))
    members |= dict(zip(("filters", "kernel_height", "kernel_width"), filters.shape))
    given_params = params("conv_relu_pool", **members, pool_height=390, pool_width=20)
    with c_api.plan("conv_relu_pool", "f4", given_params) as plan:
        workspace = c_api.workspace_of(plan)
        assert workspace.nbytes > 398 * 28 * 70 * 4
        with c_api.packed(plan, filters) as packed:
            assert c_api.run(plan, packed, x, None, out, workspace) == 0
    assert_same_bits(out, expected)


@given(st.data(), dtypes, st.sampled_from(["max_pool2d", "avg_pool2d"]))
def test_pools_give_the_bits_of_python(data, dtype, name):
    draw = data.draw
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    window, stride = draw(st.tuples(sizes, sizes)), draw(st.tuples(sizes, sizes))
    dilation = draw(st.integers(1, 2)) if name == "max_pool2d" else 1
    shape = (draw(st.integers(1, 3)), *(dilation * k + draw(sizes) for k in window), draw(sizes))
    x, x_strides = views(draw, numbers(rng, shape, dtype))
    pads = tuple(draw(st.integers(0, min(k - 1, 3))) for k in window for _ in range(2))
    kwargs = {"padding": (pads[:2], pads[2:]), "ceil_mode": draw(st.booleans())}
    members = {
        **dict(zip(("images", "height", "width", "channels"), shape)),
        **dict(zip(("pool_height", "pool_width"), window)),
        **dict(zip(("stride_y", "stride_x"), stride)),
        **dict(zip(("pad_top", "pad_bottom", "pad_left", "pad_right"), pads)),
        "x_strides": x_strides,
        "ceil_mode": kwargs["ceil_mode"],
    }
    if name == "max_pool2d":
        kwargs["dilation"] = members["dilation_y"] = members["dilation_x"] = dilation
    else:
        kwargs["count_include_pad"] = draw(st.booleans())
        members["count_include_pad"] = kwargs["count_include_pad"]
    expected = getattr(pycnn, name)(x, window, stride, **kwargs)
    check_layer(data, name, expected, (x, None, None), members)


@given(st.data(), dtypes, st.integers(1, 5), st.integers(1, 40), st.integers(1, 70))
def test_dense_gives_the_bits_of_python(data, dtype, n, n_in, n_out):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    gaps = data.draw(st.integers(0, 3))
    x = numbers(rng, (n, n_in + gaps), dtype)[:, :n_in]
    weights, bias = numbers(rng, (n_in, n_out), dtype), numbers(rng, n_out, dtype)
    activation = data.draw(st.sampled_from([None, "relu", "leaky_relu"]))
    expected = pycnn.dense(x, weights, bias, activation=activation)
    out = np.zeros((n, n_out + gaps), dtype)
    given_params = params(
        "dense",
        vectors=n,
        inputs=n_in,
        outputs=n_out,
        x_stride=x.strides[0],
        out_stride=out.strides[0],
        activation=ACTIVATIONS[activation],
    )
    with c_api.plan("dense", dtype, given_params) as plan:
        assert c_api.shape_of(plan) == (n, 1, 1, n_out)
        with c_api.packed(plan, weights) as packed:
            kept = weights.copy()
            weights[...] = 0  # the packed ones are a copy
            assert c_api.run(plan, packed, x, bias, out, c_api.workspace_of(plan)) == 0
            weights[...] = kept
    assert_same_bits(out[:, :n_out], expected)
    out[...] = 0
    arrays = map(c_api.address, (x, weights, bias, out))
    assert c_api.function("dense", dtype)(byref(given_params), *arrays) == 0
    assert_same_bits(out[:, :n_out], expected)
    assert not out[:, n_out:].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_give_the_bits_of_python(rng, dtype):
    x = rng.standard_normal(1000).astype(dtype)
    out = np.empty_like(x)
    assert c_api.function("relu", dtype)(x.ctypes.data, out.ctypes.data, 1000) == 0
    assert_same_bits(out, pycnn.relu(x))
    expected = pycnn.leaky_relu(x, 0.3)
    assert c_api.function("leaky_relu", dtype)(x.ctypes.data, 0.3, x.ctypes.data, 1000) == 0
    assert_same_bits(x, expected)


# ---- workspace, handles, threads ----------------------------------------------------------------


def small_conv(**members):
    """Return params of a 9 x 9 grey image and one 3 x 3 filter."""
    grey = {"images": 1, "height": 9, "width": 9, "channels": 1}
    filters = {"filters": 1, "kernel_height": 3, "kernel_width": 3}
    return params("conv2d", **(grey | filters | members))


def test_nothing_is_written_beyond_the_workspace(rng):
    x, filters = rng.random((2, 30, 30, 40), np.float32), rng.random((40, 3, 3, 40), np.float32)
    x[0, 0, 0, 0] = np.nan  # the image is handed back where the algorithm has that
    members = dict(zip(("images", "height", "width", "channels"), x.shape))
    members |= dict(zip(("filters", "kernel_height", "kernel_width"), filters.shape))
    for precision in range(3):
        for threads in (1, 4):
            given_params = params("conv2d", **members, precision=precision, num_threads=threads)
            with (
                c_api.plan("conv2d", "f4", given_params) as plan,
                c_api.packed(plan, filters) as packed,
            ):
                needed = c_api.workspace_of(plan).nbytes
                host = np.full(needed + 128, 77, np.uint8)
                out = np.empty(c_api.shape_of(plan), np.float32)
                for offset in (0, 1, 63):  # any alignment will do
                    workspace = host[offset : offset + needed]
                    assert c_api.run(plan, packed, x, None, out, workspace) == 0
                    assert (host[offset + needed :] == 77).all()
                    host[...] = 77


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_stage_of_many_filters_has_work_for_every_thread(dtype):
    members = {"images": 1, "height": 8, "width": 8, "channels": 256}
    members |= {"filters": 256, "kernel_height": 3, "kernel_width": 3}
    sizes = []
    for threads in (1, 4):
        given_params = params("conv_relu_pool", **members, num_threads=threads)
        with c_api.plan("conv_relu_pool", dtype, given_params) as plan:
            sizes.append(c_api.workspace_of(plan).nbytes)
    assert sizes[1] > 3 * sizes[0]  # each has its scratch


def test_many_threads_share_a_plan_and_filters(rng):
    images = rng.random((64, 20, 20, 32), np.float32)
    images[::5, 3, 3, 3] = np.inf
    filters = rng.random((32, 3, 3, 32), np.float32)
    expected = pycnn.conv2d(images, filters, precision="high")
    given_params = params(
        "conv2d",
        **dict(zip(("images", "height", "width", "channels"), (1, *images.shape[1:]))),
        **dict(zip(("filters", "kernel_height", "kernel_width"), filters.shape)),
        precision=1,
    )
    out = np.zeros_like(expected)
    with (
        c_api.plan("conv2d", "f4", given_params) as plan,
        c_api.packed(plan, filters) as packed,
        ThreadPoolExecutor(8) as pool,
    ):
        run = list(pool.map(lambda i: c_api.run(plan, packed, images[i], None, out[i]), range(64)))
    assert run == [0] * 64
    assert_same_bits(out, expected)


def test_filters_serve_every_plan_of_their_kind(rng):
    filters = rng.random((1, 3, 3, 1), np.float32)
    with c_api.plan("conv2d", "f4", small_conv()) as plan, c_api.packed(plan, filters) as packed:
        for members in ({"height": 20}, {"images": 3, "pad_top": 2}, {"stride_x": 2}):
            with c_api.plan("conv2d", "f4", small_conv(**members)) as other:
                shape = [getattr(small_conv(**members), n) for n in ("images", "height", "width")]
                x = rng.random((*shape, 1), np.float32)
                out = np.empty(c_api.shape_of(other), np.float32)
                assert c_api.run(other, packed, x, None, out) == 0


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("n_out", [*range(1, 20), 32, 40])
def test_packed_weights_serve_any_number_of_vectors(rng, dtype, n_out):
    weights = rng.integers(-9, 10, (64, n_out)).astype(dtype)
    x = rng.integers(-9, 10, (9, 64)).astype(dtype)
    for n_packed, n in [(1, 9), (9, 1), (2, 9)]:
        plans = (
            c_api.plan("dense", dtype, params("dense", vectors=v, inputs=64, outputs=n_out))
            for v in (n_packed, n)
        )
        with next(plans) as plan, c_api.packed(plan, weights) as packed, next(plans) as other:
            out = np.empty((n, n_out), dtype)
            assert c_api.run(other, packed, x[:n], None, out) == 0
            np.testing.assert_array_equal(out, x[:n] @ weights)


def test_no_images_are_no_work():
    with c_api.plan("conv2d", "f4", small_conv(images=0)) as plan:
        assert c_api.shape_of(plan) == (0, 7, 7, 1)
        with c_api.packed(plan, np.ones((1, 3, 3, 1), np.float32)) as packed:
            assert API.run_f32(plan, packed, None, None, None, None, 0) == 0


# ---- hostile arguments --------------------------------------------------------------------------

HUGE = 2**63 - 1
BAD_CONVS = [
    ("SIZE", {"height": 0}),
    ("SIZE", {"width": -5}),
    ("SIZE", {"images": -1}),
    ("SIZE", {"filters": 0}),
    ("SIZE", {"kernel_width": -(2**63)}),
    ("SIZE", {"stride_y": -1}),
    ("SIZE", {"dilation_x": -1}),
    ("SIZE", {"groups": -1}),
    ("SIZE", {"pad_left": -1}),
    ("SIZE", {"num_threads": -1}),
    ("SIZE", {"negative_slope": float("nan")}),
    ("SIZE", {"negative_slope": 1e300}),
    ("OVERFLOW", {"height": HUGE}),
    ("OVERFLOW", {"images": 2**40, "channels": 2**40}),
    ("OVERFLOW", {"pad_top": HUGE, "pad_bottom": HUGE}),
    ("OVERFLOW", {"dilation_y": 2**62}),
    ("OVERFLOW", {"filters": 2**60}),
    ("OVERFLOW", {"x_strides": (0, HUGE - 3, 4, 4)}),
    ("OVERFLOW", {"x_strides": (0, -(2**63), 4, 4)}),
    ("MEMORY", {"pad_top": 2**50, "pad_bottom": 2**50, "height": 2**50, "kernel_height": 2**50}),
    ("WINDOW", {"kernel_height": 10}),
    ("WINDOW", {"dilation_x": 5}),
    ("GROUPS", {"groups": 2}),
    ("CHOICE", {"activation": 4}),
    ("CHOICE", {"activation": -1}),
    ("CHOICE", {"precision": 3}),
    ("CHOICE", {"pool": 1}),
    ("CHOICE", {"pool_height": 2}),
    ("CHOICE", {"pool_stride_x": 1}),
    ("STRIDES", {"x_strides": (0, 36, 3, 4)}),
    ("STRIDES", {"out_strides": (0, 28, 0, 4)}),
    ("STRIDES", {"out_strides": (0, 24, 4, 4)}),
]


@pytest.mark.parametrize(("status", "members"), BAD_CONVS)
def test_bad_convolutions_have_a_code(status, members):
    plan = c_void_p(1)
    code = API.plan_conv2d_f32(byref(small_conv(**members)), byref(plan))
    assert c_api.status_name(code) == f"PYCNN_ERROR_{status}"
    assert plan.value is None


@pytest.mark.parametrize(
    ("status", "members"),
    [
        ("CHOICE", {"pool": 2}),
        ("CHOICE", {"pool": -1}),
        ("SIZE", {"pool_height": -1}),
        ("SIZE", {"pool_stride_x": -1}),
        ("WINDOW", {"pool_width": 8}),
        ("STRIDES", {"out_strides": (0, 4, 4, 4)}),
    ],
)
def test_bad_pools_behind_a_convolution_have_a_code(status, members):
    code = API.plan_conv_relu_pool_f32(byref(small_conv(**members)), byref(c_void_p()))
    assert c_api.status_name(code) == f"PYCNN_ERROR_{status}"


BAD_POOLS = [
    ("SIZE", {"height": 0}),
    ("SIZE", {"pool_height": -1}),
    ("SIZE", {"stride_x": -(2**63)}),
    ("OVERFLOW", {"pad_top": HUGE}),
    ("WINDOW", {"pool_width": 10}),
    ("WINDOW", {"pad_right": 2}),
    ("WINDOW", {"pool_height": 2, "dilation_y": 12, "pad_top": 12, "pad_bottom": 12, "height": 1}),
    ("CHOICE", {"ceil_mode": 2}),
    ("CHOICE", {"count_include_pad": 1}),
    ("STRUCT", {"reserved": 1}),
]


@pytest.mark.parametrize(("status", "members"), BAD_POOLS)
def test_bad_pools_have_a_code(status, members):
    plan = c_void_p(1)
    image = {"images": 1, "height": 9, "width": 9, "channels": 1}
    given_params = params("max_pool2d", **(image | members))
    code = API.plan_max_pool2d_f64(byref(given_params), byref(plan))
    assert c_api.status_name(code) == f"PYCNN_ERROR_{status}"
    assert plan.value is None


def test_a_mean_has_no_dilation():
    given_params = params("avg_pool2d", images=1, height=9, width=9, channels=1, dilation_x=2)
    code = API.plan_avg_pool2d_f32(byref(given_params), byref(c_void_p()))
    assert c_api.status_name(code) == "PYCNN_ERROR_CHOICE"


@pytest.mark.parametrize(
    ("status", "members"),
    [
        ("SIZE", {"outputs": 0}),
        ("SIZE", {"inputs": -1}),
        ("OVERFLOW", {"inputs": 2**40, "outputs": 2**40}),
        ("STRIDES", {"out_stride": 4}),
        ("CHOICE", {"activation": 9}),
    ],
)
def test_bad_dense_layers_have_a_code(status, members):
    given_params = params("dense", **({"vectors": 2, "inputs": 3, "outputs": 4} | members))
    code = API.plan_dense_f32(byref(given_params), byref(c_void_p()))
    assert c_api.status_name(code) == f"PYCNN_ERROR_{status}"


@given(st.lists(st.sampled_from([0, 1, 2, 3, 5, -1, 2**31, 2**62, -(2**63), HUGE]), min_size=24))
def test_any_params_are_planned_or_refused(values):
    """No arithmetic overflows, loops for ever or crashes; what is planned can be measured."""
    names = [name for name, ctype in c_api.Conv2d._fields_[1:] if ctype is ctypes.c_ssize_t]
    given_params = params("conv2d", **dict(zip(names, values)))
    pool_params = params(
        "max_pool2d",
        **dict(zip([n for n, t in c_api.Pool2d._fields_[1:] if t is ctypes.c_ssize_t], values)),
    )
    for name, these in (
        ("conv2d", given_params),
        ("conv_relu_pool", given_params),
        ("max_pool2d", pool_params),
    ):
        plan = c_void_p()
        if c_api.function(f"plan_{name}", "f4")(byref(these), byref(plan)) == 0:
            assert API.plan_workspace(plan, byref(ctypes.c_size_t())) == 0
            API.plan_destroy(plan)
        else:
            assert plan.value is None


def test_null_is_refused(rng):
    x, out = rng.random((9, 9), np.float32), np.empty((7, 7), np.float32)
    null = [
        API.plan_conv2d_f32(None, byref(c_void_p())),
        API.plan_conv2d_f32(byref(small_conv()), None),
        API.plan_shape(None, c_api.Four()),
        API.plan_workspace(None, byref(ctypes.c_size_t())),
        API.pack_f32(None, x.ctypes.data, byref(c_void_p())),
        API.conv2d_f32(byref(small_conv()), x.ctypes.data, None, None, out.ctypes.data),
        API.conv2d_f32(byref(small_conv()), None, x.ctypes.data, None, out.ctypes.data),
        API.relu_f32(None, out.ctypes.data, 4),
    ]
    with c_api.plan("conv2d", "f4", small_conv()) as plan:
        null.append(API.plan_shape(plan, None))
        null.append(API.pack_f32(plan, None, byref(c_void_p())))
        null.append(API.run_f32(plan, None, x.ctypes.data, None, out.ctypes.data, None, 0))
    assert {c_api.status_name(code) for code in null} == {"PYCNN_ERROR_NULL"}
    API.plan_destroy(None)
    API.filters_destroy(None)


def test_wrong_handles_are_refused(rng):
    x, out = rng.random((9, 9), np.float32), np.empty((7, 7), np.float32)
    filters = np.ones((1, 3, 3, 1), np.float32)
    other = small_conv(kernel_height=2)
    pool = params("max_pool2d", images=1, height=9, width=9, channels=1)
    with (
        c_api.plan("conv2d", "f4", small_conv()) as plan,
        c_api.plan("conv2d", "f4", other) as other_plan,
        c_api.plan("max_pool2d", "f4", pool) as pool_plan,
        c_api.packed(plan, filters) as packed,
    ):
        arrays = x.ctypes.data, None, out.ctypes.data, None, 0
        wrong = [
            API.run_f32(other_plan, packed, *arrays),
            API.run_f32(packed, packed, *arrays),
            API.run_f32(plan, plan, *arrays),
            API.run_f64(plan, packed, *arrays),
            API.run_f32(pool_plan, packed, *arrays),
            API.pack_f32(pool_plan, filters.ctypes.data, byref(c_void_p())),
            API.pack_f64(plan, filters.ctypes.data, byref(c_void_p())),
            API.plan_shape(packed, c_api.Four()),
        ]
        API.plan_destroy(packed)  # each leaves the other kind alone
        API.filters_destroy(plan)
        assert c_api.run(plan, packed, x, None, out) == 0
    assert {c_api.status_name(code) for code in wrong} == {"PYCNN_ERROR_HANDLE"}


def test_arrays_are_checked(rng):
    memory = rng.random(400, np.float32)
    x, out, bias = memory[:81], memory[100:149], memory[200:201]
    filters = np.ones((1, 3, 3, 1), np.float32)
    shifted = np.zeros(400, np.uint8)[1:].ctypes.data
    with c_api.plan("conv2d", "f4", small_conv()) as plan, c_api.packed(plan, filters) as packed:
        space = c_api.workspace_of(plan)

        def status(x=x, bias=bias, out=out, workspace=space):
            return c_api.status_name(c_api.run(plan, packed, x, bias, out, workspace))

        assert status() == "PYCNN_OK"
        assert status(out=memory[40:89]) == "PYCNN_ERROR_OVERLAP"
        assert status(bias=memory[110:111]) == "PYCNN_ERROR_OVERLAP"
        assert status(workspace=space[:-1]) == "PYCNN_ERROR_WORKSPACE"
        assert status(out=space[: space.size // 4 * 4].view(np.float32)) == "PYCNN_ERROR_OVERLAP"
        arrays = shifted, None, out.ctypes.data, None, 0
        assert c_api.status_name(API.run_f32(plan, packed, *arrays)) == "PYCNN_ERROR_ALIGNMENT"
    relu = API.relu_f32(memory.ctypes.data, memory[1:].ctypes.data, 50)
    assert c_api.status_name(relu) == "PYCNN_ERROR_OVERLAP"
    assert c_api.status_name(API.relu_f32(None, None, -1)) == "PYCNN_ERROR_SIZE"
    slope = API.leaky_relu_f32(memory.ctypes.data, 1e300, memory.ctypes.data, 50)
    assert c_api.status_name(slope) == "PYCNN_ERROR_SIZE"


def test_every_status_has_a_name():
    source = HEADER.read_text(encoding="utf-8")
    statuses = dict(re.findall(r"(PYCNN_OK|PYCNN_ERROR_\w+) = (\d+)", source))
    assert len(statuses) == 14
    for name, value in statuses.items():
        assert c_api.status_name(int(value)) == name
    assert API.error_name(-1) == API.error_name(14) == b"unknown status"


# ---- what may never change ----------------------------------------------------------------------


def test_a_shorter_struct_has_defaults_behind_its_end(rng):
    """What a consumer compiled against fewer members hands over."""
    x, filters = rng.random((9, 9), np.float32), rng.random((1, 3, 3), np.float32)
    out = np.empty((7, 7, 1), np.float32)
    short = small_conv(stride_y=77, activation=99)
    short.struct_size = c_api.Conv2d.stride_y.offset
    arrays = x.ctypes.data, filters.ctypes.data, None, out.ctypes.data
    assert API.conv2d_f32(byref(short), *arrays) == 0
    assert_same_bits(out, pycnn.conv2d(x, filters))
    for size in (0, 7, 2**20, 2**64 - 1):
        short.struct_size = size
        name = c_api.status_name(API.conv2d_f32(byref(short), *arrays))
        assert name == "PYCNN_ERROR_STRUCT"


@pytest.mark.parametrize("tail", [0, 1])
def test_a_longer_struct_must_end_in_zeros(tail):
    """What a consumer compiled against more members hands over."""
    size = sizeof(c_api.Conv2d)
    memory = (ctypes.c_char * (size + 24))()
    ctypes.memmove(memory, byref(small_conv()), size)
    memory[size + 23] = tail
    longer = c_api.Conv2d.from_buffer(memory)
    longer.struct_size = size + 24
    plan = c_void_p()
    status = API.plan_conv2d_f32(byref(longer), byref(plan))
    assert c_api.status_name(status) == ("PYCNN_ERROR_STRUCT" if tail else "PYCNN_OK")
    API.plan_destroy(plan)


PARAMS = {
    "conv2d": "pycnn_conv2d_params const *",
    "conv_relu_pool": "pycnn_conv2d_params const *",
    "max_pool2d": "pycnn_pool2d_params const *",
    "avg_pool2d": "pycnn_pool2d_params const *",
    "dense": "pycnn_dense_params const *",
}


def signatures():
    """Return every exported name with its signature, as Cython and Numba look them up."""
    result = {
        "error_name": "char const *(int)",
        "plan_shape": "int (pycnn_plan const *, Py_ssize_t *)",
        "plan_workspace": "int (pycnn_plan const *, size_t *)",
        "plan_destroy": "void (pycnn_plan *)",
        "filters_destroy": "void (pycnn_filters *)",
    }
    for suffix, real in (("f32", "float"), ("f64", "double")):
        array = f"{real} const *"
        for name, struct in PARAMS.items():
            inputs = [array] if "_pool2d" in name else [array] * 3
            result[f"plan_{name}_{suffix}"] = f"int ({struct}, pycnn_plan **)"
            result[f"{name}_{suffix}"] = f"int ({', '.join([struct, *inputs, f'{real} *'])})"
        result[f"pack_{suffix}"] = f"int (pycnn_plan const *, {array}, pycnn_filters **)"
        result[f"run_{suffix}"] = (
            f"int (pycnn_plan const *, pycnn_filters const *, {array}, {array}, {real} *, void *, "
            "size_t)"
        )
        result[f"relu_{suffix}"] = f"int ({array}, {real} *, Py_ssize_t)"
        result[f"leaky_relu_{suffix}"] = f"int ({array}, double, {real} *, Py_ssize_t)"
    return result


def test_the_names_and_signatures_of_cimport_are_pinned():
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    found = {name: name_of(capsule).decode() for name, capsule in capi.__pyx_capi__.items()}
    assert found == signatures()


def test_the_table_and_the_exported_functions_are_the_same():
    assert (API.struct_size, API.major, API.minor) == (sizeof(c_api.Api), 1, 0)
    for name, _, _ in c_api.FUNCTIONS:
        exported = c_api._pointer_of(capi.__pyx_capi__[name], signatures()[name].encode())
        assert ctypes.cast(getattr(API, name), c_void_p).value == exported, name


def test_the_functions_of_the_table_keep_their_order():
    source = HEADER.read_text(encoding="utf-8")
    table = source[source.index("typedef struct pycnn_api") :]
    assert re.findall(r"\(\*(\w+)\)", table) == [name for name, _, _ in c_api.FUNCTIONS]


def declarations(path):
    """Return the members of each struct and enum of a header, in order."""
    source = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"typedef (?:struct|enum) (\w+) \{(.*?)\n\}", source, flags=re.DOTALL)
    return {name: [" ".join(m.split()) for m in re.split("[;,]", body)] for name, body in found}


@pytest.mark.parametrize("older", sorted((Path(__file__).parent / "native").glob("api_*")))
def test_the_header_only_grows_at_its_ends(older):
    now = declarations(HEADER)
    for name, members in declarations(older / "pycnn" / "pycnn.h").items():
        members = [member for member in members if member]
        assert now[name][: len(members)] == members, name
