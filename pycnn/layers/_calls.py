"""The engine's calls in a network: one for each weighted layer, and one for several in a row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycnn import _chain, _checks
from pycnn.activations import EPILOGUES, apply
from pycnn.convolution import _conv_plan, conv2d
from pycnn.layers._layer import Changes
from pycnn.layers.convolution import Conv2D
from pycnn.layers.linear import flattened
from pycnn.linear import dense
from pycnn.stage import _stage_plan, conv_relu_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from pycnn._typing import Activation, Array, DType, Shape, Step
    from pycnn.layers._layer import Layer
    from pycnn.layers._weighted import Parameters
    from pycnn.layers.pooling import Pool2D

# So many sizes of batches, in so many dtypes, keep their chain.
_MAX_CHAINS = 8


class Call:
    """A convolution or dense layer, and what the engine computes with it.

    Parameters
    ----------
    taken : list of Layer
        The layers it stands for.
    parameters : callable
        Gives the parameters for inputs of a dtype; None where `taken` must be computed one by one.
    activation : str or None
    pool : Pool2D or None
        The pool behind a convolution.
    grey : bool
        Whether images come without channels.
    """

    def __init__(
        self,
        taken: Sequence[Layer],
        parameters: Callable[[DType], Parameters | None],
        activation: Activation,
        pool: Pool2D | None,
        *,
        grey: bool,
    ) -> None:
        self.parameters = parameters
        self.activation = activation
        self._taken = taken
        self._pool = pool
        self._grey = grey
        self._options = taken[0].keywords if isinstance(taken[0], Conv2D) else None
        self._function: Callable[..., Array] = dense
        keywords: dict[str, Any] = {"activation": activation}
        if self._options is not None:
            self._function = conv2d
            keywords |= self._options
        if pool is not None:
            self._function = conv_relu_pool
            keywords |= {
                "pool": pool.word,
                "pool_size": pool.pool_size,
                "pool_stride": pool.stride,
            }
        self._keywords = keywords

    def __call__(self, x: Array) -> Array:
        made = self.parameters(x.dtype)
        if made is None:
            for layer in self._taken:
                x = layer._forward(x)
            return x
        images = x[..., None] if self._grey else x
        weights = made.weights if self._options is None else made.packed
        return self._function(images, weights, made.bias, **self._keywords)

    @property
    def is_last(self) -> bool:
        """Whether the activation, of whole arrays, can only follow what the engine computes."""
        return self.activation not in EPILOGUES

    @property
    def links(self) -> bool:
        """Whether a chain may hold the call."""
        return self._pool is None or not self.is_last

    def link(
        self, made: Parameters, shape: Shape, dtype: DType
    ) -> tuple[Shape, _chain._Link] | None:
        """The call as a chain makes it for a batch of a shape, behind the shape of its result.

        None where it must be made otherwise. A call that `is_last` is linear in a chain.
        """
        code, slope = EPILOGUES.get(self.activation, EPILOGUES[None])
        if self._options is None:
            # The chains for all sizes of batches share one copy in another dtype.
            weights = made.packed.get(dtype)
            if weights is None:
                cast = made.weights.astype(dtype, copy=False)
                weights = made.packed.setdefault(dtype, cast)
            return (shape[0], weights.shape[1]), (None, weights, made.bias, code, slope)
        x_shape = (*shape, 1) if self._grey else shape
        out, _, plan = _conv_plan(
            "conv2d", x_shape, made.packed.shape, dtype, dtype, **self._options
        )
        if plan is None:
            return None
        packed = made.packed.layout(plan)
        if self._pool is None:
            return out, (plan, packed, made.bias, code, slope)
        out, stage = _stage_plan(
            plan, out, self._pool.pool_size, self._pool.stride, self._pool.word == "avg"
        )
        if stage is None or not stage.fits:
            return None
        return out, (stage, packed, made.bias, code, slope)


class _Made:
    """A chain and what it was made from; it is None where the calls must be made one by one.

    `dtype` is the results'; `checked` is the last change of a layer when the parameters were
    looked at.
    """

    __slots__ = ("chain", "checked", "dtype", "parameters")

    def __init__(
        self,
        parameters: list[Parameters | None],
        dtype: DType,
        chain: _chain.Chain | None,
        checked: object,
    ) -> None:
        self.parameters = parameters
        self.dtype = dtype
        self.chain = chain
        self.checked = checked


class Chained:
    """Calls and flattenings that follow each other, as one call where the engine can make it."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._calls = [step for step in steps if isinstance(step, Call)]
        self._made: dict[tuple[int, DType], _Made] = {}
        # What is left to do behind the chain.
        self.activation = self._calls[-1].activation if self._calls[-1].is_last else None

    def __call__(self, x: Array) -> Array:
        key = len(x), x.dtype
        made = self._made.get(key)
        if made is None or not (made.checked is Changes.latest or self._is_current(made, x.dtype)):
            # A new one, as other threads may be looking; others than these would keep old weights.
            kept = {k: m for k, m in list(self._made.items()) if self._is_current(m, k[1])}
            self._made = kept if len(kept) < _MAX_CHAINS else {}
            made = self._made[key] = self._make(x.shape, x.dtype)
        if made.chain is None:
            for step in self._steps:
                x = step(x)
            return x
        try:
            result = _chain.run_chain(made.chain, x)
            if self.activation is not None:
                apply(self.activation, result)
        except MemoryError as error:
            raise _checks.out_of_memory("Sequential", error) from None
        return result

    def made_for(self, n: int, dtype: DType) -> _Made | None:
        """What made the last result for a batch of `n`, up to the activation."""
        return self._made.get((n, dtype))

    def _is_current(self, made: _Made, dtype: DType) -> bool:
        """Whether no parameters were replaced since, though something changed."""
        latest = Changes.latest  # one that comes while looking counts as not yet seen
        for call, parameters in zip(self._calls, made.parameters, strict=True):
            if call.parameters(dtype) is not parameters:
                return False
            dtype = made.dtype
        made.checked = latest
        return True

    def _make(self, shape: Shape, x_dtype: DType) -> _Made:
        first, *others = self._calls
        latest = Changes.latest
        parameters = [first.parameters(x_dtype)]
        dtype = x_dtype
        if parameters[0] is not None:
            dtype = _checks.compute_dtype(x_dtype, parameters[0].weights.dtype, "Sequential")
        parameters += [call.parameters(dtype) for call in others]
        links = []
        try:
            for call, made in zip(self._calls, parameters, strict=True):
                found = None
                if made is not None and shape[0] > 0:
                    widest = _checks.compute_dtype(dtype, made.weights.dtype, "Sequential")
                    found = call.link(made, shape, dtype) if widest == dtype else None
                if found is None:
                    return _Made(parameters, dtype, None, latest)
                shape, link = found
                links.append(link)
            chain = _chain.Chain(dtype, shape, links)
        except MemoryError as error:
            raise _checks.out_of_memory("Sequential", error) from None
        return _Made(parameters, dtype, chain, latest)


def chained(steps: Iterable[Step]) -> list[Step]:
    """The steps, with those in a row that one call of the engine can make joined to one."""
    joined: list[Step] = []
    row: list[Step] = []
    for step in steps:
        call = step if isinstance(step, Call) and step.links else None
        if call is None and not (row and step is flattened):
            joined += [*_joined(row), step]
            row = []
            continue
        row.append(step)
        if call is not None and call.is_last:
            joined += _joined(row)
            row = []
    return joined + _joined(row)


def _joined(row: list[Step]) -> list[Step]:
    """One step where there are several calls, and the flattenings behind the last."""
    calls = list(row)
    while calls and calls[-1] is flattened:
        calls.pop()
    return [Chained(calls), *row[len(calls) :]] if len(calls) > 1 else row
