"""From layers to the calls a network makes: neighbours that the engine computes together, as one.

A convolution takes the BatchNorm, the activation and the pool behind it; a dense layer the first
two. Dropout goes. Elementwise layers overwrite what was made on the way.
"""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pycnn._repeat import LastCall, remember_network
from pycnn.layers._calls import Call, Chained, chained
from pycnn.layers._weighted import Weighted
from pycnn.layers.activations import Elementwise
from pycnn.layers.convolution import Conv2D
from pycnn.layers.normalization import BatchNorm, Dropout
from pycnn.layers.pooling import Pool2D

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pycnn._typing import Activation, Array, DType, Shape, Step
    from pycnn.layers._layer import Layer
    from pycnn.layers._weighted import Parameters


class _Stage(NamedTuple):
    who: str
    layer: Layer
    shape: Shape  # of its input


# Numbers that a step may read and write at once to stay in the cache, or near it: 4 MiB in float32.
_NEAR = 2**20


class Plan:
    """The steps of a network for samples of one shape; calling it takes a batch through them.

    Attributes
    ----------
    shape : tuple of int
        That of a sample.
    fresh : bool
        Whether the result's memory is nobody else's.
    samples : int
        How many samples to take through all steps before the next: more would leave the cache.
    """

    __slots__ = ("fresh", "samples", "shape", "steps")

    def __init__(self, placed: Iterable[tuple[str, Layer]], shape: Shape, *, fresh: bool) -> None:
        self.shape = shape
        stages: deque[_Stage] = deque()
        for who, layer in placed:
            stages.append(_Stage(who, layer, shape))
            shape = layer._output_shape(shape, who)
        last = shape
        for who, layer, shape in stages:  # all of them fit
            layer._build(shape, who)
            layer._output_shape(shape, who)  # unless one that stands in two places was just built
        stages = deque(stage for stage in stages if not isinstance(stage.layer, Dropout))
        steps: list[Step] = []
        largest = 1
        while stages:
            who, layer, shape = stages.popleft()
            if isinstance(layer, Weighted):
                steps.append(_call(layer, shape, stages))
            else:
                steps.append(layer._step(shape, who, fresh))
            fresh = fresh or layer.makes_new
            after = stages[0].shape if stages else last
            largest = max(largest, math.prod(shape) + math.prod(after))
        self.steps = chained(steps)
        self.fresh = fresh
        self.samples = max(_NEAR // largest, 1)

    def __call__(self, x: Array) -> Array:
        for step in self.steps:
            x = step(x)
        return x

    def last_call(self, n: int, dtype: DType, one: bool) -> tuple[LastCall | None, Activation]:
        """What `repeat` takes for a batch of `n` samples, or for `one`, if a chain makes all of the
        result but the activation."""
        if len(self.steps) != 1 or not isinstance(step := self.steps[0], Chained):
            return None, None
        made = step.made_for(n, dtype)
        if made is None or made.chain is None:
            return None, None
        shape = self.shape if one else (n, *self.shape)
        return remember_network((made.checked,), shape, dtype, made.chain, one), step.activation


def _call(layer: Weighted, shape: Shape, rest: deque[_Stage]) -> Call:
    """One call for a layer and those behind it that it can take, which leave `rest`."""
    taken: list[Layer] = [layer]
    parameters: Callable[[DType], Parameters | None] = layer.parameters_for
    activation = layer.activation
    if activation is None and rest and isinstance(norm := rest[0].layer, BatchNorm):
        taken.append(rest.popleft().layer)
        parameters = partial(norm.folded_into, layer)
    if activation is None and rest and isinstance(rest[0].layer, Elementwise):
        activation = rest[0].layer.epilogue
        if activation is not None:
            taken.append(rest.popleft().layer)
    pool = rest[0].layer if isinstance(layer, Conv2D) and rest else None
    if not (isinstance(pool, Pool2D) and pool.is_plain(rest[0].shape)):
        pool = None
    else:
        taken.append(rest.popleft().layer)
    return Call(taken, parameters, activation, pool, grey=len(shape) == 2)
