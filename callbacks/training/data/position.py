"""The position in the input data as it is saved: iterator states, and call counts since then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import tensorflow as tf

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.codec import Array
from keepfit.callbacks.checkpoint.snapshot import Tensor
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.training import internals

log = get_logger()

START = "data/start"
LATER = "data/later"


class DataChanged(Exception):
    """The iterator does not match the data position in the checkpoint."""


Counts = tuple[int, ...]
"""Random numbers drawn by each dataset with a generator of seeds, in an order that is fixed."""


@dataclass(frozen=True)
class SeedCounts:
    """The seeds drawn by the iterators of one fit.

    Attributes:
        first: the counts when the first iterator of the fit was new.
        current: the counts when the present one was new.
        passed: number of elements before the later state, which is that of a relay.
    """

    first: Counts
    current: Counts
    passed: int = 0

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> SeedCounts:
        """Return the counts from a manifest."""
        return cls(tuple(plain["first"]), tuple(plain["current"]), plain["passed"])

    def plain(self) -> dict[str, Any]:
        """Return the counts as they are stored in the manifest."""
        return {
            "first": list(self.first),
            "current": list(self.current),
            "passed": self.passed,
        }

    def next(self, current: Counts) -> SeedCounts:
        """Return the counts after another iterator was created."""
        return replace(self, current=current)


@dataclass(frozen=True)
class DataPosition:
    """The position in the input data: immutable, and cheap to keep.

    Attributes:
        start: state of the iterator when it was new, or after its first batch where only that
            state contains all seeds; None where the state can't be saved.
        later: a state taken after `start`, if there is one.
        calls: number of calls of the train function with this iterator.
        since_start, since_later: number of calls since each of the states.
        later_is_complete: `later` need not be checked for lost seeds: an endless dataset loses
            none, and where the first batch fixes the order, or some seeds are lost anyway, `start`
            can't replace it.
        seeds_are_lost: no state of this pipeline contains all seeds.
        seeds: the seeds drawn by a strategy's iterators, which have no state; None for others.
    """

    start: IteratorState | None = None
    later: IteratorState | None = None
    calls: int = 0
    since_start: int = 0
    since_later: int = 0
    later_is_complete: bool = False
    seeds_are_lost: bool = False
    seeds: SeedCounts | None = None

    def tensors(self) -> list[Tensor]:
        """Return the iterator states as tensors of a snapshot, serialised when they are read."""
        sources = ((START, self.start, self._start_bytes), (LATER, self.later, self._later_bytes))
        return [Tensor(name, "data", "U8", None, host) for name, state, host in sources if state]

    def plain(self) -> dict[str, Any]:
        """Return the counts that are stored in the manifest."""
        names = ("calls", "since_start", "since_later", "seeds_are_lost")
        plain = {name: getattr(self, name) for name in names}
        return {**plain, **({"seeds": self.seeds.plain()} if self.seeds else {})}

    def _start_bytes(self) -> memoryview:
        return memoryview(self.start.content if self.start else b"")

    def _later_bytes(self) -> memoryview:
        """Return `later` serialised, or nothing if it has lost seeds that `start` contains."""
        if not self.later:
            return memoryview(b"")
        later_seeds = internals.seed_paths(self.later.content)
        if self.seeds:
            complete = len(later_seeds) == len(self.seeds.current)
            return memoryview(self.later.content if complete else b"")
        if not self.start:
            return memoryview(b"")
        complete = self.later_is_complete or internals.seed_paths(self.start.content) <= later_seeds
        return memoryview(self.later.content if complete else b"")


def iterator_states(arrays: Mapping[str, Array]) -> dict[str, bytes]:
    """Return the iterator states among a checkpoint's arrays by name, without the empty ones."""
    return {n: arrays[n].tobytes() for n in (START, LATER) if n in arrays and arrays[n].size}


class IteratorState:
    """The state of an iterator.

    It is serialised on the writer's thread, because that takes most of the time.
    """

    def __init__(self, state: tf.Tensor) -> None:
        self._state = state

    @classmethod
    def of(cls, iterator: Any) -> IteratorState | None:
        """Return the current state of the iterator; None where it can't be saved."""
        state = internals.iterator_state(iterator)
        return None if state is None else cls(state)

    @classmethod
    def from_bytes(cls, content: bytes) -> IteratorState:
        """Return the state that `content` was read from.

        Raises:
            ValueError: the content is not a serialised state.
        """
        try:
            return cls(tf.io.parse_tensor(content, tf.variant))
        except tf.errors.OpError as error:
            raise ValueError(" ".join(error.message.split())[:200]) from error

    def restore(self, iterator: Any) -> None:
        """Set the iterator to this state.

        Raises:
            DataChanged: the state belongs to a different pipeline.
        """
        try:
            internals.restore_iterator(iterator, self._state)
        except tf.errors.OpError as error:
            log.debug(events.DATA_CHANGED, reason=error.message)
            raise DataChanged("its pipeline consists of other steps") from error

    @cached_property
    def content(self) -> bytes:
        """The serialised state; computed once."""
        content: bytes = tf.io.serialize_tensor(self._state).numpy()
        return content
