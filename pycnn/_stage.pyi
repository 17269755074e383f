from collections.abc import Sequence
from typing import Any, Self

from numpy.typing import ArrayLike, NDArray

from pycnn._conv import ConvPlan, Packed

class StagePlan:
    def __new__(
        cls,
        conv: ConvPlan,
        window: Sequence[int],
        stride: Sequence[int],
        out_shape: Sequence[int],
        mean: bool,
    ) -> Self: ...
    @property
    def fits(self) -> bool: ...

def conv_pool(
    plan: StagePlan,
    x: ArrayLike,
    filters: ArrayLike | Packed,
    bias: ArrayLike | None,
    activation: int,
    slope: float,
    out: NDArray[Any],
) -> None: ...
