"""The orders of a pipeline's next epochs, as a count for each shuffle in it.

The seeds of a shuffle belong to the dataset, not to an iterator: each iterator that is created
draws the order of one more epoch. So a dataset that outlives a `fit`, or is used for validation,
continues in a resumed process where it was, once each shuffle in it has the count that it had.

A shuffle below a cache has one order, that with which the cache was filled. A resumed process fills
it anew, in the same order. If a part of the data is read each time, the cache is never filled, and
the shuffle counts like any other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keepfit.callbacks.training import internals
from keepfit.callbacks.training.data import seeds

Counts = list[int | None]
"""For each shuffle of a pipeline how many numbers it has drawn; None to leave it as it is."""


class Shuffles:
    """The shuffles of one pipeline that have another order in each epoch."""

    def __init__(self, dataset: Any) -> None:
        """Find the shuffles; there are none if it is not a tf.data.Dataset."""
        is_pipeline = isinstance(dataset, tf.data.Dataset)
        self._found = internals.reshuffling_datasets(dataset) if is_pipeline else []

    def __len__(self) -> int:
        return len(self._found)

    def counts(self) -> Counts:
        """Return the present counts; takes milliseconds for each shuffle."""
        counts: Counts = [seeds.numbers_drawn(shuffle) for shuffle, _ in self._found]
        below = defaultdict(list)
        for index, (_, cache) in enumerate(self._found):
            if cache is not None:
                below[id(cache)].append(index)
        for indices in below.values():
            if self._is_filled(indices, counts):
                for index in indices:
                    counts[index] = None
        return counts

    def set(self, counts: Sequence[int | None]) -> None:
        """Set the counts, so that the next epoch has the order that it would have had."""
        for (shuffle, _), count in zip(self._found, counts, strict=True):
            if count is not None:
                seeds.set_numbers_drawn(shuffle, count)

    def _is_filled(self, indices: Sequence[int], counts: Counts) -> bool:
        """Return whether the cache above these shuffles is filled: an iterator draws no order."""
        cache = self._found[indices[0]][1]
        with tf.device("CPU:0"):
            iter(cache)
        drawn = [seeds.numbers_drawn(self._found[index][0]) for index in indices]
        if drawn == [counts[index] for index in indices]:
            return True
        self.set([count if i in indices else None for i, count in enumerate(counts)])
        return False
