"""A layer written in the file formats of graph runtimes: ONNX, and ncnn's pair of files.

The graphs are channel-first, ``(N, C, H, W)``, the natural layout of every runtime that reads
them.
"""

import numpy as np
from layers import (
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    Relu,
    input_shapes,
    output_shape,
)


def channels_first(array):
    """``(N, H, W, C)`` to contiguous ``(N, C, H, W)``; other ranks are only made contiguous."""
    if array.ndim == 4:
        array = array.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(array)


def channels_last(array):
    """``(N, C, H, W)`` to ``(N, H, W, C)``; other ranks are left alone."""
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def planar_params(layer, data):
    """Weights and biases in channel-first order, a pair for each operation.

    Filters become ``(F, C // groups, KH, KW)`` and dense weights ``(n_out, n_in)``, the inputs of
    a dense layer behind `Flatten` reordered from ``(H, W, C)`` to ``(C, H, W)``.
    """
    params = []
    flattened = None
    for op, shape, (weights, bias) in zip(layer.ops, input_shapes(layer), data.params, strict=True):
        if isinstance(op, Flatten):
            flattened = shape
        elif isinstance(op, Conv):
            weights = channels_first(weights)
        elif isinstance(op, Dense):
            if flattened is not None:
                weights = weights.reshape(*flattened[1:], -1).transpose(2, 0, 1, 3)
                weights = weights.reshape(-1, op.units)
                flattened = None
            weights = np.ascontiguousarray(weights.T)
        params.append((weights, bias))
    return params


def onnx_model(layer, data):
    """Bytes of an ONNX model from ``x`` to ``y``."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, initializers, source = [], [], "x"
    triples = zip(layer.ops, input_shapes(layer), planar_params(layer, data), strict=True)
    for index, (op, _, params) in enumerate(triples):
        inputs = [source]
        for kind, array in zip("wb", params, strict=True):
            if array is not None:
                initializers.append(numpy_helper.from_array(array, f"{kind}{index}"))
                inputs.append(f"{kind}{index}")
        source = "y" if index == len(layer.ops) - 1 else f"t{index}"
        attributes = {}
        match op:
            case Conv():
                attributes = {
                    "kernel_shape": [op.size] * 2,
                    "strides": [op.stride] * 2,
                    "pads": [op.padding] * 4,
                    "group": op.groups,
                }
            case MaxPool() | AvgPool():
                attributes = {"kernel_shape": [op.size] * 2, "strides": [op.stride] * 2}
            case Dense():
                attributes = {"transB": 1}
        kind = {
            Conv: "Conv",
            MaxPool: "MaxPool",
            AvgPool: "AveragePool",
            GlobalAvgPool: "GlobalAveragePool",
            Relu: "Relu",
            Flatten: "Flatten",
            Dense: "Gemm",
        }[type(op)]
        nodes.append(helper.make_node(kind, inputs, [source], **attributes))
    element = TensorProto.FLOAT if layer.dtype == "float32" else TensorProto.DOUBLE
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", element, channels_first(data.x).shape)],
        [helper.make_tensor_value_info("y", element, onnx_output_shape(layer))],
        initializers,
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def onnx_output_shape(layer):
    """Shape of the ONNX model's ``y``."""
    last = layer.ops[-1]
    shape = output_shape(last, input_shapes(layer)[-1])
    if isinstance(last, GlobalAvgPool):
        return (*shape, 1, 1)
    return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape


def ncnn_model(layer, data):
    """Text of an ncnn ``.param`` file and bytes of its ``.bin`` file, from ``x`` to ``y``.

    A ReLU behind a convolution or a dense layer is folded into it, as ncnn's own converters do.
    """
    lines, blobs = ["Input x 0 1 x"], bytearray()
    params = planar_params(layer, data)
    ops = list(zip(layer.ops, input_shapes(layer), params, strict=True))
    source, index = "x", 0
    while index < len(ops):
        op, shape, (weights, bias) = ops[index]
        fold = (
            isinstance(op, Conv | Dense)
            and index + 1 < len(ops)
            and isinstance(ops[index + 1][0], Relu)
        )
        kind, values = _ncnn_layer(op, shape, weights, bias)
        if fold:
            values[9] = 1
        if weights is not None:
            # Four zero bytes say that float32 weights follow.
            blobs += bytes(4) + weights.tobytes()
        if bias is not None:
            blobs += bias.tobytes()
        index += 1 + fold
        target = "y" if index == len(ops) else f"t{index}"
        text = " ".join(f"{key}={value}" for key, value in values.items())
        lines.append(f"{kind} op{index} 1 1 {source} {target} {text}")
        source = target
    head = f"7767517\n{len(lines)} {len(lines)}\n"
    return head + "\n".join(lines) + "\n", bytes(blobs)


def _ncnn_layer(op, shape, weights, bias):
    """Name and numbered parameters of one ncnn layer."""
    match op:
        case Conv():
            values = {0: op.filters, 1: op.size, 3: op.stride, 4: op.padding}
            values |= {5: int(bias is not None), 6: weights.size}
            if op.groups == 1:
                return "Convolution", values
            return "ConvolutionDepthWise", values | {7: op.groups}
        case MaxPool() | AvgPool():
            kind = int(isinstance(op, AvgPool))
            return "Pooling", {0: kind, 1: op.size, 2: op.stride, 5: 1}
        case GlobalAvgPool():
            return "Pooling", {0: 1, 4: 1}
        case Relu():
            return "ReLU", {}
        case Flatten():
            return "Flatten", {}
        case Dense():
            return "InnerProduct", {0: op.units, 1: 1, 2: weights.size}
    raise TypeError(f"not an operation: {op!r}")
