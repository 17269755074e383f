"""Every rule about shapes, dtypes, strides and padding, with its error sentence, and output sizes.

Sizes are Python integers until everything is known to fit 63 bits; only then do they reach C.
"""

from __future__ import annotations

import math
import operator
import sys
from typing import TYPE_CHECKING

import numpy as np

from pycnn import _arrays

if TYPE_CHECKING:
    from typing import Any

    from pycnn._typing import Array, DType, Shape, Sides


LARGEST = sys.maxsize
ACTIVATIONS = (None, "relu", "leaky_relu", "sigmoid", "softmax")
PRECISIONS = ("highest", "high", "medium")


# ---- arrays and dtypes --------------------------------------------------------------------------


def as_array(value: object, func: str, name: str) -> Array:
    """`value` as a plain ndarray of a real dtype with kernels, or the error that says why not."""
    if type(value) is not np.ndarray:
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError(
                f"{func}: {name} is a masked array; fill the masked elements first "
                f"({name}.filled(0))"
            )
        try:
            value = np.asarray(value)
        except ValueError as error:  # ragged nested sequences
            raise ValueError(f"{func}: {name} is not an array: {error}") from None
    check_dtype(value.dtype, func, name)
    return value


_REAL = frozenset(np.dtype(code).num for code in "?bBhHiIlLqQefd")


def check_dtype(dtype: DType, func: str, name: str) -> None:
    if dtype.num not in _REAL:
        raise TypeError(
            f"{func}: {name} has dtype {dtype}; "
            "expected bool, integers, float16, float32 or float64"
        )


_COMPUTE: dict[tuple[DType, DType], DType] = {}


def compute_dtype(x: DType, filters: DType, func: str) -> DType:
    """np.result_type(x, filters, np.float32): small integers and halves in float32, else float64.

    The dtypes of two arrays; TypeError for those that have no kernels.
    """
    dtype = _COMPUTE.get((x, filters))
    if dtype is None:
        check_dtype(x, func, "x")
        check_dtype(filters, func, "filters" if func != "dense" else "weights")
        dtype = np.dtype(np.result_type(x, filters, np.float32).type)
        _COMPUTE[x, filters] = dtype
    return dtype


def check_size(shape: Shape, dtype: DType, func: str) -> None:
    """MemoryError when an array of this shape could not be addressed."""
    n_bytes = dtype.itemsize
    for size in shape:
        n_bytes *= max(size, 1)  # as NumPy does
    if n_bytes > LARGEST:
        raise MemoryError(
            f"{func}: the result of shape {shape} and dtype {dtype} would take {n_bytes} bytes; "
            f"at most {LARGEST} can be addressed"
        )


def check_out(out: object, shape: Shape, dtype: DType, func: str) -> None:
    """`out` follows NumPy's rules: exact shape and dtype, in native bytes, writeable."""
    dtype = np.dtype(dtype.type)
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"{func}: out is a {type(out).__name__}; expected a numpy.ndarray")
    if out.dtype != dtype:
        raise TypeError(f"{func}: out has dtype {out.dtype}; the result has dtype {dtype}")
    if out.shape != shape:
        raise ValueError(f"{func}: out has shape {out.shape}; the result has shape {shape}")
    if not out.flags.writeable:
        raise ValueError(f"{func}: out is read-only; the result needs a writeable array")


def result_for(
    out: Array | None,
    shape: Shape,
    dtype: DType,
    inputs: tuple[object, ...],
    func: str,
    elementwise: bool = False,
) -> Array:
    """Where to compute: a new array, or `out` itself where that is safe.

    An `out` that overlaps an input, or is not a plain C-contiguous array, gets the result copied in
    afterwards by `copy_out`. Inputs that are not arrays share no memory with it. An `elementwise`
    result may overwrite an input, where they have the same memory, shape and dtype.
    """
    try:
        result = _arrays.result_for(out, shape, dtype, inputs, elementwise)
    except (MemoryError, ValueError):  # the latter where its bytes have no 63-bit number
        raise MemoryError(
            f"{func}: not enough memory for the result of shape {shape} and dtype {dtype}"
        ) from None
    if result is None:
        check_out(out, shape, dtype, func)
        result = allocate(shape, dtype, func)
    return result


def allocate(shape: Shape, dtype: DType, func: str) -> Array:
    return result_for(None, shape, dtype, (), func)


def frozen(array: Array) -> Array:
    """A copy in C order, over bytes: nobody can make it writeable, or resize it under a pointer."""
    return np.ndarray(array.shape, array.dtype, array.tobytes() or b"\0")


def out_of_memory(func: str, error: MemoryError) -> MemoryError:
    """The MemoryError of a call under the name of its function, not of one it called."""
    return MemoryError(f"{func}: {str(error).rpartition(': ')[2] or 'out of memory'}")


def copy_out(result: Array, out: Array) -> Array:
    if result is not out:
        _arrays.copy_out(result, out)
    return out


def contiguous(array: Array, dtype: DType) -> Array:
    """`array` in C order, aligned, in native bytes and of this dtype; itself when it already is."""
    flags = array.flags
    if array.dtype == dtype and flags.c_contiguous and flags.aligned and type(array) is np.ndarray:
        return array
    return np.require(array, dtype, ("C", "A", "E"))


# ---- numbers ------------------------------------------------------------------------------------


def index(value: Any, func: str, name: str) -> int:
    """An exact integer: no bools, no floats."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{func}: {name}={value!r} is a bool; expected an integer")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(
            f"{func}: {name}={value!r} is a {type(value).__name__}; expected an integer"
        ) from None


def integer(value: Any, func: str, name: str, least: int) -> int:
    """An exact integer of at least `least` that fits 63 bits."""
    number = index(value, func, name)
    if number < least:
        raise ValueError(f"{func}: {name}={in_words(number)} must be at least {least}")
    if number > LARGEST:
        raise ValueError(f"{func}: {name}={in_words(number)} is too large; at most {LARGEST}")
    return number


def in_words(number: int) -> str:
    """A number for a sentence; Python refuses to print those of thousands of digits."""
    bits = number.bit_length()
    return str(number) if bits <= 256 else f"a {'negative ' * (number < 0)}number of {bits} bits"


def _items(value: object) -> list[Any] | None:
    """A sequence's items (lists, tuples, arrays), or None for anything else."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, np.ndarray) and value.ndim:
        return list(value)
    return None


def pair(value: object, func: str, name: str, least: int = 1) -> tuple[int, int]:
    """One integer for both axes, or (vertical, horizontal)."""
    items = _items(value)
    if items is None:
        number = integer(value, func, name, least)
        return number, number
    if len(items) != 2:
        raise ValueError(
            f"{func}: {name}={value!r} has {len(items)} items; expected one integer "
            "or (vertical, horizontal)"
        )
    return integer(items[0], func, name, least), integer(items[1], func, name, least)


def canonical_padding(value: object, func: str) -> str | Sides:
    """A padding as a hashable of exact types: a name, or ((top, bottom), (left, right))."""
    if isinstance(value, str):
        if value not in ("valid", "same", "full"):
            raise ValueError(
                f"{func}: padding={value!r} is unknown; expected 'valid', 'same', "
                "'full', an integer, (ph, pw) or ((top, bottom), (left, right))"
            )
        return str(value)
    items = _items(value)
    if items is None or len(items) != 2:
        vertical, horizontal = pair(value, func, "padding", 0)
        return (vertical, vertical), (horizontal, horizontal)
    sides = []
    for item in items:
        if _items(item) is None:
            number = integer(item, func, "padding", 0)
            sides.append((number, number))
        else:
            sides.append(pair(item, func, "padding", 0))
    return tuple(sides)


def finite(value: Any, func: str, name: str, dtype: DType) -> float:
    """A real number that is finite in a dtype."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(
            f"{func}: {name}={value!r} is a {type(value).__name__}; expected a finite number"
        )
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= float(np.finfo(dtype).max):
        shown = in_words(value) if isinstance(value, int) else value
        raise ValueError(f"{func}: {name}={shown} must be finite in {dtype}")
    return number


def axis(value: Any, ndim: int, func: str) -> int:
    """An axis of an array of `ndim` dimensions, counted from the front."""
    number = index(value, func, "axis")
    if not -ndim <= number < ndim:
        raise ValueError(
            f"{func}: axis={in_words(number)} is out of range for x with {ndim} dimensions"
        )
    return number % ndim


def flag(value: object, func: str, name: str) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{func}: {name}={value!r} is a {type(value).__name__}; expected a bool")
    return bool(value)


def choice(value: object, choices: tuple[str | None, ...], func: str, name: str) -> None:
    if not (value is None or isinstance(value, str)):
        raise TypeError(f"{func}: {name}={value!r} is a {type(value).__name__}; expected a string")
    if value not in choices:
        raise ValueError(
            f"{func}: {name}={value!r} is unknown; expected one of " + ", ".join(map(repr, choices))
        )


# ---- sizes --------------------------------------------------------------------------------------


def resolve_padding(
    padding: str | Sides, sizes: Shape, window: Shape, stride: Shape, dilation: Shape
) -> Sides:
    """((top, bottom), (left, right)) in pixels for a canonical padding."""
    if not isinstance(padding, str):
        return padding
    sides = []
    for size, k, s, d in zip(sizes, window, stride, dilation, strict=True):
        reach = (k - 1) * d
        if padding == "valid":
            total, before = 0, 0
        elif padding == "full":
            total, before = 2 * reach, reach
        else:
            total = max((-(-size // s) - 1) * s + reach + 1 - size, 0)
            before = total // 2
        sides.append((before, total - before))
    return tuple(sides)


def output_size(
    size: int,
    k: int,
    s: int,
    d: int,
    pads: tuple[int, int],
    func: str,
    axis: str,
    ceil_mode: bool = False,
) -> int:
    """floor((size + pads - d*(k-1) - 1) / s) + 1, checked; ceil_mode follows PyTorch."""
    padded, reach = size + sum(pads), (k - 1) * d + 1
    if max(padded, reach) > LARGEST:
        raise ValueError(
            f"{func}: the padded {axis} {padded} or the window's {reach} is too large; "
            f"at most {LARGEST}"
        )
    n = (padded - reach + (s - 1 if ceil_mode else 0)) // s + 1
    if ceil_mode and (n - 1) * s >= size + pads[0]:
        n -= 1  # that window would start in the padding behind the image
    if n < 1:
        raise ValueError(
            f"{func}: the window's {axis} {reach} exceeds the input's {padded} "
            f"(size {size}, padding {pads[0]} + {pads[1]}, kernel {k}, dilation {d})"
        )
    return n


def image_shape(shape: Shape, func: str) -> Shape:
    """(N, H, W, C) of an (H, W), (H, W, C) or (N, H, W, C) image."""
    if len(shape) == 2:
        return 1, *shape, 1
    if len(shape) == 3:
        return 1, *shape
    if len(shape) == 4:
        return shape
    raise ValueError(
        f"{func}: x has {len(shape)} dimensions; expected (H, W), (H, W, C) or "
        f"(N, H, W, C) (x.shape={shape})"
    )


def conv_shapes(x: Shape, filters: Shape, groups: int, func: str) -> tuple[Shape, Shape]:
    """(N, H, W, C) and (F, KH, KW, C // groups) of an image and filters that fit each other."""
    both = f"(x.shape={x}, filters.shape={filters})"
    if len(filters) == 3:
        if len(x) != 2:
            raise ValueError(
                f"{func}: filters (F, KH, KW) take a grey image (H, W), x has "
                f"{len(x)} dimensions {both}"
            )
        x, filters = (1, *x, 1), (*filters, 1)
    elif len(filters) == 4:
        if len(x) not in (3, 4):
            raise ValueError(
                f"{func}: filters (F, KH, KW, C) take (H, W, C) or (N, H, W, C), x has "
                f"{len(x)} dimensions {both}"
            )
        x = (1, *x) if len(x) == 3 else x
    else:
        raise ValueError(
            f"{func}: filters have {len(filters)} dimensions; expected (F, KH, KW) or "
            f"(F, KH, KW, C // groups) {both}"
        )
    channels, n_filters = x[3], filters[0]
    if filters[1] == 0 or filters[2] == 0:
        raise ValueError(
            f"{func}: filters have size {filters[1]} x {filters[2]}; expected at least 1 x 1 {both}"
        )
    if channels % groups:
        raise ValueError(
            f"{func}: x has {channels} channels, not a multiple of groups={groups} {both}"
        )
    if n_filters % groups:
        raise ValueError(
            f"{func}: there are {n_filters} filters, not a multiple of groups={groups} {both}"
        )
    if filters[3] != channels // groups:
        per_group = f" in {groups} groups" if groups > 1 else ""
        raise ValueError(
            f"{func}: x has {channels} channels{per_group} but filters expect {filters[3]} {both}"
        )
    return x, filters


def _first_hit(step: int, modulus: int, low: int, high: int) -> int | None:
    """The smallest i >= 0 with ``low <= i * step % modulus <= high``, or None.

    Found as Euclid finds divisors, because a model file may ask for any number of windows.
    """
    if low == 0:
        return 0
    if step == 0:
        return None
    i = -(-low // step)
    if i * step <= high:
        return i
    # No multiple of the step lies between; how often must the modulus be passed until one does?
    turns = _first_hit(modulus % step, step, -high % step, -low % step)
    return None if turns is None else -(-(low + turns * modulus) // step)


def check_pool_padding(
    pads: Sides,
    sizes: Shape,
    window: Shape,
    stride: Shape,
    dilation: Shape,
    outputs: Shape,
    func: str,
) -> None:
    """No window of a pool may hold nothing but padding."""
    names = (("top", "bottom"), ("left", "right"))
    for sides, name, k, d in zip(pads, names, window, dilation, strict=True):
        for pad, side in zip(sides, name, strict=True):
            if pad >= (k - 1) * d + 1:
                raise ValueError(
                    f"{func}: padding {pad} at the {side} must be smaller than the "
                    f"window's {(k - 1) * d + 1}"
                )
    for side, size, k, s, d, n in zip(pads, sizes, window, stride, dilation, outputs, strict=True):
        if size == 0:
            raise ValueError(f"{func}: x has an empty image; a window would hold only padding")
        # The first tap inside the image is the first for a window that starts in it, else at the
        # start modulo the dilation: where that is beyond the image, there is none.
        before = side[0]
        start = -before % d
        beyond = _first_hit(s % d, d, max(size - start, 0), d - 1 - start) if size < d else None
        if beyond is not None and beyond < min(n, -(-before // s)):
            raise ValueError(
                f"{func}: the dilated window at output {beyond} holds only padding "
                f"(size {size}, kernel {k}, dilation {d}, padding {side})"
            )
