from collections.abc import Sequence
from typing import Any, Literal, Self

from numpy.typing import ArrayLike, NDArray

class ConvPlan:
    packing: object
    def __new__(
        cls,
        type_num: int,
        x_shape: Sequence[int],
        filters_shape: Sequence[int],
        out_shape: Sequence[int],
        stride: Sequence[int],
        before: Sequence[int],
        dilation: Sequence[int],
        groups: int,
        precision: Literal["highest", "high", "medium"] | None = "highest",
    ) -> Self: ...
    def pack(self, filters: ArrayLike) -> Packed: ...
    @property
    def algorithm(self) -> Literal["direct", "planes", "dots", "depthwise", "amx", "winograd"]: ...

class Packed: ...

def conv2d(
    plan: ConvPlan,
    x: ArrayLike,
    filters: ArrayLike | Packed,
    bias: ArrayLike | None,
    activation: int,
    slope: float,
    out: NDArray[Any],
) -> None: ...
