from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pycnn._chain import Chain
from pycnn._conv import ConvPlan, Packed
from pycnn._stage import StagePlan

class LastCall: ...

def remember(
    options: tuple[object, ...],
    x_shape: tuple[int, ...],
    x_dtype: np.dtype[Any],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    plan: ConvPlan | StagePlan,
    packed: Packed,
    activation: int,
    slope: float,
) -> LastCall | None: ...
def remember_network(
    options: tuple[object, ...],
    x_shape: tuple[int, ...],
    x_dtype: np.dtype[Any],
    chain: Chain,
    one: bool,
) -> LastCall: ...
def repeat(
    last: LastCall | None,
    options: tuple[object, ...],
    x: ArrayLike,
    bias: ArrayLike | None,
    out: object,
) -> NDArray[Any] | None: ...
