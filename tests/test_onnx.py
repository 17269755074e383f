"""The node cases of the ONNX standard, turned from channel-first to channel-last."""

import warnings

import numpy as np
import pytest
from onnx import helper
from onnx.backend.test.loader import load_model_tests

import pycnn

OUTSIDE = {
    **dict.fromkeys(
        [
            "test_averagepool_1d_default",
            "test_maxpool_1d_default",
        ],
        "one spatial dimension",
    ),
    **dict.fromkeys(
        [
            "test_averagepool_3d_default",
            "test_averagepool_3d_dilations_small",
            "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_True",
            "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_False",
            "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True",
            "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_False",
            "test_maxpool_3d_default",
            "test_maxpool_3d_dilations",
            "test_maxpool_3d_dilations_use_ref_impl",
            "test_maxpool_3d_dilations_use_ref_impl_large",
        ],
        "three spatial dimensions",
    ),
    "test_averagepool_2d_dilations": "avg_pool2d has no dilation",
    **dict.fromkeys(
        ["test_convinteger_without_padding", "test_convinteger_with_padding"],
        "quantised, with zero points",
    ),
    **dict.fromkeys(
        [
            "test_convtranspose",
            "test_convtranspose_1d",
            "test_convtranspose_3d",
            "test_convtranspose_autopad_same",
            "test_convtranspose_dilations",
            "test_convtranspose_group_2",
            "test_convtranspose_group_2_image_3",
            "test_convtranspose_kernel_shape",
            "test_convtranspose_output_shape",
            "test_convtranspose_pad",
            "test_convtranspose_pads",
        ],
        "transposed convolution",
    ),
}
"""The cases of our operators that the package does not promise to compute, and why."""

OPERATORS = {
    "AveragePool",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "LeakyRelu",
    "MaxPool",
    "Relu",
    "Sigmoid",
    "Softmax",
}


def load_cases():
    """Return {name: (node, inputs, outputs)} of every case that is one of our operators alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other operators' cases overflow on purpose
        tests = load_model_tests(kind="node")
    cases = {}
    for test in tests:
        nodes = test.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type in OPERATORS:
            ((inputs, outputs),) = test.data_sets
            cases[test.name] = (nodes[0], inputs, outputs)
    return cases


CASES = load_cases()
INSIDE = sorted(set(CASES) - set(OUTSIDE))


def channels_last(x):
    return np.moveaxis(x, 1, -1)


def channels_first(x):
    return np.moveaxis(x, -1, 1)


def padding_of(attributes, size, kernel):
    """Translate ONNX's padding to ours; the odd pixel of SAME_LOWER goes before the image."""
    auto_pad = attributes.get("auto_pad", b"NOTSET")
    if auto_pad == b"SAME_UPPER":
        return "same"
    if auto_pad == b"SAME_LOWER":
        totals = []
        for n, k, s in zip(size, kernel, attributes.get("strides", (1, 1)), strict=True):
            totals.append(max((-(-n // s) - 1) * s + k - n, 0))
        return tuple((t - t // 2, t // 2) for t in totals)
    if auto_pad == b"VALID":
        return "valid"
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    return ((top, bottom), (left, right))


def compute(node, inputs):
    """Compute one node with pycnn."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    x = inputs[0]
    if node.op_type == "Relu":
        return pycnn.relu(x)
    if node.op_type == "LeakyRelu":
        return pycnn.leaky_relu(x, attributes.get("alpha", 0.01))
    if node.op_type == "Sigmoid":
        return pycnn.sigmoid(x)
    if node.op_type == "Softmax":
        return pycnn.softmax(x, attributes.get("axis", -1))
    x = channels_last(x)
    if node.op_type == "GlobalAveragePool":
        return channels_first(pycnn.global_avg_pool2d(x, keepdims=True))
    if node.op_type == "GlobalMaxPool":
        return channels_first(pycnn.global_max_pool2d(x, keepdims=True))
    kernel = tuple(attributes["kernel_shape"])
    kwargs = {
        "stride": tuple(attributes.get("strides", (1, 1))),
        "padding": padding_of(attributes, x.shape[1:3], kernel),
    }
    if node.op_type != "AveragePool":
        kwargs["dilation"] = tuple(attributes.get("dilations", (1, 1)))
    if node.op_type == "Conv":
        filters, *bias = inputs[1:]
        kwargs["groups"] = attributes.get("group", 1)
        return channels_first(pycnn.conv2d(x, channels_last(filters), *bias, **kwargs))
    kwargs["ceil_mode"] = bool(attributes.get("ceil_mode", 0))
    if node.op_type == "MaxPool":
        return channels_first(pycnn.max_pool2d(x, kernel, **kwargs))
    assert node.op_type == "AveragePool"
    kwargs["count_include_pad"] = bool(attributes.get("count_include_pad", 0))
    return channels_first(pycnn.avg_pool2d(x, kernel, **kwargs))


EXACT = {"Conv", "MaxPool", "GlobalMaxPool", "Relu"}  # Conv's cases are whole numbers
FOUR_DIGITS = {"test_averagepool_2d_ceil_last_window_starts_on_pad"}  # its answers are rounded so


@pytest.mark.parametrize("name", INSIDE)
def test_node_case(name):
    node, inputs, outputs = CASES[name]
    expected = outputs[0]  # MaxPool's second output would be the indices
    actual = compute(node, inputs)
    assert actual.dtype == expected.dtype
    if node.op_type in EXACT:
        np.testing.assert_array_equal(actual, expected)
    else:
        atol = 1e-4 if name in FOUR_DIGITS else 1e-7
        np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=atol)


def test_no_case_vanished():
    """The numbers of the standard as of onnx 1.23; a later one may only add to them."""
    ran = dict.fromkeys(OPERATORS, 0)
    for name in INSIDE:
        ran[CASES[name][0].op_type] += 1
    least = {
        "AveragePool": 12,
        "Conv": 6,
        "GlobalAveragePool": 2,
        "GlobalMaxPool": 2,
        "LeakyRelu": 3,
        "MaxPool": 14,
        "Relu": 1,
        "Sigmoid": 2,
        "Softmax": 7,
    }
    assert {op: n for op, n in ran.items() if n < least.get(op, 0)} == {}
    assert set(ran) - set(least) == {"ConvInteger", "ConvTranspose"}


def test_every_case_outside_the_contract_exists():
    assert sorted(set(OUTSIDE) - set(CASES)) == []
