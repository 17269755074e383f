from typing import Any

from numpy.typing import ArrayLike, NDArray

def dense(
    x: ArrayLike,
    weights: ArrayLike,
    bias: ArrayLike | None,
    n_out: int,
    activation: int,
    slope: float,
    out: NDArray[Any],
) -> None: ...
