"""The position in the input data: the iterator's state at some batch, and a count since then.

An iterator's state holds its shuffle buffer, 41 MB for 10,000 rows of 4 KB, but it is small when
the iterator is new. So it is taken there, and the batches since then are counted; at a checkpoint
a later state is taken as well when that is cheap. Resume restores the later one and reads the
batches counted since.

Two things in a pipeline ask for more:

- A shuffle below another one, or in the second part of a concatenation, is made with the first
  batch that needs it. Its seeds are not in the state of a new iterator, so the start is taken
  after the first batch, and before it nothing can be saved.
- Near its end an iterator drops the parts that it will not need again, and with them the seeds of
  the epochs to come. Such a later state is not stored: resume reads the epoch from its start.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.training import internals
from keepfit.callbacks.training.data_position import (
    LATER,
    START,
    DataChanged,
    DataPosition,
    IteratorState,
)

log = structlog.get_logger("keepfit")

REFRESH_BUDGET = 0.01
"""The share of the training thread's time that may go into taking a later state."""

INDEXED_ADAPTERS = ("PyDatasetAdapter", "GrainDatasetAdapter")
"""Keras' adapters for input whose items are asked for by number, so that they come again."""


class StateRefresh(Enum):
    """Whether to take a later state of the iterator now.

    After an epoch's last batch it would be wrong: Keras makes the next epoch's iterator at once,
    which moves the seeds on, and will do so again in the resumed epoch.
    """

    NEVER = auto()
    IF_CHEAP = auto()
    ALWAYS = auto()


@dataclass(frozen=True)
class PipelineTraits:
    """What a pipeline is like, as far as saving its position depends on it.

    Attributes:
        hidden_randomness: the order of an epoch is fixed by its first batch, not by its start.
        endless: one iterator serves all epochs.
        cached: its states would hold the whole cache.
        drawn_by_batch: a kernel draws each batch, which nobody can save, and which begins anew with
            each iterator: only reading all batches again gives the same ones.
        shuffles: how many seeds a state has to hold.
        late_shuffles: the state of a new iterator does not hold all of them.
    """

    hidden_randomness: bool = False
    endless: bool = False
    cached: bool = False
    drawn_by_batch: bool = False
    shuffles: int = 0
    late_shuffles: bool = False

    @classmethod
    def of(
        cls, iterator: Any, start: IteratorState | None, *, drawn_by_batch: bool
    ) -> PipelineTraits:
        """Of the pipeline whose new iterator has this state."""
        shuffles = internals.count_shuffles(iterator)
        return cls(
            internals.has_hidden_randomness(iterator) and not drawn_by_batch,
            internals.is_endless(iterator),
            internals.has_cache(iterator),
            drawn_by_batch,
            shuffles,
            start is not None and len(internals.seed_paths(start.content)) < shuffles,
        )


class DataTracker:
    """Follows the iterators that `fit` hands to the train function."""

    def __init__(
        self,
        guard: ExactnessGuard | None = None,
        source: str = "",
        *,
        drawn_by_batch: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Follow the iterators of one fit.

        Args:
            source: the class of Keras' adapter for the input, if that is known.
            drawn_by_batch: see Nature.
        """
        self._guard = guard or ExactnessGuard()
        self._source = source
        self._drawn_by_batch = drawn_by_batch
        self._clock = clock
        self._doubted = False
        self._iterator: Any = None
        self._nature: PipelineTraits | None = None
        self._start: IteratorState | None = None
        self._later: IteratorState | None = None
        self._start_has_seeds = False
        self._seeds_are_lost: bool | None = None
        self._calls = self._since_start = self._since_later = 0
        self._taken_at = 0.0
        self._cost = 0.0

    @property
    def element_spec(self) -> Any:
        return getattr(self._iterator, "element_spec", None)

    def observe(self, iterator: Any) -> bool:
        """Before each call of the train function. Returns whether the iterator is a new one."""
        if iterator is self._iterator:
            return False
        self._iterator = iterator
        self._start, self._later = self._take(), None
        self._calls = self._since_start = self._since_later = 0
        if self._start is None:
            self._doubt_input()
        self._nature = self._nature or PipelineTraits.of(
            iterator, self._start, drawn_by_batch=self._drawn_by_batch
        )
        self._start_has_seeds = not self._nature.late_shuffles
        return True

    @property
    def can_be_saved(self) -> bool:
        """Not before the first batch, if only then all seeds can be had."""
        return self._start_has_seeds or self._calls > 0

    def advance(self) -> None:
        """After each call of the train function."""
        self._calls += 1
        self._since_start += 1
        self._since_later += 1
        if self._calls == 1 and not self._start_has_seeds:
            self._complete_start()
        if self._calls == 1 and self._is.hidden_randomness:
            self._renew()

    def position(self, renew: StateRefresh = StateRefresh.NEVER) -> DataPosition:
        """Where the data stands."""
        if self._start and self._since_start and self._worth_renewing(renew):
            self._renew()
        lost = bool(self._seeds_are_lost)
        return DataPosition(
            self._start,
            self._later,
            self._calls,
            self._since_start,
            self._since_later,
            later_is_whole=self._is.hidden_randomness or self._is.endless or lost,
            seeds_are_lost=lost,
        )

    def restore(self, states: Mapping[str, bytes], plain: Mapping[str, Any], steps: int) -> None:
        """Bring the iterator just met to a checkpoint's position.

        Args:
            states: the tensors of the position by name, without the empty ones.
            plain: as DataPosition gives it.
            steps: batches that each call of the train function takes.

        Raises:
            DataChanged: it ends before that, or is made of other parts than the saved one.
        """
        began = self._clock()
        if START in states:
            self._start = IteratorState.from_bytes(states[START])
        if LATER in states:
            self._later = IteratorState.from_bytes(states[LATER])
        if state := self._later or (self._start if START in states else None):
            state.restore(self._iterator)
        self._calls = plain["calls"]
        self._since_start, self._since_later = plain["since_start"], plain["since_later"]
        self._start_has_seeds, self._seeds_are_lost = True, plain["seeds_are_lost"]
        calls = self._since_later if LATER in states else self._since_start
        batches = self._read(calls * steps)
        if batches <= (calls - 1) * steps:
            raise DataChanged(f"it ends after {batches} of {calls * steps} batches")
        if batches:
            seconds = round(self._clock() - began, 3)
            log.info(events.DATA_REPLAYED, batches=batches, seconds=seconds)

    def _doubt_input(self) -> None:
        """Say once that the input will be read again, and whether that can give something else."""
        if self._doubted:
            return
        self._doubted = True
        again = "this input can't be saved: resume reads it again, from the start of the epoch"
        if self._source in INDEXED_ADAPTERS:
            log.info(events.DATA_UNSAVABLE, input=self._source, reason=again)
            return
        self._guard.report(
            events.DATA_UNSAVABLE,
            input=self._source,
            reason=f"{again}, and it may be another one if its source is not the same each time",
            fix="seed what it draws from; or use tf.data without Python in it, arrays, or a "
            "keras.utils.PyDataset",
        )

    @property
    def _is(self) -> PipelineTraits:
        return self._nature or PipelineTraits()

    def _complete_start(self) -> None:
        """Let the start be the state after the first batch, when all shuffles have begun."""
        state = self._take()
        if state:
            self._start, self._since_start, self._start_has_seeds = state, 0, True
        if self._seeds_are_lost is None:
            held = len(internals.seed_paths(state.content)) if state else 0
            self._seeds_are_lost = held < self._is.shuffles
            if self._seeds_are_lost:
                self._guard.report(
                    events.DATA_ORDER_UNSAVABLE,
                    reason=f"of {self._is.shuffles} shuffles in this input, only {held} can be "
                    "saved; after an interruption the rest give another order",
                    fix="shuffle once, after the parts are joined",
                )

    def _read(self, batches: int) -> int:
        """Take so many batches, or what there is. The last call of an epoch may have had fewer."""
        return sum(1 for _ in itertools.islice(self._iterator, batches))

    def _worth_renewing(self, renew: StateRefresh) -> bool:
        if (
            renew is StateRefresh.NEVER
            or self._is.drawn_by_batch
            or (self._is.cached and not self._is.endless)
        ):
            return False
        affordable = self._cost <= REFRESH_BUDGET * (self._clock() - self._taken_at)
        return affordable or renew is StateRefresh.ALWAYS

    def _renew(self) -> None:
        self._later, self._since_later = self._take(), 0

    def _take(self) -> IteratorState | None:
        began = self._clock()
        state = IteratorState.of(self._iterator)
        self._taken_at = self._clock()
        self._cost = self._taken_at - began
        return state
