"""The orders of a pipeline's next epochs, as a count for each shuffle in it.

The seeds of a shuffle belong to the dataset, not to an iterator: each iterator that is created
draws the order of one more epoch. So a dataset that outlives a `fit`, or is used for validation,
continues in a resumed process where it was, once each shuffle in it has the count that it had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from keepfit.callbacks.training import internals

Counts = list[int | None]
"""For each shuffle of a pipeline how many numbers it has drawn; None to leave it as it is."""


@dataclass(frozen=True)
class _Shuffle:
    """A shuffle in a pipeline.

    Attributes:
        first: below a cache, the count when the fit began; None for any other.
    """

    dataset: Any
    first: int | None


class Shuffles:
    """The shuffles of one pipeline that have another order in each epoch."""

    def __init__(self, dataset: Any) -> None:
        """Find the shuffles; there are none if it is not a tf.data.Dataset."""
        found = internals.reshuffling_datasets(dataset) if _is_tf_data(dataset) else []
        self._shuffles = [
            _Shuffle(shuffle, _drawn(shuffle) if cached else None) for shuffle, cached in found
        ]

    def __len__(self) -> int:
        return len(self._shuffles)

    def counts(self) -> Counts:
        """Return the present counts; takes milliseconds for each shuffle."""
        return [self._count(shuffle) for shuffle in self._shuffles]

    def set(self, counts: Sequence[int | None]) -> None:
        """Set the counts, so that the next epoch has the order that it would have had."""
        for shuffle, count in zip(self._shuffles, counts, strict=True):
            if count is not None:
                internals.SeedCount(shuffle.dataset).set(count)

    def _count(self, shuffle: _Shuffle) -> int | None:
        drawn = _drawn(shuffle.dataset)
        # One order has filled the cache, and has to fill it again: no other one follows it.
        is_used_once = shuffle.first is not None and drawn <= shuffle.first + 2
        return None if is_used_once else drawn


def _is_tf_data(dataset: Any) -> bool:
    return isinstance(dataset, tf.data.Dataset)


def _drawn(shuffle: Any) -> int:
    count = internals.SeedCount(shuffle)
    count.set(count.drawn)
    return count.drawn
