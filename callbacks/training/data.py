"""The position in the input data: the iterator's state at some batch, and a count since then.

An iterator's state holds its shuffle buffer, 41 MB for 10,000 rows of 4 KB, but it is small when
the iterator is new. So it is taken there, and the batches since then are counted; it is renewed at
a checkpoint when that is cheap. Resume restores the state and reads the counted batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import structlog
import tensorflow as tf

from callbacks import events
from callbacks.checkpoint.snapshot import Tensor
from callbacks.training import internals

log = structlog.get_logger("keepfit")

BASE = "data/base"
BUDGET = 0.01
"""The share of the training thread's time that may go into renewing the base."""


class DataChanged(Exception):
    """The iterator is not one that the checkpoint's position fits."""


@dataclass(frozen=True)
class DataPosition:
    """A base and a count: immutable, and cheap to hold on to.

    Attributes:
        base: None where the iterator can't be saved: count from its first batch.
        count: calls of the train function since the base.
    """

    base: Base | None
    count: int

    def tensors(self) -> list[Tensor]:
        if self.base is None:
            return []
        return [Tensor(BASE, "data", "U8", None, self.base.host)]


NO_DATA = DataPosition(None, 0)


class Base:
    """An iterator's state. Serialised by the writer, because that takes most of the time."""

    def __init__(self, state: tf.Tensor) -> None:
        self._state = state

    def host(self) -> memoryview:
        return memoryview(self._bytes)

    @cached_property
    def _bytes(self) -> bytes:
        content: bytes = tf.io.serialize_tensor(self._state).numpy()
        return content


class DataTracker:
    """Follows the iterators that `fit` hands to the train function."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._iterator: Any = None
        self._base: Base | None = None
        self._count = 0
        self._renewed_at = 0.0
        self._cost = 0.0

    @property
    def element_spec(self) -> Any:
        return getattr(self._iterator, "element_spec", None)

    def meet(self, iterator: Any) -> bool:
        """Before each call of the train function. Returns whether the iterator is a new one."""
        if iterator is self._iterator:
            return False
        self._iterator = iterator
        self._count = 0
        self._renew()
        if self._base is None:
            log.warning(
                events.DATA_UNSAVABLE,
                reason="this input can't be saved; resume reads it again from its start",
            )
        return True

    def advance(self) -> None:
        """After each call of the train function."""
        self._count += 1
        if self._count == 1 and internals.has_hidden_randomness(self._iterator):
            self._renew()

    def position(self, *, at_any_cost: bool = False) -> DataPosition:
        """Where the data stands. The base is renewed if the budget allows it, or at any cost."""
        rested = self._clock() - self._renewed_at
        affordable = self._cost <= BUDGET * rested
        if self._base is not None and self._count and (affordable or at_any_cost):
            self._renew()
        return DataPosition(self._base, self._count)

    def restore(self, base: bytes | None, count: int, steps_per_call: int) -> None:
        """Bring the iterator just met to where `count` calls had been made since `base`.

        Raises:
            DataChanged: it ends before that, or is made of other parts than the saved one.
        """
        started = self._clock()
        if base is not None:
            try:
                internals.restore_iterator(self._iterator, tf.io.parse_tensor(base, tf.variant))
            except tf.errors.OpError as error:
                raise DataChanged(error.message.splitlines()[0]) from error
        self._renew()
        for done in range(count * steps_per_call):
            if next(self._iterator, None) is None:
                raise DataChanged(f"it ends after {done} of {count * steps_per_call} batches")
        self._count = count
        if count:
            seconds = round(self._clock() - started, 3)
            log.info(events.DATA_REPLAYED, batches=count * steps_per_call, seconds=seconds)

    def _renew(self) -> None:
        started = self._clock()
        state = internals.iterator_state(self._iterator)
        self._renewed_at = self._clock()
        self._cost = self._renewed_at - started
        self._base = None if state is None else Base(state)
        self._count = 0
