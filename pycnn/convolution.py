"""conv2d: two-dimensional convolution, channel-last, on plain NumPy arrays."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Generic, TypeVar, overload

import numpy as np

from pycnn import _checks, _conv, _repeat
from pycnn.activations import EPILOGUES, apply

if TYPE_CHECKING:
    from typing import Any, SupportsIndex, Unpack

    from numpy.typing import NDArray

    from pycnn._typing import (
        Activation,
        Array,
        ArrayLike,
        ConvOptions,
        DType,
        Float32,
        Float64,
        Narrow,
        NarrowArray,
        Padding,
        Pair,
        Precision,
        Shape,
        Sides,
        Wide,
        WideArray,
    )

_Scalar_co = TypeVar("_Scalar_co", bound=np.generic, covariant=True)


class PackedFilters(Generic[_Scalar_co]):
    """Filters packed once for the kernels, to be used in many calls.

    `conv2d` and `conv_relu_pool` take it in place of an array and give the same result, without
    rearranging the filters at every call. Threads may share it.

    Parameters
    ----------
    filters : array_like, shape (F, KH, KW) or (F, KH, KW, C // groups)
        Copied.

    Attributes
    ----------
    array : ndarray
        The filters, read-only.
    shape, dtype
        Those of `array`.

    Raises
    ------
    TypeError
        Complex, object, string or longdouble arrays; masked arrays.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> edges = pycnn.PackedFilters([[[-1.0, 0.0, 1.0]] * 3])
    >>> edges
    PackedFilters(shape=(1, 3, 3), dtype=float64)
    >>> [pycnn.conv2d(np.eye(5), edges).shape for _ in range(2)]
    [(3, 3, 1), (3, 3, 1)]
    """

    __slots__ = ("_array", "_last", "_layouts")

    @overload
    def __init__(self, filters: NDArray[_Scalar_co]) -> None: ...
    @overload
    def __init__(self: PackedFilters[Any], filters: ArrayLike) -> None: ...
    def __init__(self, filters: ArrayLike) -> None:
        array = _checks.as_array(filters, "PackedFilters", "filters")
        try:
            self._array = _checks.frozen(array)
        except MemoryError as error:
            raise _checks.out_of_memory("PackedFilters", error) from None
        self._layouts: dict[object, _conv.Packed] = {}
        self._last: _repeat.LastCall | None = None

    @property
    def array(self) -> NDArray[_Scalar_co]:
        return self._array.view()

    @property
    def shape(self) -> Shape:
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[_Scalar_co]:
        return self._array.dtype

    def __repr__(self) -> str:
        return f"PackedFilters(shape={self.shape}, dtype={self.dtype})"

    def __reduce__(self) -> tuple[type[PackedFilters[Any]], tuple[Array]]:
        return PackedFilters, (self._array,)

    def layout(self, plan: _conv.ConvPlan) -> _conv.Packed:
        """The filters as `plan` takes them, packed on first use."""
        packed = self._layouts.get(plan.packing)
        if packed is None:  # two threads may both pack; one result is kept
            packed = self._layouts.setdefault(plan.packing, plan.pack(self._array))
        return packed

    def repeat(
        self, options: tuple[object, ...], x: ArrayLike, bias: ArrayLike | None, out: object
    ) -> Array | None:
        """The result of a call like the last one; None for any other."""
        try:
            return _repeat.repeat(self._last, options, x, bias, out)
        except MemoryError as error:
            raise _checks.out_of_memory(str(options[0]), error) from None

    def remember(self, *call: Any) -> None:
        """Take a call for the last one: the arguments of `_repeat.remember`."""
        self._last = _repeat.remember(*call)


def geometry(
    func: str,
    x_shape: Shape,
    filters_shape: Shape,
    stride: object,
    padding: object,
    dilation: object,
    groups: int,
) -> tuple[Shape, Shape, Shape, Shape, Sides, Shape]:
    """The checked sizes of a convolution: x, filters, outputs, stride, pads, dilation."""
    x, filters = _checks.conv_shapes(x_shape, filters_shape, groups, func)
    sizes, window = x[1:3], filters[1:3]
    stride = _checks.pair(stride, func, "stride")
    dilation = _checks.pair(dilation, func, "dilation")
    pads = _checks.resolve_padding(
        _checks.canonical_padding(padding, func), sizes, window, stride, dilation
    )
    out = tuple(
        _checks.output_size(size, k, s, d, p, func, axis)
        for size, k, s, d, p, axis in zip(
            sizes, window, stride, dilation, pads, ("height", "width"), strict=True
        )
    )
    return x, filters, out, stride, pads, dilation


@lru_cache(maxsize=512)
def _conv_plan(
    func: str,
    x_shape: Shape,
    filters_shape: Shape,
    x_dtype: DType,
    filters_dtype: DType,
    stride: object,
    padding: object,
    dilation: object,
    groups: int,
    precision: Precision,
) -> tuple[Shape, DType, _conv.ConvPlan | None]:
    """The checked geometry of a call: (result shape and dtype, plan).

    No plan where there are no products.
    """
    dtype = _checks.compute_dtype(x_dtype, filters_dtype, func)
    x, filters, out, stride, pads, dilation = geometry(
        func, x_shape, filters_shape, stride, padding, dilation, groups
    )
    shape = (*out, filters[0]) if len(x_shape) < 4 else (x[0], *out, filters[0])
    _checks.check_size(shape, dtype, func)
    if 0 in shape or x[3] == 0:
        return shape, dtype, None
    before = (pads[0][0], pads[1][0])
    try:
        plan = _conv.ConvPlan(
            dtype.num, x, filters, out, stride, before, dilation, groups, precision
        )
    except MemoryError as error:
        raise _checks.out_of_memory(func, error) from None
    return shape, dtype, plan


def prepare(
    func: str,
    x: ArrayLike,
    filters: ArrayLike | PackedFilters[Any],
    bias: ArrayLike | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    activation: Activation,
    precision: Precision,
) -> tuple[Array, Any, Array | None, tuple[Shape, DType], Shape, DType, _conv.ConvPlan | None]:
    """Everything a convolution needs, checked: x, filters, bias, x's shape and dtype, those of the
    result, plan.

    Those of x are what was planned for: another thread may give it others.
    """
    if type(x) is not np.ndarray:
        x = _checks.as_array(x, func, "x")
    if type(filters) is not np.ndarray and not isinstance(filters, PackedFilters):
        filters = _checks.as_array(filters, func, "filters")
    if bias is not None:  # before shapes are read: converting may run a caller's code
        bias = _checks.as_array(bias, func, "bias")
    if activation is not None:
        _checks.choice(activation, _checks.ACTIVATIONS, func, "activation")
    if precision != "highest":
        _checks.choice(precision, _checks.PRECISIONS, func, "precision")
    # Plans are looked up by value, and True == 1 == 1.0: only exact types may be keys.
    if type(stride) is not int:
        stride = _checks.pair(stride, func, "stride")
    if type(padding) is not str and type(padding) is not int:
        padding = _checks.canonical_padding(padding, func)
    if type(dilation) is not int:
        dilation = _checks.pair(dilation, func, "dilation")
    if type(groups) is not int or groups < 1:
        groups = _checks.integer(groups, func, "groups", 1)
    array = filters._array if isinstance(filters, PackedFilters) else filters
    filters_shape = array.shape
    given = x.shape, x.dtype
    shape, dtype, plan = _conv_plan(
        func,
        given[0],
        filters_shape,
        given[1],
        array.dtype,
        stride,
        padding,
        dilation,
        groups,
        precision,
    )
    if bias is not None and bias.shape != filters_shape[:1]:
        raise ValueError(
            f"{func}: bias has shape {bias.shape}; expected one number per filter, "
            f"{filters_shape[:1]}"
        )
    return x, filters, bias, given, shape, dtype, plan


@overload
def conv2d(
    x: WideArray,
    filters: ArrayLike | PackedFilters[Any],
    bias: ArrayLike | None = None,
    **options: Unpack[ConvOptions],
) -> Float64: ...
@overload
def conv2d(
    x: ArrayLike,
    filters: WideArray | PackedFilters[Wide],
    bias: ArrayLike | None = None,
    **options: Unpack[ConvOptions],
) -> Float64: ...
@overload
def conv2d(
    x: NarrowArray,
    filters: NarrowArray | PackedFilters[Narrow],
    bias: ArrayLike | None = None,
    **options: Unpack[ConvOptions],
) -> Float32: ...
@overload
def conv2d(
    x: ArrayLike,
    filters: ArrayLike | PackedFilters[Any],
    bias: ArrayLike | None = None,
    **options: Unpack[ConvOptions],
) -> Array: ...
def conv2d(
    x: ArrayLike,
    filters: ArrayLike | PackedFilters[Any],
    bias: ArrayLike | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = "valid",
    dilation: Pair = 1,
    groups: SupportsIndex = 1,
    activation: Activation = None,
    precision: Precision = "highest",
    out: Array | None = None,
) -> Array:
    """Convolve an image, or a batch of images, with a set of filters.

    This is the convolution of neural networks, a cross-correlation: the filters are not flipped.

    Parameters
    ----------
    x : array_like, shape (H, W), (H, W, C) or (N, H, W, C)
        A grey image, an image with channels last, or a batch of such images.
    filters : array_like or PackedFilters, shape (F, KH, KW) or (F, KH, KW, C // groups)
        Three dimensions for grey images, four for images with channels.
    bias : array_like, shape (F,), optional
        Added to every pixel of the filter's map.
    stride : int or (int, int), default 1
        Pixels from one window to the next, vertically and horizontally.
    padding : {"valid", "same", "full"}, int, (int, int) or ((int, int), (int, int))
        Zeros around the image: none; as many as keep ``ceil(size / stride)`` outputs, the odd one
        at the bottom or right; ``dilation * (k - 1)`` on each side; or given numbers, as ``p``,
        ``(ph, pw)`` or ``((top, bottom), (left, right))``.
    dilation : int or (int, int), default 1
        Pixels from one tap of a filter to the next.
    groups : int, default 1
        Filters ``g * F / groups`` to ``(g + 1) * F / groups - 1`` see only the `g`-th of `groups`
        equal parts of the channels; ``groups=C`` is a depthwise convolution.
    activation : {None, "relu", "leaky_relu", "sigmoid", "softmax"}
        Applied to the result; softmax runs over the filters of each pixel.
    precision : {"highest", "high", "medium"}
        How accurate float32 sums must be; see Notes. A CPU on which a lower one is no faster
        computes the higher one.
    out : ndarray, optional
        Where to put the result; of its exact shape and dtype. It may overlap the inputs.

    Returns
    -------
    ndarray, shape (OH, OW, F) or (N, OH, OW, F)
        With ``OH = (H + top + bottom - dilation * (KH - 1) - 1) // stride + 1``; OW likewise.

    Raises
    ------
    ValueError
        Shapes that do not fit each other, a window larger than the padded image, numbers out of
        range, unknown names, an `out` of another shape.
    TypeError
        Complex, object, string or longdouble arrays; masked arrays; numbers that are not integers;
        an `out` of another dtype.
    MemoryError
        A result too large for this machine.

    See Also
    --------
    conv : the tutorial's name for it.

    Notes
    -----
    With strides ``s``, dilations ``d`` and the padded `x`, the result is [3]_ ::

        o[i, j, f] = bias[f] + sum(x[i * s[0] + u * d[0], j * s[1] + v * d[1], c]
                                   * filters[f, u, v, c])

    over all ``u < KH``, ``v < KW`` and channels ``c`` of the filter's group.

    Computes in ``np.result_type(x, filters, np.float32)``, the result's dtype: small integers, bool
    and float16 in float32, wider integers in float64.

    With the default precision each output ``o = b + sum x_k w_k`` of K products obeys ``|error| <=
    gamma(K + 2) * (|b| + sum |x_k w_k|) + (K + 2) * smallest_subnormal`` with ``gamma(n) = n * u /
    (1 - n * u)`` and `u` the unit round-off [1]_. The same call gives the same bits, for an image
    alone or in a batch.

    "high" and "medium" allow two faster ways for float32, with S for ``|b| + sum |x_k w_k|``:

    - a CPU with a matrix unit (Intel AMX) multiplies numbers rounded to 16 bits at "high", with
      ``|error| <= (2**-15 + gamma(3 * K + 16)) * S``, and to 8 bits at "medium", with
      ``|error| <= (2**-7 + 2**-16 + gamma(K + 16)) * S``;
    - any other CPU, and for padding wider than the filters any CPU, computes both by Winograd's
      transforms of tiles [2]_ where these are faster: filters of 3x3, stride and dilation 1, one
      group, enough channels and filters. Their error follows the largest pixel in the tile of 6x6
      (or 4x4) around the window, ``|error| <= 158 * gamma(C + 28) * sum_c (max_tile |x_c|) * (sum
      |w_c|) + 2 * u * (|b| + |o|)`` (16 instead of 158 for 4x4), as long as nothing underflows: a
      dark window beside a bright one has the error of the bright one. On random data it is 0.6 to
      2 times that of a direct sum.

    An image or filters that these ways cannot hold, NaN and infinity among them, are summed
    directly.

    NaN and infinity stay in the windows that hold them: padding is left out of the sums, not
    multiplied.

    References
    ----------
    .. [1] Higham, N. J., Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002, ch. 3.
    .. [2] Lavin, A., Gray, S., Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308.
    .. [3] Dumoulin, V., Visin, F., A guide to convolution arithmetic for deep learning,
       arXiv:1603.07285.

    Examples
    --------
    >>> import numpy as np
    >>> import pycnn
    >>> image = np.arange(16).reshape(4, 4)
    >>> vertical_edges = np.array([[[-1, 0, 1]] * 3])
    >>> pycnn.conv2d(image, vertical_edges)[:, :, 0]
    array([[6., 6.],
           [6., 6.]])
    >>> pycnn.conv2d(np.ones((8, 8, 3)), np.ones((5, 3, 3, 3)), padding="same").shape
    (8, 8, 5)
    """
    options = "conv2d", stride, padding, dilation, groups, activation, precision
    if isinstance(filters, PackedFilters):
        again = filters.repeat(options, x, bias, out)
        if again is not None:
            return again
    x, filters, bias, given, shape, dtype, plan = prepare(
        "conv2d", x, filters, bias, stride, padding, dilation, groups, activation, precision
    )
    result = _checks.result_for(out, shape, dtype, (x, filters, bias), "conv2d")
    code, slope = EPILOGUES.get(activation, EPILOGUES[None])
    try:
        if plan is not None:
            packed = filters.layout(plan) if isinstance(filters, PackedFilters) else filters
            _conv.conv2d(plan, x, packed, bias, code, slope, result)
            if isinstance(filters, PackedFilters) and activation in EPILOGUES:
                filters.remember(options, *given, shape, dtype, plan, packed, code, slope)
        else:  # no products
            result[...] = 0 if bias is None else bias
        if activation is not None and (plan is None or activation not in EPILOGUES):
            apply(activation, result)
    except MemoryError as error:
        raise _checks.out_of_memory("conv2d", error) from None
    return result if out is None else _checks.copy_out(result, out)
