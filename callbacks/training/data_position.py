"""Where the data of a training stands, as it is saved: iterator states, and counts since them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import tensorflow as tf

from keepfit.callbacks.checkpoint.codec import Array
from keepfit.callbacks.checkpoint.snapshot import Tensor
from keepfit.callbacks.training import internals

START = "data/start"
LATER = "data/later"


class DataChanged(Exception):
    """The iterator is not one that the checkpoint's position fits."""


@dataclass(frozen=True)
class DataPosition:
    """Where the data stands: immutable, and cheap to hold on to.

    Attributes:
        start: the iterator's state when it was new, or after its first batch where only that
            holds all seeds; None where it can't be saved.
        later: its state since then, if one was taken.
        calls: of the train function with this iterator.
        since_start, since_later: calls since each of the states.
        later_is_whole: it need not be asked whether `later` has lost something: an endless
            dataset loses nothing, and where the first batch fixes the order, or some seeds are
            lost anyway, `start` can't replace it.
        seeds_are_lost: no state of this pipeline holds all of them.
    """

    start: IteratorState | None = None
    later: IteratorState | None = None
    calls: int = 0
    since_start: int = 0
    since_later: int = 0
    later_is_whole: bool = False
    seeds_are_lost: bool = False

    def tensors(self) -> list[Tensor]:
        sources = ((START, self.start, self._start_bytes), (LATER, self.later, self._later_bytes))
        return [Tensor(name, "data", "U8", None, host) for name, state, host in sources if state]

    def plain(self) -> dict[str, Any]:
        """What the manifest says of it."""
        names = ("calls", "since_start", "since_later", "seeds_are_lost")
        return {name: getattr(self, name) for name in names}

    def _start_bytes(self) -> memoryview:
        return memoryview(self.start.content if self.start else b"")

    def _later_bytes(self) -> memoryview:
        """Empty if the state has lost seeds that only `start` still has."""
        if not self.start or not self.later:
            return memoryview(b"")
        held = internals.seed_paths(self.later.content)
        whole = self.later_is_whole or internals.seed_paths(self.start.content) <= held
        return memoryview(self.later.content if whole else b"")


def iterator_states(arrays: Mapping[str, Array]) -> dict[str, bytes]:
    """The iterator states among a checkpoint's arrays, without the empty ones."""
    return {n: arrays[n].tobytes() for n in (START, LATER) if n in arrays and arrays[n].size}


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
