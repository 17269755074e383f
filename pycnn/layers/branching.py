"""Branches that run on the same input and are joined: Concatenate and Add."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pycnn.layers import _layer
from pycnn.layers._summary import Row
from pycnn.layers.sequential import Sequential

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import ClassVar

    from pycnn._typing import Array, Shape, Step


class Branches(_layer.Layer):
    """What Concatenate and Add share: sequences of layers on one input."""

    nested: ClassVar[str | None] = "branches"

    def __init__(
        self,
        branches: Sequence[_layer.Layer | Sequence[_layer.Layer]],
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        who = type(self).__name__
        if not isinstance(branches, (list, tuple)) or not branches:
            raise TypeError(f"{who}: branches={branches!r}; expected a list of at least one")
        self.branches = tuple(
            branch
            if isinstance(branch, Sequential)
            else Sequential([branch] if isinstance(branch, _layer.Layer) else branch)
            for branch in branches
        )
        self._names = _layer.unique_names(self.branches, who, "branch")
        self.depth = _layer.check_depth(self.branches, who)

    def _children(self) -> Iterator[tuple[str, _layer.Layer]]:
        return zip(self._names, self.branches, strict=True)

    def _sample_ndim(self, ndim: int) -> int | None:
        found = (branch._sample_ndim(ndim) for branch in self.branches)
        return next((n for n in found if n is not None), None)

    def _output_shape(self, shape: Shape, who: str) -> Shape:
        shapes = [c._output_shape(shape, f"{who}/{name}") for name, c in self._children()]
        return self._joined_shape(shapes, who)

    def _joined_shape(self, shapes: list[Shape], who: str) -> Shape:
        raise NotImplementedError

    def _build(self, shape: Shape, who: str) -> None:
        for name, branch in self._children():
            branch._build(shape, f"{who}/{name}")

    def _forward(self, x: Array) -> Array:
        return self.join([branch._forward(x) for branch in self.branches], None)

    def _trace(self, x: Array, path: str, maps: dict[str, Array]) -> Array:
        traced = [c._trace(x, f"{path}/{name}", maps) for name, c in self._children()]
        maps[path] = joined = self.join(traced, None)
        return joined

    def _rows(self, shape: Shape, path: str) -> Iterator[Row]:
        for name, branch in self._children():
            yield from branch._rows(shape, f"{path}/{name}")
        yield Row(path, type(self).__name__, self._output_shape(shape, path), 0, 0)

    def join(self, results: list[Array], reuse: Array | None) -> Array:
        """The result from those of the branches; `reuse` is one of the first two, or None."""
        raise NotImplementedError

    def _step(self, shape: Shape, who: str, fresh: bool) -> Step:
        # The input is every branch's: none may overwrite it.
        placed = zip(self._names, self.branches, strict=True)
        plans = [branch.plan(shape, f"{who}/{name}") for name, branch in placed]
        reusable = next((i for i, plan in enumerate(plans[:2]) if plan.fresh), None)

        def run(x: Array) -> Array:
            results = [plan(x) for plan in plans]
            return self.join(results, None if reusable is None else results[reusable])

        return run


class Concatenate(Branches, loadable=True):
    """Run branches on the same input and put their channels one behind the other.

    Parameters
    ----------
    branches : sequence
        Each a layer, a sequence of layers or a `Sequential`; an empty one hands on the input.
    name : str, optional

    Raises
    ------
    ValueError
        Branches whose results differ in more than their channels.

    Examples
    --------
    The fire module of SqueezeNet:

    >>> import numpy as np
    >>> import pycnn
    >>> fire = pycnn.Sequential([
    ...     pycnn.Conv2D(16, 1, activation="relu"),
    ...     pycnn.Concatenate([
    ...         pycnn.Conv2D(64, 1, activation="relu"),
    ...         pycnn.Conv2D(64, 3, padding="same", activation="relu"),
    ...     ]),
    ... ])
    >>> fire(np.ones((55, 55, 64), np.float32)).shape
    (55, 55, 128)
    """

    def _joined_shape(self, shapes: list[Shape], who: str) -> Shape:
        if len({(len(shape), shape[:-1]) for shape in shapes}) > 1 or not shapes[0]:
            raise ValueError(
                f"{who}: the branches give {', '.join(map(str, shapes))}; only their last axis "
                "may differ"
            )
        if len(shapes[0]) == 2:
            raise ValueError(f"{who}: the branches give grey images {shapes[0]}, without channels")
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def join(self, results: list[Array], reuse: Array | None) -> Array:
        return np.concatenate(results, axis=-1)


class Add(Branches, loadable=True):
    """Run branches on the same input and add their results.

    Parameters
    ----------
    branches : sequence
        Each a layer, a sequence of layers or a `Sequential`; an empty one hands on the input.
    name : str, optional

    Raises
    ------
    ValueError
        Branches whose results differ in shape.

    Notes
    -----
    Adds in ``np.result_type`` of the results and float32, so that integers do not wrap.

    Examples
    --------
    A residual block:

    >>> import numpy as np
    >>> import pycnn
    >>> block = pycnn.Sequential([
    ...     pycnn.Add([
    ...         [
    ...             pycnn.Conv2D(64, 3, padding="same", use_bias=False),
    ...             pycnn.BatchNorm(),
    ...             pycnn.ReLU(),
    ...             pycnn.Conv2D(64, 3, padding="same", use_bias=False),
    ...             pycnn.BatchNorm(),
    ...         ],
    ...         [],
    ...     ]),
    ...     pycnn.ReLU(),
    ... ])
    >>> block(np.ones((8, 8, 64), np.float32)).shape
    (8, 8, 64)
    """

    def _joined_shape(self, shapes: list[Shape], who: str) -> Shape:
        if len(set(shapes)) > 1:
            raise ValueError(
                f"{who}: the branches give {', '.join(map(str, shapes))}; they must be equal"
            )
        return shapes[0]

    def join(self, results: list[Array], reuse: Array | None) -> Array:
        dtype = np.result_type(*results, np.float32)
        if len(results) == 1:
            return results[0].astype(dtype)
        out = reuse if reuse is not None and reuse.dtype == dtype else None
        with np.errstate(all="ignore"):  # infinity - infinity is NaN
            total = np.add(results[0], results[1], out=out, dtype=dtype)
            for result in results[2:]:
                np.add(total, result, out=total, dtype=dtype)
        return total
