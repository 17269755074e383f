"""Samples, however they come, as batches."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from pycnn import _checks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycnn._typing import Array, ArrayLike


def batches_of(X: Iterable[ArrayLike], size: int, who: str) -> Iterator[Array]:
    """Batches of at most so many samples; views of an array, of an empty one a batch of none."""
    if isinstance(X, np.ndarray) and X.ndim:
        for start in range(0, max(len(X), 1), size):
            yield _checks.as_array(X[start : start + size], who, "X")
        return
    if isinstance(X, (str, bytes)) or not isinstance(X, Iterable):
        raise TypeError(f"{who}: X is a {type(X).__name__}; expected an array or samples")
    first, samples = None, iter(X)
    for start in itertools.count(0, size):
        batch = [_checks.as_array(sample, who, "X") for sample in itertools.islice(samples, size)]
        if not batch:
            break
        first = batch[0].shape if first is None else first
        for index, sample in enumerate(batch, start):
            if sample.shape != first:
                raise ValueError(
                    f"{who}: sample {index} has shape {sample.shape}, the first has {first}"
                )
        yield np.stack(batch)
    if first is None:
        raise ValueError(f"{who}: X holds no samples")


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
