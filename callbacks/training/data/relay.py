"""The relay between an iterator whose state can be saved and the one of a strategy.

Where one iterator serves all epochs, all batches since its start would have to be read again. So a
strategy's iterator over an endless dataset gets its elements, a part of a batch for each replica,
from a plain iterator, which numbers them. The strategy's iterator has read ahead when the state of
the plain one is captured: the state can be restored once the elements before it are trained, so at
a save the state of an earlier one is stored, and the elements since then are passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from keepfit.callbacks.training import internals
from keepfit.callbacks.training.data import seeds
from keepfit.callbacks.training.data.position import IteratorState

POSITION = b"Zip[0]::Range@@next"
"""The end of the path, and the key, under which `enumerate` keeps the next element's number."""


@dataclass(frozen=True)
class RelayState:
    """A state of the plain iterator.

    Attributes:
        passed: number of elements before it.
    """

    state: IteratorState
    passed: int


class Relay:
    """Feeds the iterator of a strategy from a plain iterator over the same dataset.

    Attributes:
        latest: the latest state whose elements before it are trained.
    """

    def __init__(self, iterator: Any, dataset: tf.data.Dataset) -> None:
        """Create the plain iterator; it draws seeds as the strategy's would."""
        self._iterator = iterator
        self._source = iter(_numbered(dataset))
        self.latest: RelayState | None = None
        self._next: RelayState | None = None

    def feed(self) -> None:
        """Make the strategy's iterator read from the plain one."""
        internals.feed_distributed_iterator(self._iterator, _passing_on(self._source))

    def resume(self, saved: RelayState, trained: int) -> None:
        """Feed the strategy's iterator with the elements after the first `trained`.

        Raises:
            DataChanged: the state belongs to a different pipeline.
        """
        saved.state.restore(self._source)
        self.latest = saved
        rest = _passing_on(self._source).skip(trained - saved.passed)
        internals.feed_distributed_iterator(self._iterator, rest)

    def note(self, trained: int) -> None:
        """Note how many elements are trained."""
        if self._next and self._next.passed <= trained:
            self.latest, self._next = self._next, None

    @property
    def needs_state(self) -> bool:
        """Return True if no captured state waits for its elements to be trained."""
        return self._next is None

    def capture(self) -> None:
        """Capture the plain iterator's state, for later positions."""
        state = internals.iterator_state(self._source)
        if state is not None:
            passed = seeds.value_in(state[:_FIRST_ENTRIES], POSITION)
            self._next = RelayState(IteratorState(state), passed)


_FIRST_ENTRIES = 4
"""Entries of a state among which the number is: those of the outermost dataset."""


def _numbered(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    # A prefetch after the numbers would count elements that nothing has read yet.
    options.experimental_optimization.inject_prefetch = False
    return dataset.enumerate().with_options(options)


def _passing_on(source: Any) -> tf.data.Dataset:
    """Return a dataset of the elements that the numbered iterator returns."""

    def element(_: Any) -> Any:
        return source.get_next()[1]

    return tf.data.Dataset.counter().map(element)
