from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pycnn._conv import ConvPlan, Packed
from pycnn._stage import StagePlan

_Link: TypeAlias = tuple[
    ConvPlan | StagePlan | None, Packed | NDArray[Any], NDArray[Any] | None, int, float
]

class Chain:
    def __new__(cls, dtype: np.dtype[Any], shape: tuple[int, ...], links: list[_Link]) -> Self: ...

def run_chain(chain: Chain, x: ArrayLike) -> NDArray[Any]: ...
