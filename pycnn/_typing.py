"""The types of arguments, for annotations; imported by type checkers only."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, SupportsIndex, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Activation",
    "Array",
    "ArrayLike",
    "DType",
    "Padding",
    "Pair",
    "Precision",
    "Shape",
    "Sides",
    "Step",
]

Array: TypeAlias = NDArray[Any]
DType: TypeAlias = np.dtype[Any]
Shape: TypeAlias = tuple[int, ...]
Sides: TypeAlias = tuple[tuple[int, int], ...]
Pair: TypeAlias = SupportsIndex | Sequence[SupportsIndex] | NDArray[np.integer[Any]]
Padding: TypeAlias = Literal["valid", "same", "full"] | Pair | Sequence[Pair]
Activation: TypeAlias = Literal["relu", "leaky_relu", "sigmoid", "softmax"] | None
Precision: TypeAlias = Literal["highest", "high", "medium"]
Step: TypeAlias = Callable[[Array], Array]
