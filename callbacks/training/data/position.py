"""The position in the input data as it is saved: iterator states, and call counts since then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    """

    start: IteratorState | None = None
    later: IteratorState | None = None
    calls: int = 0
    since_start: int = 0
    since_later: int = 0
    later_is_complete: bool = False
    seeds_are_lost: bool = False

    def tensors(self) -> list[Tensor]:
        """Return the iterator states as tensors of a snapshot, serialised when they are read."""
        sources = ((START, self.start, self._start_bytes), (LATER, self.later, self._later_bytes))
        return [Tensor(name, "data", "U8", None, host) for name, state, host in sources if state]

    def plain(self) -> dict[str, Any]:
        """Return the counts that are stored in the manifest."""
        names = ("calls", "since_start", "since_later", "seeds_are_lost")
        return {name: getattr(self, name) for name in names}

    def _start_bytes(self) -> memoryview:
        return memoryview(self.start.content if self.start else b"")

    def _later_bytes(self) -> memoryview:
        """Return `later` serialised, or nothing if it has lost seeds that `start` contains."""
        if not self.start or not self.later:
            return memoryview(b"")
        later_seeds = internals.seed_paths(self.later.content)
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
