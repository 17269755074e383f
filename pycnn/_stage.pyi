from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pycnn._conv import ConvPlan, Packed

class StagePlan:
    def __new__(
        cls,
        conv: ConvPlan,
        dtype: np.dtype[Any],
        window: Sequence[int],
        stride: Sequence[int],
        out_shape: Sequence[int],
        mean: bool,
    ) -> Self: ...
    @property
    def packing(self) -> object: ...
    @property
    def fits(self) -> bool: ...
    def pack(self, filters: ArrayLike) -> Packed: ...

def conv_pool(
    plan: StagePlan,
    x: ArrayLike,
    filters: ArrayLike | Packed,
    bias: ArrayLike | None,
    activation: int,
    slope: float,
    out: NDArray[Any],
) -> None: ...
