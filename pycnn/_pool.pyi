from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

class PoolPlan:
    def __new__(
        cls,
        dtype: np.dtype[Any],
        x_shape: Sequence[int],
        window: Sequence[int],
        out_shape: Sequence[int],
        stride: Sequence[int],
        before: Sequence[int],
        after: Sequence[int],
        dilation: Sequence[int],
        mean: bool,
        count_padding: bool,
    ) -> Self: ...

def pool2d(plan: PoolPlan, x: NDArray[Any], out: NDArray[Any]) -> None: ...
