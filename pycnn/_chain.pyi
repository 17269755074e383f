from typing import Any, Self, TypeAlias

from numpy.typing import ArrayLike, NDArray

from pycnn._conv import ConvPlan, Packed
from pycnn._stage import StagePlan

_Link: TypeAlias = tuple[
    ConvPlan | StagePlan | None, Packed | NDArray[Any], NDArray[Any] | None, int, float
]

class Chain:
    def __new__(cls, type_num: int, images: int, links: list[_Link]) -> Self: ...

def run_chain(chain: Chain, x: ArrayLike, out: NDArray[Any]) -> None: ...
