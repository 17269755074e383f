"""The types of arguments, for annotations; imported by type checkers only."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, SupportsIndex, TypeAlias, TypedDict, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Activation",
    "Array",
    "ArrayLike",
    "ConvOptions",
    "DType",
    "Float32",
    "Float64",
    "Narrow",
    "NarrowArray",
    "Padding",
    "Pair",
    "Precision",
    "Scalar",
    "Shape",
    "Sides",
    "StageOptions",
    "Step",
    "Wide",
    "WideArray",
]

Array: TypeAlias = NDArray[Any]
Scalar = TypeVar("Scalar", bound=np.generic)
Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]
# What is computed in float32, and what in float64.
Narrow: TypeAlias = np.bool_ | np.int8 | np.uint8 | np.int16 | np.uint16 | np.float16 | np.float32
Wide: TypeAlias = (
    np.int32
    | np.uint32
    | np.int64
    | np.uint64
    | np.intp
    | np.uintp
    | np.longlong
    | np.ulonglong
    | np.float64
)
NarrowArray: TypeAlias = NDArray[Narrow]
WideArray: TypeAlias = NDArray[Wide]
DType: TypeAlias = np.dtype[Any]
Shape: TypeAlias = tuple[int, ...]
Sides: TypeAlias = tuple[tuple[int, int], ...]
Pair: TypeAlias = SupportsIndex | Sequence[SupportsIndex] | NDArray[np.integer[Any]]
Padding: TypeAlias = Literal["valid", "same", "full"] | Pair | Sequence[Pair]
Activation: TypeAlias = Literal["relu", "leaky_relu", "sigmoid", "softmax"] | None
Precision: TypeAlias = Literal["highest", "high", "medium"]
Step: TypeAlias = Callable[[Array], Array]


class ConvOptions(TypedDict, total=False):
    """The keywords of `conv2d`."""

    stride: Pair
    padding: Padding
    dilation: Pair
    groups: SupportsIndex
    activation: Activation
    precision: Precision
    out: Array | None


class StageOptions(ConvOptions, total=False):
    """The keywords of `conv_relu_pool`."""

    pool_size: Pair
    pool_stride: Pair | None
    pool: Literal["max", "avg"]
