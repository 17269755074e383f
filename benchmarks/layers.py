"""The layers that are timed: their shapes, their data, and what a right answer is.

A `Layer` is a short chain of operations on one input.  Everything here is channel-last, as in
pycnn: inputs are ``(N, H, W, C)`` and filters ``(F, KH, KW, C // groups)``; each peer converts
them to its own layout outside the timing.
"""

import functools
import zlib
from dataclasses import dataclass
from itertools import product

import numpy as np


@dataclass(frozen=True)
class Conv:
    """Cross-correlation with `filters` filters."""

    filters: int
    size: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    bias: bool = True


@dataclass(frozen=True)
class MaxPool:
    """Largest value of each window."""

    size: int = 2
    stride: int = 2


@dataclass(frozen=True)
class AvgPool:
    """Mean of each window."""

    size: int = 2
    stride: int = 2


@dataclass(frozen=True)
class GlobalAvgPool:
    """Mean over height and width."""


@dataclass(frozen=True)
class Relu:
    """Negative values become zero."""


@dataclass(frozen=True)
class Flatten:
    """``(N, H, W, C)`` to ``(N, H * W * C)``."""


@dataclass(frozen=True)
class Dense:
    """Matrix product with `units` columns, and a bias."""

    units: int


Op = Conv | MaxPool | AvgPool | GlobalAvgPool | Relu | Flatten | Dense


@dataclass(frozen=True)
class Layer:
    """One row of the table.

    Parameters
    ----------
    name : str
        Unique; what ``--only`` searches.
    shape : tuple of int
        Shape of the input, ``(N, H, W, C)``, or ``(N, n)`` when the first operation is `Dense`.
    ops : tuple of Op
        What is computed.
    dtype : str
        ``"float32"`` or ``"float64"``.
    fused : bool
        Whether pycnn may compute a convolution, its ReLU and its pooling in one call.  The peers
        that work on graphs always may.
    quick : bool
        Whether ``--quick`` includes it.
    """

    name: str
    shape: tuple[int, ...]
    ops: tuple[Op, ...]
    dtype: str = "float32"
    fused: bool = True
    quick: bool = False


@dataclass(frozen=True)
class Data:
    """The numbers of one layer: the input, and weights and bias (or None) for each operation."""

    x: np.ndarray
    params: tuple[tuple[np.ndarray | None, np.ndarray | None], ...]


def output_shape(op, shape):
    """Shape that `op` makes of an input of this shape."""
    match op:
        case Conv():
            n, h, w, _ = shape
            oh, ow = ((s + 2 * op.padding - op.size) // op.stride + 1 for s in (h, w))
            return n, oh, ow, op.filters
        case MaxPool() | AvgPool():
            n, h, w, c = shape
            return n, (h - op.size) // op.stride + 1, (w - op.size) // op.stride + 1, c
        case GlobalAvgPool():
            return shape[0], shape[-1]
        case Relu():
            return shape
        case Flatten():
            return shape[0], int(np.prod(shape[1:]))
        case Dense():
            return shape[0], op.units
    raise TypeError(f"not an operation: {op!r}")


def input_shapes(layer):
    """Shape that each operation of the layer receives."""
    shapes = [layer.shape]
    for op in layer.ops[:-1]:
        shapes.append(output_shape(op, shapes[-1]))
    return shapes


def terms(op, shape):
    """Number of inputs that are summed (or compared) into one output of `op`."""
    match op:
        case Conv():
            return op.size**2 * shape[-1] // op.groups
        case MaxPool() | AvgPool():
            return op.size**2
        case GlobalAvgPool():
            return shape[1] * shape[2]
        case Dense():
            return shape[-1]
    return 1


def operation_count(layer):
    """Arithmetic operations: a multiply-add counts two, an addition or a comparison one."""
    total = 0
    for op, shape in zip(layer.ops, input_shapes(layer), strict=True):
        if isinstance(op, Flatten):
            continue
        each = 2 if isinstance(op, Conv | Dense) else 1
        total += each * terms(op, shape) * int(np.prod(output_shape(op, shape)))
    return total


def make_data(layer):
    """Random input and weights, the same ones in every run.

    They are normally distributed, but for the filters and weights behind the first of a chain:
    those are positive, as in the tutorial, or the ReLUs could leave nothing but zeros to compare.
    """
    rng = np.random.default_rng(zlib.crc32(layer.name.encode()))
    x = rng.standard_normal(layer.shape).astype(layer.dtype)
    params = []
    first = True
    for op, shape in zip(layer.ops, input_shapes(layer), strict=True):
        weights = bias = None
        if isinstance(op, Conv | Dense):
            if isinstance(op, Conv):
                count, biased = op.filters, op.bias
                size = (count, op.size, op.size, shape[-1] // op.groups)
            else:
                count, biased = op.units, True
                size = (shape[-1], count)
            # Scaled to keep the values of a long chain near one.
            if first:
                weights = rng.standard_normal(size) / np.sqrt(terms(op, shape))
            else:
                weights = rng.random(size) * 2 / terms(op, shape)
            weights = weights.astype(layer.dtype)
            bias = rng.standard_normal(count).astype(layer.dtype) if biased else None
            first = False
        params.append((weights, bias))
    return Data(x, tuple(params))


def _windows(x, op):
    """Yield, for each tap of a window, its position and the strided view of `x` it reads."""
    oh, ow = ((s - op.size) // op.stride + 1 for s in x.shape[1:3])
    for i, j in product(range(op.size), repeat=2):
        rows = slice(i, i + (oh - 1) * op.stride + 1, op.stride)
        columns = slice(j, j + (ow - 1) * op.stride + 1, op.stride)
        yield i, j, x[:, rows, columns]


def _conv(x, op, weights):
    pad = (op.padding, op.padding)
    x = np.pad(x, ((0, 0), pad, pad, (0, 0)))
    per_group = op.filters // op.groups
    channels = x.shape[-1] // op.groups
    total = 0
    for i, j, view in _windows(x, op):
        if channels == 1 and per_group == 1:
            total = total + view * weights[:, i, j, 0]
            continue
        groups = [
            view[..., g * channels : (g + 1) * channels]
            @ weights[g * per_group : (g + 1) * per_group, i, j].T
            for g in range(op.groups)
        ]
        total = total + np.concatenate(groups, axis=-1)
    return total


def _apply(op, x, weights, bias):
    match op:
        case Conv():
            x = _conv(x, op, weights)
        case Dense():
            x = x @ weights
        case MaxPool():
            x = functools.reduce(np.maximum, (view for _, _, view in _windows(x, op)))
        case AvgPool():
            x = sum(view for _, _, view in _windows(x, op)) / op.size**2
        case GlobalAvgPool():
            x = x.mean(axis=(1, 2))
        case Relu():
            x = np.maximum(x, 0)
        case Flatten():
            x = x.reshape(len(x), -1)
    return x if bias is None else x + bias


class Judge:
    """Says how far an answer is from the right one.

    The right answer is computed in float64 for float32 layers, and in NumPy's longdouble (80 bits
    on x86) for float64 layers.  The unit of error is ``eps * sum|x||w|``, with eps of the layer's
    dtype; in a chain, ``sum|x||w|`` is what the chain of absolute values gives.

    Parameters
    ----------
    layer : Layer
    data : Data

    Attributes
    ----------
    direct_limit : float
        What no direct summation can exceed: Higham's gamma of K products and the bias, half an
        eps each.  Zero where nothing is rounded: maximum pooling and ReLU.
    """

    def __init__(self, layer, data):
        wide = np.float64 if layer.dtype == "float32" else np.longdouble
        right, size = data.x.astype(wide), np.abs(data.x.astype(wide))
        rounded = 0
        for op, shape, (weights, bias) in zip(
            layer.ops, input_shapes(layer), data.params, strict=True
        ):
            w = None if weights is None else weights.astype(wide)
            b = None if bias is None else bias.astype(wide)
            right = _apply(op, right, w, b)
            size = _apply(
                op, size, None if w is None else np.abs(w), None if b is None else np.abs(b)
            )
            if isinstance(op, Conv | Dense | AvgPool | GlobalAvgPool):
                rounded += terms(op, shape) + 2
        eps = float(np.finfo(layer.dtype).eps)
        self._right, self._unit = right, size * wide(eps)
        self.direct_limit = rounded / 2 / (1 - rounded * eps)
        self._eps = eps

    def error(self, answer):
        """Largest error of `answer`, in units; NaN or infinity when it holds any."""
        return float(self.errors(answer).max())

    def errors(self, answer):
        """Error of each number of `answer`, in units.

        Raises
        ------
        ValueError
            When the shape is not the right one.
        """
        if answer.shape != self._right.shape:
            raise ValueError(f"gave shape {answer.shape}, not {self._right.shape}")
        off = np.abs(answer - self._right)
        # Where the unit is zero every product is zero, so any error at all is infinitely wrong.
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(off == 0, 0, off / self._unit)

    def limit(self, precision, direct):
        """Error above which an answer is called wrong.

        Parameters
        ----------
        precision : {"highest", "high", "medium"}
        direct : bool
            Whether the products are promised to be summed directly.  A peer may use Winograd's
            transforms at ``"highest"``, whose error has no such bound: it gets at least
            ``2**-14 * sum|x||w|``.
        """
        if self.direct_limit == 0:
            return 0.0
        if precision == "highest":
            return self.direct_limit if direct else max(self.direct_limit, 2**-14 / self._eps)
        # At "medium", three roundings to bfloat16: of the input, the weight and the result.
        return self.direct_limit + {"high": 2**-16, "medium": 2**-6}[precision] / self._eps


def _conv_layer(name, shape, filters, size, *, dtype="float32", quick=False, **options):
    return Layer(name, shape, (Conv(filters, size, **options),), dtype=dtype, quick=quick)


def _tutorial(name, dtype, fused, quick=False):
    stages = ((2, 3), (3, 5), (1, 7))
    ops = []
    for filters, size in stages:
        ops += [Conv(filters, size, bias=False), Relu(), MaxPool()]
    return Layer(name, (1, 300, 451, 1), tuple(ops), dtype=dtype, fused=fused, quick=quick)


_LENET = (
    *(Conv(6, 5), Relu(), MaxPool()),
    *(Conv(16, 5), Relu(), MaxPool()),
    *(Flatten(), Dense(120), Relu(), Dense(84), Relu(), Dense(10)),
)

_POOLED = (1, 112, 112, 64)


def all_layers():
    """Every layer of the table, in its order."""
    c = _conv_layer
    f64 = "float64"
    table = [
        c("tutorial 1", (1, 300, 451, 1), 2, 3, bias=False, quick=True),
        c("tutorial 2", (1, 149, 224, 2), 3, 5, bias=False),
        c("tutorial 3", (1, 72, 110, 3), 1, 7, bias=False),
        c("tutorial 1 f64", (1, 300, 451, 1), 2, 3, bias=False, dtype=f64),
        c("tutorial 2 f64", (1, 149, 224, 2), 3, 5, bias=False, dtype=f64),
        c("tutorial 3 f64", (1, 72, 110, 3), 1, 7, bias=False, dtype=f64),
        _tutorial("tutorial whole, plain", "float32", fused=False),
        _tutorial("tutorial whole, fused", "float32", fused=True, quick=True),
        _tutorial("tutorial whole, plain f64", f64, fused=False),
        _tutorial("tutorial whole, fused f64", f64, fused=True),
        c("lenet conv1", (1, 28, 28, 1), 6, 5, quick=True),
        c("lenet conv2", (1, 12, 12, 6), 16, 5),
        Layer("lenet whole", (1, 28, 28, 1), _LENET, quick=True),
        Layer("lenet whole, batch 8", (8, 28, 28, 1), _LENET),
        c("rgb 3x3->16", (1, 224, 224, 3), 16, 3, padding=1),
        c("vgg conv1", (1, 224, 224, 3), 64, 3, padding=1),
        c("vgg conv2", (1, 224, 224, 64), 64, 3, padding=1),
        c("resnet stem 7x7/2", (1, 224, 224, 3), 64, 7, stride=2, padding=3, quick=True),
        c("resnet 56x56x64 3x3", (1, 56, 56, 64), 64, 3, padding=1, quick=True),
        c("resnet 28x28x128 3x3", (1, 28, 28, 128), 128, 3, padding=1),
        c("resnet 14x14x256 3x3", (1, 14, 14, 256), 256, 3, padding=1),
        c("resnet 7x7x512 3x3", (1, 7, 7, 512), 512, 3, padding=1),
        c("resnet 56x56x64->128 3x3/2", (1, 56, 56, 64), 128, 3, stride=2, padding=1),
        c("resnet 56x56x64->256 1x1", (1, 56, 56, 64), 256, 1, quick=True),
        c("resnet 14x14x1024->256 1x1", (1, 14, 14, 1024), 256, 1),
        c("resnet 56x56x256->512 1x1/2", (1, 56, 56, 256), 512, 1, stride=2),
        c("resnet 56x56x64 3x3, batch 8", (8, 56, 56, 64), 64, 3, padding=1),
        c("resnet 14x14x256 3x3, batch 8", (8, 14, 14, 256), 256, 3, padding=1),
        c("resnet 56x56x64 3x3 f64", (1, 56, 56, 64), 64, 3, padding=1, dtype=f64),
        c("resnet 14x14x256 3x3 f64", (1, 14, 14, 256), 256, 3, padding=1, dtype=f64),
        c("resnet 56x56x64->256 1x1 f64", (1, 56, 56, 64), 256, 1, dtype=f64),
        c("mobilenet stem 3x3/2", (1, 224, 224, 3), 32, 3, stride=2, padding=1),
        c("mobilenet 112x112x32 dw", (1, 112, 112, 32), 32, 3, padding=1, groups=32, quick=True),
        c("mobilenet 14x14x512 dw", (1, 14, 14, 512), 512, 3, padding=1, groups=512),
        c("mobilenet 112x112x64 dw/2", (1, 112, 112, 64), 64, 3, stride=2, padding=1, groups=64),
        c("mobilenet 14x14x512 dw, batch 8", (8, 14, 14, 512), 512, 3, padding=1, groups=512),
        c("mobilenet 112x112x32->64 1x1", (1, 112, 112, 32), 64, 1),
        c("mobilenet 14x14x512->512 1x1", (1, 14, 14, 512), 512, 1),
        c("squeezenet stem 3x3/2", (1, 224, 224, 3), 64, 3, stride=2),
        c("squeezenet 55x55x64->16 1x1", (1, 55, 55, 64), 16, 1),
        c("squeezenet 55x55x16->64 1x1", (1, 55, 55, 16), 64, 1),
        c("squeezenet 55x55x16->64 3x3", (1, 55, 55, 16), 64, 3, padding=1),
        c("squeezenet 13x13x512->64 1x1", (1, 13, 13, 512), 64, 1),
        c("squeezenet 13x13x64->256 3x3", (1, 13, 13, 64), 256, 3, padding=1),
        c("squeezenet 13x13x512->1000 1x1", (1, 13, 13, 512), 1000, 1),
        c("u-net 224x224x64->2 1x1", (1, 224, 224, 64), 2, 1),
        c("fcos 28x28x256->4 3x3", (1, 28, 28, 256), 4, 3, padding=1),
        Layer("max pool 2x2/2", _POOLED, (MaxPool(2, 2),), quick=True),
        Layer("max pool 3x3/2", _POOLED, (MaxPool(3, 2),)),
        Layer("avg pool 2x2/2", _POOLED, (AvgPool(2, 2),)),
        Layer("avg pool 3x3/2", _POOLED, (AvgPool(3, 2),)),
        Layer("global avg pool", _POOLED, (GlobalAvgPool(),)),
        Layer("relu", _POOLED, (Relu(),), quick=True),
        Layer("dense 2048->1000", (1, 2048), (Dense(1000),)),
        Layer("dense 2048->1000, batch 8", (8, 2048), (Dense(1000),)),
        c("call overhead 8x8x1 3x3", (1, 8, 8, 1), 1, 3, bias=False, quick=True),
    ]
    names = [layer.name for layer in table]
    assert len(set(names)) == len(names), "two layers of one name"
    return table


LARGEST = "vgg conv2"
"""Name of the layer whose memory use is measured."""
