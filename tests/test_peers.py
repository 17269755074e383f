"""PyTorch's own sample inputs of its layers, computed here and there.

They need PyTorch and `expecttest`, which PyTorch's samples import; without them the tests are
skipped.
"""

import inspect

import numpy as np
import pytest
from comparing import assert_within

import pycnn
from pycnn import _reference as reference

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")


@pytest.fixture(autouse=True)
def one_thread():
    """PyTorch's tiny calls wait longer for its other threads than they take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def samples(name, dtype):
    """Return [(input, arguments by name)] of PyTorch's samples of one function."""
    from torch.testing._internal.common_methods_invocations import op_db

    (op,) = (op for op in op_db if op.name == name and not op.variant_test_name)
    names = {
        "nn.functional.conv2d": "weight bias stride padding dilation groups",
        "nn.functional.max_pool2d": "kernel_size stride padding dilation ceil_mode return_indices",
        "nn.functional.avg_pool2d": "kernel_size stride padding ceil_mode count_include_pad"
        " divisor_override",
    }[name].split()
    return [
        (sample.input.detach(), {**dict(zip(names, sample.args, strict=False)), **sample.kwargs})
        for sample in op.sample_inputs("cpu", dtype)
        if not sample.kwargs.get("return_indices")  # the same call again, with a second result
    ]


def channels_last(tensor):
    return np.moveaxis(tensor.detach().numpy(), -3, -1)


def pair_of(value):
    """PyTorch takes a one-tuple where we take an int, and an empty tuple where we take None."""
    if isinstance(value, tuple) and len(value) < 2:
        return value[0] if value else None
    return value


DTYPES = [torch.float32, torch.float64]


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("dtype", DTYPES)
def test_conv2d(dtype):
    compared = 0
    for x, arguments in samples("nn.functional.conv2d", dtype):
        expected = channels_last(torch.nn.functional.conv2d(x, **arguments))
        filters, bias = arguments.pop("weight"), arguments.pop("bias", None)
        args = channels_last(x), channels_last(filters), None if bias is None else bias.numpy()
        actual = pycnn.conv2d(*args, **{k: pair_of(v) for k, v in arguments.items()})
        bound = reference.conv2d_bound(*args, **{k: pair_of(v) for k, v in arguments.items()})
        assert actual.dtype == expected.dtype
        assert_within(actual, expected.astype(bound.dtype), 2 * bound)  # both sides round
        compared += 1
    assert compared >= 30


@pytest.mark.parametrize("dtype", DTYPES)
def test_max_pool2d(dtype):
    compared = 0
    for x, arguments in samples("nn.functional.max_pool2d", dtype):
        arguments.pop("return_indices")
        expected = channels_last(torch.nn.functional.max_pool2d(x, **arguments))
        kwargs = {k: pair_of(v) for k, v in arguments.items()}
        actual = pycnn.max_pool2d(channels_last(x), kwargs.pop("kernel_size"), **kwargs)
        np.testing.assert_array_equal(actual, expected)
        compared += 1
    assert compared >= 720


@pytest.mark.parametrize("dtype", DTYPES)
def test_avg_pool2d(dtype):
    compared = 0
    defaults = inspect.signature(pycnn.avg_pool2d).parameters
    for x, arguments in samples("nn.functional.avg_pool2d", dtype):
        arguments.pop("divisor_override", None)  # not ours
        arguments.setdefault("count_include_pad", defaults["count_include_pad"].default)
        arguments = {k: pair_of(v) for k, v in arguments.items()}
        size, stride = arguments.pop("kernel_size"), arguments.pop("stride", None)
        theirs = {**arguments, "stride": stride}
        expected = channels_last(torch.nn.functional.avg_pool2d(x, size, **theirs))
        actual = pycnn.avg_pool2d(channels_last(x), size, stride, **arguments)
        bound = reference.avg_pool2d_bound(channels_last(x), size, stride, **arguments)
        assert actual.dtype == expected.dtype
        assert_within(actual, expected.astype(bound.dtype), 2 * bound)
        compared += 1
    assert compared >= 7


@pytest.mark.parametrize(
    "layer",
    [
        # (H, W, C), (F, KH, KW, C // groups), stride, padding: the layers of common networks
        ((56, 56, 64), (64, 3, 3, 64), 1, 1, 1),
        ((28, 28, 128), (32, 1, 1, 128), 1, 0, 1),
        ((64, 64, 3), (64, 7, 7, 3), 2, 3, 1),
        ((14, 14, 256), (64, 3, 3, 256), 1, 1, 1),
        ((28, 28, 32), (32, 3, 3, 1), 1, 1, 32),
        ((150, 226, 1), (2, 3, 3, 1), 1, 0, 1),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layers_of_common_networks(rng, layer, dtype):
    shape, filters_shape, stride, padding, groups = layer
    x = rng.standard_normal(shape).astype(dtype)
    filters = rng.standard_normal(filters_shape).astype(dtype)
    kwargs = {"stride": stride, "padding": padding, "groups": groups}
    tensors = (torch.from_numpy(np.ascontiguousarray(np.moveaxis(a, -1, -3))) for a in (x, filters))
    expected = channels_last(torch.nn.functional.conv2d(*tensors, **kwargs))
    bound = reference.conv2d_bound(x, filters, **kwargs)
    assert_within(pycnn.conv2d(x, filters, **kwargs), expected.astype(bound.dtype), 2 * bound)
