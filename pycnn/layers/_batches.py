"""Samples, however they come, as batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from pycnn import _checks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycnn._typing import Array, ArrayLike, DType, Shape


def batches_of(X: Iterable[ArrayLike], size: int, who: str) -> Iterator[Array]:
    """Batches of at most so many samples; views of an array, of an empty one a batch of none."""
    if isinstance(X, np.ndarray):
        _check_sample(X.shape[1:], who)
        for start in range(0, max(len(X), 1), size):
            yield _checks.as_array(X[start : start + size], who, "X")
        return
    if isinstance(X, (str, bytes)) or not isinstance(X, Iterable):
        raise TypeError(f"{who}: X is a {type(X).__name__}; expected an array or samples")
    first: Array | None = None
    samples = iter(X)
    for start in itertools.count(0, size):
        batch = [_checks.as_array(sample, who, "X") for sample in itertools.islice(samples, size)]
        if not batch:
            break
        if first is None:
            first = batch[0]
            _check_sample(first.shape, who)
        for index, sample in enumerate(batch, start):
            if sample.shape != first.shape:
                raise ValueError(
                    f"{who}: sample {index} has shape {sample.shape}, the first has {first.shape}"
                )
            # Stacked, the one would change how the other is computed.
            if _computed(sample, who) != _computed(first, who):
                raise TypeError(
                    f"{who}: sample {index} has dtype {sample.dtype}, the first has {first.dtype}; "
                    f"they would be computed in {_computed(sample, who)} and "
                    f"{_computed(first, who)}"
                )
        yield np.stack(batch)
    if first is None:
        raise ValueError(f"{who}: X holds no samples")


def _check_sample(shape: Shape, who: str) -> None:
    if not shape:  # a table's column names, too
        raise ValueError(f"{who}: X holds single numbers; expected (H, W), (H, W, C) or (n,) each")


def _computed(sample: Array, who: str) -> DType:
    return _checks.compute_dtype(sample.dtype, sample.dtype, who)


def gathered(results: Iterator[Array], total: int, who: str) -> Array:
    """All results in one array, each copied there before the next one is made."""
    first = next(results)
    if len(first) == total:
        return first
    array = _checks.allocate((total, *first.shape[1:]), first.dtype, who)
    array[: len(first)] = first
    end = len(first)
    for result in results:
        start, end = end, end + len(result)
        array[start:end] = result
    return array


def with_bar(batches: Iterator[Array], total: int | None, who: str) -> Iterator[Array]:
    """The batches, counted by a progress bar when they were dealt with."""
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError(f"{who}: progress=True needs tqdm; pip install tqdm") from error
    with tqdm(total=total, unit="sample") as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))
