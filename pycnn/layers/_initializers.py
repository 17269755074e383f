"""Initial parameters, by the names the field gives to their distributions."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, cast

import numpy as np

from pycnn import _checks

if TYPE_CHECKING:
    from typing import Any

    from pycnn._typing import Array, Shape

# Variance times the number of inputs (fan-in), or times the mean of inputs and outputs.
_SCALES = {"lecun": (1.0, "in"), "glorot": (1.0, "mean"), "he": (2.0, "in")}
INITIALIZERS = (
    "zeros",
    "ones",
    *(f"{scale}_{kind}" for scale in _SCALES for kind in ("normal", "uniform")),
)


def draw_seed(seed: Any, who: str) -> int:
    """A whole number that stands for `seed`: what is drawn with it later is a pure function of it.

    A generator is asked for it at once: layers that share one differ, in the order of their making.
    """
    if seed is None:
        return int.from_bytes(os.urandom(8))
    try:
        return int(np.random.default_rng(seed).integers(2**63))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{who}: seed={seed!r}: {error}") from None


def initialize(
    name: str, shape: Shape, fans: tuple[int, int], rng: np.random.Generator, who: str
) -> Array:
    """float32 parameters; `fans` are the inputs of an output and the outputs of an input.

    LeCun et al. 1998, Glorot & Bengio 2010, He et al. 2015: variances 1 / fan_in,
    2 / (fan_in + fan_out) and 2 / fan_in, normal or uniform.
    """
    dtype = np.dtype(np.float32)
    _checks.check_size(shape, dtype, who)
    try:
        if name in ("zeros", "ones"):
            return np.full(shape, name == "ones", dtype)
        scale, _, kind = name.partition("_")
        gain, fan = _SCALES[scale]
        variance = gain / max(fans[0] if fan == "in" else sum(fans) / 2, 1)
        if kind == "normal":
            drawn = rng.standard_normal(shape, dtype)
            drawn *= math.sqrt(variance)
        else:
            drawn = rng.random(shape, dtype)
            drawn -= 0.5
            drawn *= 2 * math.sqrt(3 * variance)
    except MemoryError as error:
        raise _checks.out_of_memory(who, error) from None
    return cast("Array", drawn)
