from typing import Any

from numpy.typing import ArrayLike, NDArray

from pycnn._chain import Chain
from pycnn._conv import ConvPlan, Packed
from pycnn._stage import StagePlan

class LastCall: ...

def remember(
    options: tuple[object, ...],
    x: NDArray[Any],
    result: NDArray[Any],
    plan: ConvPlan | StagePlan,
    packed: Packed,
    activation: int,
    slope: float,
) -> LastCall | None: ...
def remember_chain(
    options: tuple[object, ...], x: NDArray[Any], result: NDArray[Any], chain: Chain
) -> LastCall: ...
def repeat(
    last: LastCall | None,
    options: tuple[object, ...],
    x: ArrayLike,
    bias: ArrayLike | None,
    out: object,
) -> NDArray[Any] | None: ...
