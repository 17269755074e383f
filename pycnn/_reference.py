"""The layers of pycnn in plain NumPy: what they mean, without how they are made fast.

Read this module to learn exactly what a layer computes; the tests use it as the oracle. It takes
the same arguments as the public functions (without ``out`` and ``precision``), works in a wider
format than the engine does, and shares no code with it: even the output shapes are worked out here
a second time, so a mistake would have to be made twice to go unseen.

Every sum is taken tap by tap. For one tap of the window, the pixels it meets form a strided slice
of the image; where the tap falls into the padding the slice is clipped. The padded image is never
built, so padding can neither cost memory nor turn ``0 * inf`` into NaN.
"""

import numpy as np

__all__ = [
    "avg_pool2d",
    "avg_pool2d_bound",
    "conv2d",
    "conv2d_bound",
    "conv_relu_pool",
    "dense",
    "dense_bound",
    "global_avg_pool2d",
    "global_max_pool2d",
    "leaky_relu",
    "max_pool2d",
    "relu",
    "sigmoid",
    "softmax",
]


# ---------------------------------------------------------------------------------------------
# Number formats
# ---------------------------------------------------------------------------------------------


def _computing_dtype(*arrays):
    """The format the engine computes in: at least float32, float64 where an input needs it."""
    return np.result_type(*(a.dtype.newbyteorder("=") for a in arrays), np.float32)


def _wider(dtype):
    """The format this module computes in, so that its own rounding does not count."""
    return np.dtype(np.float64) if dtype == np.float32 else np.dtype(np.longdouble)


def _gamma(n, unit_roundoff):
    """Return Higham's ``n u / (1 - n u)``: the relative error of `n` roundings in a row."""
    return n * unit_roundoff / (1 - n * unit_roundoff)


def _rounding_bound(n, magnitude, dtype):
    """Bound the error of `n` roundings in `dtype` on terms adding up to `magnitude`.

    Where `_wider` is no wider (a longdouble of 64 bits), this module rounds as often as the
    engine does, and the distance between the two may be twice the error of one.
    """
    info = np.finfo(dtype)
    sides = 1 if np.finfo(_wider(dtype)).eps < info.eps else 2
    bound = _gamma(n, magnitude.dtype.type(info.eps) / 2) * magnitude
    return sides * (bound + n * magnitude.dtype.type(info.smallest_subnormal))


# ---------------------------------------------------------------------------------------------
# Geometry
# ---------------------------------------------------------------------------------------------


def _pair(value):
    """Read an int, or two of them, as (vertical, horizontal)."""
    if np.ndim(value) == 0:
        return int(value), int(value)
    vertical, horizontal = value
    return int(vertical), int(horizontal)


def _pads_of_axis(padding, axis, size, extent, stride):
    """Return the padding before and after one axis of `size` pixels; the window spans `extent`."""
    if padding == "valid":
        return 0, 0
    if padding == "full":
        return extent - 1, extent - 1
    if padding == "same":
        wanted = -(-size // stride)
        total = max((wanted - 1) * stride + extent - size, 0)
        return total // 2, total - total // 2
    if np.ndim(padding) == 0:
        return int(padding), int(padding)
    before_after = padding[axis]
    if np.ndim(before_after) == 0:
        return int(before_after), int(before_after)
    before, after = before_after
    return int(before), int(after)


class _Axis:
    """How a window of `k` taps slides along one axis of the image."""

    def __init__(self, size, k, stride, dilation, padding, axis, ceil_mode=False):
        extent = (k - 1) * dilation + 1
        self.size, self.k, self.stride, self.dilation = size, k, stride, dilation
        self.before, self.after = _pads_of_axis(padding, axis, size, extent, stride)
        room = size + self.before + self.after - extent
        if ceil_mode:
            self.n_out = -(-room // stride) + 1
            if (self.n_out - 1) * stride >= size + self.before:
                self.n_out -= 1  # the last window would start in the padding after the image
        else:
            self.n_out = room // stride + 1
        # With ceil_mode a window may reach past the padding, even the only one.
        if k < 1 or self.n_out < 1 or (room < 0 and not ceil_mode):
            raise ValueError(f"a window of {extent} pixels does not fit axis {axis} of {size}")

    def tap(self, i):
        """Return the outputs for which tap `i` meets a pixel, and those pixels, as two slices."""
        # Output o puts tap i on pixel o * stride + offset; keep the o with 0 <= pixel < size.
        offset = i * self.dilation - self.before
        first = max(0, -(offset // self.stride))
        last = min(self.n_out - 1, (self.size - 1 - offset) // self.stride)
        if last < first:
            return slice(0, 0), slice(0, 0)
        start = first * self.stride + offset
        stop = last * self.stride + offset + 1
        return slice(first, last + 1), slice(start, stop, self.stride)

    def taps_inside(self, low, high):
        """Count, for every output, the taps that fall on positions ``low <= p < high``."""
        count = np.zeros(self.n_out, dtype=np.int64)
        for o in range(self.n_out):
            for i in range(self.k):
                count[o] += low <= o * self.stride + i * self.dilation - self.before < high
        return count


def _windows(rows, columns):
    """Yield, for every tap of the window, its index, the outputs it meets and the pixels."""
    for i in range(rows.k):
        out_rows, in_rows = rows.tap(i)
        for j in range(columns.k):
            out_columns, in_columns = columns.tap(j)
            yield (i, j), (slice(None), out_rows, out_columns), (slice(None), in_rows, in_columns)


def _as_batch(x):
    """View (H, W), (H, W, C) or (N, H, W, C) as (N, H, W, C)."""
    if x.ndim == 2:
        return x[np.newaxis, :, :, np.newaxis]
    if x.ndim == 3:
        return x[np.newaxis]
    if x.ndim == 4:
        return x
    raise ValueError(f"an image has 2, 3 or 4 dimensions, not {x.ndim}")


def _unbatch(y, ndim):
    """Undo `_as_batch`: give `y` (N, OH, OW, C) the rank of the image it was made from."""
    if ndim == 2:
        return y[0, :, :, 0]
    return y[0] if ndim == 3 else y


# ---------------------------------------------------------------------------------------------
# Convolution
# ---------------------------------------------------------------------------------------------


def _correlate(batch, filters, stride, padding, dilation, groups):
    """Correlate (N, H, W, C) with (F, KH, KW, C // groups), in the dtype of the arguments."""
    n, height, width, channels = batch.shape
    n_filters, kh, kw, depth = filters.shape
    if depth * groups != channels or n_filters % groups:
        raise ValueError(f"{channels} channels and {n_filters} filters in {groups} groups")
    (sh, sw), (dh, dw) = _pair(stride), _pair(dilation)
    rows = _Axis(height, kh, sh, dh, padding, 0)
    columns = _Axis(width, kw, sw, dw, padding, 1)
    out = np.zeros((n, rows.n_out, columns.n_out, n_filters), dtype=batch.dtype)
    per_group = n_filters // groups
    for g in range(groups):
        channel = slice(g * depth, (g + 1) * depth)
        filter_ = slice(g * per_group, (g + 1) * per_group)
        for (i, j), where, pixels in _windows(rows, columns):
            # einsum, because a BLAS matrix product may leave out the terms of a zero weight.
            out[(*where, filter_)] += np.einsum(
                "nhwc,fc->nhwf", batch[(*pixels, channel)], filters[filter_, i, j]
            )
    return out


def _conv_arguments(x, filters, bias):
    """Return image batch, 4-D filters and bias as the engine sees them, and its dtype."""
    x, filters = np.asarray(x), np.asarray(filters)
    if filters.ndim == 3 and x.ndim == 2:
        filters = filters[..., np.newaxis]
    elif not (filters.ndim == 4 and x.ndim in (3, 4)):
        raise ValueError(f"{filters.ndim}-D filters do not take a {x.ndim}-D image")
    dtype = _computing_dtype(x, filters)
    bias = np.zeros(filters.shape[0]) if bias is None else np.asarray(bias)
    if bias.shape != (filters.shape[0],):
        raise ValueError(f"bias of shape {bias.shape} for {filters.shape[0]} filters")
    # The engine meets every number rounded to its own format; only then do we widen.
    batch, filters, bias = (a.astype(dtype) for a in (_as_batch(x), filters, bias))
    return batch, filters, bias, dtype


def conv2d(
    x, filters, bias=None, *, stride=1, padding="valid", dilation=1, groups=1, activation=None
):
    """Slide every filter over the image and sum the products (cross-correlation, not flipped).

    Returns the wider format of the tests: float64 where the engine computes in float32, longdouble
    where it computes in float64. Everything else is as in `pycnn.conv2d`.
    """
    x = np.asarray(x)
    batch, filters, bias, dtype = _conv_arguments(x, filters, bias)
    wide = _wider(dtype)
    out = _correlate(batch.astype(wide), filters.astype(wide), stride, padding, dilation, groups)
    out = _activate(out + bias.astype(wide), activation)
    return out if x.ndim == 4 else out[0]


def conv2d_bound(
    x, filters, bias=None, *, stride=1, padding="valid", dilation=1, groups=1, dtype=None
):
    """Return how far each output of `pycnn.conv2d` (no activation) may lie from `conv2d`'s.

    With K products in the full window and the unit round-off u of `dtype` this is
    ``gamma_(K+2) * (|b| + sum |x||w|) + (K+2) * smallest_subnormal``, ``gamma_n = nu / (1 - nu)``
    (Higham, Accuracy and Stability of Numerical Algorithms, chapter 3). No order of the sum, with
    or without fused multiply-add, can miss it.

    Parameters
    ----------
    dtype : dtype, optional
        The format the engine computes in; by default the one that the inputs call for.
    """
    x = np.asarray(x)
    batch, filters, bias, computing = _conv_arguments(x, filters, bias)
    dtype = computing if dtype is None else np.dtype(dtype)
    wide = _wider(dtype)
    batch, filters, bias = (np.abs(a.astype(wide)) for a in (batch, filters, bias))
    magnitude = _correlate(batch, filters, stride, padding, dilation, groups) + bias
    n_products = int(np.prod(filters.shape[1:]))
    bound = _rounding_bound(n_products + 2, magnitude, dtype)
    return bound if x.ndim == 4 else bound[0]


def conv_relu_pool(
    x,
    filters,
    bias=None,
    *,
    pool_size=2,
    pool_stride=None,
    pool="max",
    stride=1,
    padding="valid",
    dilation=1,
    groups=1,
    activation="relu",
):
    """Apply `conv2d`, the activation and a pool one after the other."""
    y = conv2d(
        x,
        filters,
        bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        activation=activation,
    )
    pool2d = {"max": _max_pool, "avg": _avg_pool}[pool]
    return pool2d(y, pool_size, pool_stride)


# ---------------------------------------------------------------------------------------------
# Pooling
# ---------------------------------------------------------------------------------------------


def _pool_axes(batch, pool_size, stride, padding, dilation, ceil_mode):
    """Return the two `_Axis` of a pool; a window that would hold only padding is refused."""
    kh, kw = _pair(pool_size)
    sh, sw = _pair(pool_size if stride is None else stride)
    dh, dw = _pair(dilation)
    rows = _Axis(batch.shape[1], kh, sh, dh, padding, 0, ceil_mode)
    columns = _Axis(batch.shape[2], kw, sw, dw, padding, 1, ceil_mode)
    for axis in (rows, columns):
        extent = (axis.k - 1) * axis.dilation + 1
        if max(axis.before, axis.after) >= extent or not axis.taps_inside(0, axis.size).all():
            raise ValueError("a window would hold only padding")
    return rows, columns


def _max_pool(x, pool_size, stride, padding="valid", dilation=1, ceil_mode=False):
    batch = _as_batch(x)
    rows, columns = _pool_axes(batch, pool_size, stride, padding, dilation, ceil_mode)
    shape = (batch.shape[0], rows.n_out, columns.n_out, batch.shape[3])
    if x.dtype.kind == "f":
        out = np.full(shape, -np.inf, dtype=x.dtype)
    else:  # the least number of an integer format, False for bool
        lowest = False if x.dtype.kind == "b" else np.iinfo(x.dtype).min
        out = np.full(shape, lowest, dtype=x.dtype)
    for _, where, pixels in _windows(rows, columns):
        out[where] = np.maximum(out[where], batch[pixels])  # np.maximum hands NaN on
    return _unbatch(out, x.ndim)


def max_pool2d(x, pool_size=2, stride=None, *, padding="valid", dilation=1, ceil_mode=False):
    """Take the largest pixel of every window, or NaN; padding never wins. Keeps the dtype."""
    x = np.asarray(x)
    x = x.astype(x.dtype.newbyteorder("="))
    return _max_pool(x, pool_size, stride, padding, dilation, ceil_mode)


def _avg_pool(x, pool_size, stride, padding="valid", ceil_mode=False, count_include_pad=False):
    batch = _as_batch(x)
    rows, columns = _pool_axes(batch, pool_size, stride, padding, 1, ceil_mode)
    total = np.zeros((batch.shape[0], rows.n_out, columns.n_out, batch.shape[3]), x.dtype)
    for _, where, pixels in _windows(rows, columns):
        total[where] += batch[pixels]
    if count_include_pad:  # ceil_mode's overhang past the padding never counts
        counts = [a.taps_inside(-a.before, a.size + a.after) for a in (rows, columns)]
    else:
        counts = [a.taps_inside(0, a.size) for a in (rows, columns)]
    out = total / np.multiply.outer(*counts).astype(x.dtype)[:, :, np.newaxis]
    return _unbatch(out, x.ndim)


def avg_pool2d(
    x, pool_size=2, stride=None, *, padding="valid", ceil_mode=False, count_include_pad=False
):
    """Average every window, over the pixels it holds or, if asked, over its padding as well."""
    x = np.asarray(x)
    dtype = _computing_dtype(x)
    x = x.astype(dtype).astype(_wider(dtype))
    return _avg_pool(x, pool_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d_bound(
    x, pool_size=2, stride=None, *, padding="valid", ceil_mode=False, count_include_pad=False
):
    """Return how far each output of `pycnn.avg_pool2d` may lie: ``gamma_(K+1) * mean |x|``.

    The subnormal term covers a quotient that falls below the normal range.
    """
    x = np.asarray(x)
    dtype = _computing_dtype(x)
    size = np.abs(x.astype(dtype).astype(_wider(dtype)))
    mean = _avg_pool(size, pool_size, stride, padding, ceil_mode, count_include_pad)
    kh, kw = _pair(pool_size)
    return _rounding_bound(kh * kw + 1, mean, dtype)


def _over_image(reduce, x, keepdims):
    if x.ndim not in (2, 3, 4):
        raise ValueError(f"an image has 2, 3 or 4 dimensions, not {x.ndim}")
    axes = (0, 1) if x.ndim < 4 else (1, 2)
    if x.shape[axes[0]] * x.shape[axes[1]] == 0:
        raise ValueError("an image without pixels has neither a mean nor a maximum")
    return np.asarray(reduce(x, axis=axes, keepdims=bool(keepdims)))


def global_max_pool2d(x, *, keepdims=False):
    """Take the largest pixel of every channel, or NaN. Keeps the dtype."""
    x = np.asarray(x)
    return _over_image(np.max, x.astype(x.dtype.newbyteorder("=")), keepdims)


def global_avg_pool2d(x, *, keepdims=False):
    """Average every channel."""
    x = np.asarray(x)
    dtype = _computing_dtype(x)
    return _over_image(np.mean, x.astype(dtype).astype(_wider(dtype)), keepdims)


# ---------------------------------------------------------------------------------------------
# Activations and the dense layer
# ---------------------------------------------------------------------------------------------


def _widened(x):
    x = np.asarray(x)
    dtype = _computing_dtype(x)
    return x.astype(dtype).astype(_wider(dtype))


def relu(x):
    """Replace what is below zero by zero; NaN stays NaN. Keeps the dtype."""
    x = np.asarray(x)
    return np.where(x < 0, np.zeros((), x.dtype), x).astype(x.dtype.newbyteorder("="))


def _leaky_relu(x, negative_slope=0.01):
    return np.where(x < 0, x.dtype.type(negative_slope) * x, x)


def leaky_relu(x, negative_slope=0.01):
    """Multiply what is below zero by `negative_slope`."""
    return _leaky_relu(_widened(x), negative_slope)


def _sigmoid(x):
    small = np.exp(-np.abs(x))  # never overflows
    return np.where(x < 0, small, 1) / (1 + small)


def sigmoid(x):
    """Return ``1 / (1 + exp(-x))``."""
    return _sigmoid(_widened(x))


def _softmax(x, axis=-1):
    if x.size == 0:
        return x.copy()
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def softmax(x, axis=-1):
    """Return ``exp(x) / sum(exp(x))`` along `axis`."""
    return _softmax(_widened(x), axis)


def _activate(x, activation):
    if activation is None:
        return x
    return {
        "relu": relu,
        "leaky_relu": _leaky_relu,
        "sigmoid": _sigmoid,
        "softmax": _softmax,
    }[activation](x)


def _dense_arguments(x, weights, bias):
    x, weights = np.asarray(x), np.asarray(weights)
    if x.ndim not in (1, 2) or weights.ndim != 2 or x.shape[-1] != weights.shape[0]:
        raise ValueError(f"x of shape {x.shape} and weights of shape {weights.shape}")
    dtype = _computing_dtype(x, weights)
    bias = np.zeros(weights.shape[1]) if bias is None else np.asarray(bias)
    if bias.shape != weights.shape[1:]:
        raise ValueError(f"bias of shape {bias.shape} for {weights.shape[1]} outputs")
    wide = _wider(dtype)
    return (*(a.astype(dtype).astype(wide) for a in (x, weights, bias)), dtype)


def dense(x, weights, bias=None, *, activation=None):
    """Return ``x @ weights + bias``."""
    x, weights, bias, _ = _dense_arguments(x, weights, bias)
    return _activate(np.einsum("...i,io->...o", x, weights) + bias, activation)


def dense_bound(x, weights, bias=None):
    """Return how far each output of `pycnn.dense` (no activation) may lie; see `conv2d_bound`."""
    x, weights, bias, dtype = _dense_arguments(x, weights, bias)
    magnitude = np.einsum("...i,io->...o", np.abs(x), np.abs(weights)) + np.abs(bias)
    return _rounding_bound(weights.shape[0] + 2, magnitude, dtype)
