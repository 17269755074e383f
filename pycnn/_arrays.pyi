from typing import Any

import numpy as np
from numpy.typing import NDArray

def result_for(
    out: NDArray[Any] | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    inputs: tuple[object, ...],
    elementwise: bool = False,
) -> NDArray[Any] | None: ...
def copy_out(result: NDArray[Any], out: NDArray[Any]) -> None: ...
def drop_freed() -> None: ...
