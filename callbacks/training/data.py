"""The position in the input data: the iterator's state at some batch, and a count since then.

An iterator's state holds its shuffle buffer, 41 MB for 10,000 rows of 4 KB, but it is small when
the iterator is new. So it is taken there, and the batches since then are counted; at a checkpoint
a later state is taken as well when that is cheap. Resume restores the later one and reads the
batches counted since.

Near its end an iterator drops the parts that it will not need again, and with them the seeds of
the epochs to come. Such a later state is not stored: resume reads the epoch from its start.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import structlog
import tensorflow as tf

from callbacks import events
from callbacks.checkpoint.snapshot import Tensor
from callbacks.training import internals

log = structlog.get_logger("keepfit")

START = "data/start"
LATER = "data/later"
BUDGET = 0.01
"""The share of the training thread's time that may go into taking a later state."""


class DataChanged(Exception):
    """The iterator is not one that the checkpoint's position fits."""


@dataclass(frozen=True)
class DataPosition:
    """Where the data stands: immutable, and cheap to hold on to.

    Attributes:
        start: the iterator's state when it was new; None where it can't be saved.
        later: its state since then, if one was taken.
        since_start, since_later: calls of the train function since each of them.
        later_is_whole: it need not be asked whether `later` has lost something: an endless
            dataset loses nothing, and where the first batch fixes the order, `start` can't
            replace it.
    """

    start: IteratorState | None = None
    later: IteratorState | None = None
    since_start: int = 0
    since_later: int = 0
    later_is_whole: bool = False

    def tensors(self) -> list[Tensor]:
        sources = ((START, self.start, self._start_bytes), (LATER, self.later, self._later_bytes))
        return [Tensor(name, "data", "U8", None, host) for name, state, host in sources if state]

    def counts(self) -> dict[str, int]:
        return {"since_start": self.since_start, "since_later": self.since_later}

    def _start_bytes(self) -> memoryview:
        return memoryview(self.start.content if self.start else b"")

    def _later_bytes(self) -> memoryview:
        """Empty if the state has lost something that only `start` still has."""
        if not self.start or not self.later:
            return memoryview(b"")
        whole = self.later_is_whole or internals.has_all_parts(
            self.later.content, of=self.start.content
        )
        return memoryview(self.later.content if whole else b"")


class IteratorState:
    """An iterator's state. Serialised by the writer, because that takes most of the time."""

    def __init__(self, state: tf.Tensor) -> None:
        self._state = state

    @classmethod
    def of(cls, iterator: Any) -> IteratorState | None:
        """None where it can't be saved."""
        state = internals.iterator_state(iterator)
        return None if state is None else cls(state)

    @classmethod
    def from_bytes(cls, content: bytes) -> IteratorState:
        return cls(tf.io.parse_tensor(content, tf.variant))

    def restore(self, iterator: Any) -> None:
        """Raises DataChanged if it is the state of an iterator made of other parts."""
        try:
            internals.restore_iterator(iterator, self._state)
        except tf.errors.OpError as error:
            raise DataChanged(error.message.splitlines()[0]) from error

    @cached_property
    def content(self) -> bytes:
        content: bytes = tf.io.serialize_tensor(self._state).numpy()
        return content


class DataTracker:
    """Follows the iterators that `fit` hands to the train function."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._iterator: Any = None
        self._start: IteratorState | None = None
        self._later: IteratorState | None = None
        self._since_start = self._since_later = 0
        self._hidden_randomness = self._endless = False
        self._taken_at = 0.0
        self._cost = 0.0

    @property
    def element_spec(self) -> Any:
        return getattr(self._iterator, "element_spec", None)

    def meet(self, iterator: Any) -> bool:
        """Before each call of the train function. Returns whether the iterator is a new one."""
        if iterator is self._iterator:
            return False
        self._iterator = iterator
        self._hidden_randomness = internals.has_hidden_randomness(iterator)
        self._endless = internals.is_endless(iterator)
        self._start, self._later = self._take(), None
        self._since_start = self._since_later = 0
        if self._start is None:
            log.warning(
                events.DATA_UNSAVABLE,
                reason="this input can't be saved; resume reads it again from its start",
            )
        return True

    def advance(self) -> None:
        """After each call of the train function."""
        self._since_start += 1
        self._since_later += 1
        if self._since_start == 1 and self._hidden_randomness:
            self._renew()

    def position(self, *, at_any_cost: bool = False) -> DataPosition:
        """Where the data stands, with a later state if the budget allows it, or at any cost."""
        affordable = self._cost <= BUDGET * (self._clock() - self._taken_at)
        if self._start and self._since_start and (affordable or at_any_cost):
            self._renew()
        return DataPosition(
            self._start,
            self._later,
            self._since_start,
            self._since_later,
            self._hidden_randomness or self._endless,
        )

    def restore(
        self, start: bytes, later: bytes, counts: Mapping[str, int], steps_per_call: int
    ) -> None:
        """Bring the iterator just met to a checkpoint's position.

        Args:
            start, later: the content of the states; empty where there is none.
            counts: as DataPosition gives them.
            steps_per_call: batches that each call of the train function takes.

        Raises:
            DataChanged: it ends before that, or is made of other parts than the saved one.
        """
        began = self._clock()
        if start:
            self._start = IteratorState.from_bytes(start)
        if later:
            self._later = IteratorState.from_bytes(later)
        if state := self._later or (self._start if start else None):
            state.restore(self._iterator)
        self._since_start, self._since_later = counts["since_start"], counts["since_later"]
        calls = self._since_later if later else self._since_start
        batches = self._read(calls * steps_per_call)
        if batches <= (calls - 1) * steps_per_call:
            raise DataChanged(f"it ends after {batches} of {calls * steps_per_call} batches")
        if batches:
            seconds = round(self._clock() - began, 3)
            log.info(events.DATA_REPLAYED, batches=batches, seconds=seconds)

    def _read(self, batches: int) -> int:
        """Take so many batches, or what there is. The last call of an epoch may have had fewer."""
        return sum(1 for _ in itertools.islice(self._iterator, batches))

    def _renew(self) -> None:
        self._later, self._since_later = self._take(), 0

    def _take(self) -> IteratorState | None:
        began = self._clock()
        state = IteratorState.of(self._iterator)
        self._taken_at = self._clock()
        self._cost = self._taken_at - began
        return state
