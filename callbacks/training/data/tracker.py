"""The position in the input data: the iterator's state at some batch, and a count since then.

An iterator's state contains its shuffle buffer, 41 MB for 10,000 rows of 4 KB, but it is small when
the iterator is new. So the state is captured then, and the batches since then are counted; at a
checkpoint a later state is captured as well when that is cheap. A resumed fit restores the later
state and reads the batches counted since it.

Two kinds of pipeline need more:

- A shuffle below another one, or in the second part of a concatenation, is created with the first
  batch that needs it. Its seeds are not in the state of a new iterator, so the start state is
  captured after the first batch, and the position can't be saved before that.
- Near its end an iterator drops the parts that it will not need again, and with them the seeds of
  later epochs. Such a later state is not stored: a resumed fit reads the epoch from its start.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, TypeVar

from keepfit.callbacks import events
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.training import internals
from keepfit.callbacks.training.data.distributed import (
    MAY_DIFFER,
    DistributedInput,
    DistributedReading,
    Obstacle,
)
from keepfit.callbacks.training.data.position import (
    LATER,
    START,
    DataChanged,
    DataPosition,
    IteratorState,
    SeedCounts,
)

log = get_logger()

T = TypeVar("T")

REFRESH_BUDGET = 0.01
"""Largest share of the training thread's time that may be spent on capturing later states."""

INDEXED_ADAPTERS = ("PyDatasetAdapter", "GrainDatasetAdapter")
"""Keras' adapters for input that is read by index, so that the same items can be read again."""


class StateRefresh(Enum):
    """Whether to capture a later state of the iterator now.

    After an epoch's last batch that would be wrong: Keras creates the next epoch's iterator at
    once, which advances the seeds, and would do so again in the resumed epoch.
    """

    NEVER = auto()
    IF_CHEAP = auto()
    ALWAYS = auto()


@dataclass(frozen=True)
class PipelineTraits:
    """The properties of a pipeline that decide how its position is saved.

    Attributes:
        hidden_randomness: the order of an epoch is fixed by its first batch, not by its start.
        endless: one iterator serves all epochs.
        cached: the iterator's states would contain the whole cache.
        drawn_by_batch: a kernel draws each batch; its state can't be saved, and it starts over with
            each iterator, so only reading all batches again returns the same ones.
        shuffles: number of seeds that a complete state contains.
        late_shuffles: the state of a new iterator does not contain all of them.
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
        """Return the traits of the pipeline of a new iterator, whose state is `start`."""
        shuffles = internals.count_shuffles(iterator)
        return cls(
            internals.has_hidden_randomness(iterator) and not drawn_by_batch,
            internals.is_endless(iterator),
            internals.has_cache(iterator),
            drawn_by_batch,
            shuffles,
            start is not None and len(internals.seed_paths(start.content)) < shuffles,
        )


@dataclass(frozen=True)
class Reading:
    """How far one iterator has been read.

    Attributes:
        start, later, calls, since_start, since_later: see DataPosition.
        start_has_seeds: `start` contains all seeds that any state of the iterator contains.
    """

    start: IteratorState | None = None
    later: IteratorState | None = None
    start_has_seeds: bool = False
    calls: int = 0
    since_start: int = 0
    since_later: int = 0

    def after_call(self) -> Reading:
        """Return the reading after another call of the train function."""
        return replace(
            self,
            calls=self.calls + 1,
            since_start=self.since_start + 1,
            since_later=self.since_later + 1,
        )


@dataclass(frozen=True)
class _CaptureCost:
    """When a state was captured last, and the seconds that it took."""

    at: float = 0.0
    seconds: float = 0.0


class DataTracker:
    """Follows the iterators that `fit` hands to the train function."""

    def __init__(
        self,
        guard: ExactnessGuard | None = None,
        source: str = "",
        *,
        drawn_by_batch: bool = False,
        steps_per_call: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Follow the iterators of one fit.

        Args:
            guard: receives the exactness warnings.
            source: class name of Keras' adapter for the input, if that is known.
            drawn_by_batch: see PipelineTraits.
            steps_per_call: number of batches that each call of the train function reads.
            clock: returns seconds, as time.monotonic() does.
        """
        self._guard = guard or ExactnessGuard()
        self._source = source
        self._drawn_by_batch = drawn_by_batch
        self._steps_per_call = steps_per_call
        self._clock = clock
        self._input_reported = False
        self._iterator: Any = None
        self._known_traits: PipelineTraits | None = None
        self._reading = Reading()
        self._distributed: DistributedReading | None = None
        self._seeds_are_lost: bool | None = None
        self._cost = _CaptureCost()

    @property
    def element_spec(self) -> Any:
        """The structure of a batch, or of a replica's part; None if the iterator has none."""
        if self._distributed:
            return self._distributed.given.element_spec
        return getattr(self._iterator, "element_spec", None)

    def observe(self, iterator: Any) -> bool:
        """Note the iterator before each call of the train function; return True if it is new."""
        if iterator is self._iterator:
            return False
        self._iterator = iterator
        start = self._capture_state()
        is_first = self._known_traits is None
        if given := DistributedInput.of(iterator):
            self._observe_distributed(given)
        elif start is None or (is_first and internals.has_hidden_state(iterator)):
            self._report_unsavable_input(MAY_DIFFER)
        self._known_traits = self._known_traits or PipelineTraits.of(
            iterator, start, drawn_by_batch=self._drawn_by_batch
        )
        self._reading = Reading(start, start_has_seeds=not self._known_traits.late_shuffles)
        return True

    @property
    def can_be_saved(self) -> bool:
        """False before the first batch if all seeds can be captured only after it."""
        return self._reading.start_has_seeds or self._reading.calls > 0

    def advance(self) -> None:
        """Count a call of the train function, after it."""
        self._reading = self._reading.after_call()
        if self._reading.calls == 1 and not self._reading.start_has_seeds:
            self._complete_start()
        if self._reading.calls == 1 and self._traits.hidden_randomness:
            self._capture_later()

    def position(self, refresh: StateRefresh = StateRefresh.NEVER) -> DataPosition:
        """Return the current position in the data, with a later state if `refresh` allows it."""
        if self._reading.start and self._reading.since_start and self._should_refresh(refresh):
            self._capture_later()
        lost, reading = bool(self._seeds_are_lost), self._reading
        later, seeds = reading.later, None
        if self._distributed:
            later, seeds = self._distributed.position(reading.calls * self._steps_per_call)
            cheap = refresh is StateRefresh.IF_CHEAP and self._should_refresh(refresh)
            if cheap and self._distributed.needs_state:
                self._timed(self._distributed.capture)
        return DataPosition(
            reading.start,
            later,
            reading.calls,
            reading.since_start,
            reading.since_later,
            later_is_complete=self._traits.hidden_randomness or self._traits.endless or lost,
            seeds_are_lost=lost,
            seeds=seeds,
        )

    def restore(self, states: Mapping[str, bytes], plain: Mapping[str, Any], steps: int) -> None:
        """Advance the iterator that was last observed to a checkpoint's position.

        Args:
            states: the iterator states of the position by name, without the empty ones.
            plain: the counts, as `DataPosition.plain` returns them.
            steps: number of batches that each call of the train function reads.

        Raises:
            DataChanged: the data ends before that position, or the pipeline is a different one.
        """
        started = self._clock()
        saved = {name: IteratorState.from_bytes(content) for name, content in states.items()}
        state = saved.get(LATER) or saved.get(START)
        if state and not self._distributed:
            state.restore(self._iterator)
        self._reading = Reading(
            saved.get(START, self._reading.start),
            saved.get(LATER),
            start_has_seeds=True,
            calls=plain["calls"],
            since_start=plain["since_start"],
            since_later=plain["since_later"],
        )
        self._seeds_are_lost = plain["seeds_are_lost"]
        calls = plain["since_later" if LATER in saved else "since_start"]
        if self._distributed:
            calls = self._restore_distributed(self._distributed, plain, saved.get(LATER))
        batches = self._read(calls * steps)
        if batches <= (calls - 1) * steps:
            raise DataChanged(f"the data ends after {batches} of {calls * steps} batches")
        if batches:
            seconds = round(self._clock() - started, 3)
            log.info(events.DATA_REPLAYED, batches=batches, seconds=seconds)

    def _observe_distributed(self, given: DistributedInput) -> None:
        """Note a new iterator of a strategy."""
        if self._distributed:
            self._distributed = self._distributed.followed_by(given)
            return
        if obstacle := given.obstacle():
            self._report_unsavable_input(obstacle)
        self._distributed = DistributedReading(given, obstacle)

    def _restore_distributed(
        self, reading: DistributedReading, plain: Mapping[str, Any], later: IteratorState | None
    ) -> int:
        """Return the number of calls that have to be read again."""
        if (saved := plain.get("seeds")) and reading.seeds:
            steps = self._steps_per_call
            batches = plain["calls"] * steps
            return reading.restore(SeedCounts.from_plain(saved), later, batches) // steps
        if not reading.obstacle:
            self._guard.report(
                events.DATA_UNSAVABLE,
                input=self._source,
                reason="an older keepfit has written the checkpoint, without the seeds of this "
                "input: if it is shuffled, it is read in another order",
                fix="train again with --fresh for an exact result",
            )
        return int(plain["calls"])

    def _report_unsavable_input(self, obstacle: Obstacle) -> None:
        """Report once that a resumed fit reads the input again, and why it may differ then."""
        if self._input_reported:
            return
        self._input_reported = True
        reason = (
            "the position in this input can't be saved: a resumed fit reads it again from the "
            "start of the epoch"
        )
        if self._source in INDEXED_ADAPTERS:
            log.info(events.DATA_UNSAVABLE, input=self._source, reason=reason)
            return
        self._guard.report(
            events.DATA_UNSAVABLE,
            input=self._source,
            reason=f"{reason}, {obstacle.reason}",
            fix=obstacle.fix,
        )

    @property
    def _traits(self) -> PipelineTraits:
        return self._known_traits or PipelineTraits()

    def _complete_start(self) -> None:
        """Replace the start state by the one after the first batch, when all shuffles exist."""
        state = self._capture_state()
        if state:
            self._reading = replace(self._reading, start=state, since_start=0, start_has_seeds=True)
        if self._seeds_are_lost is None:
            saved = len(internals.seed_paths(state.content)) if state else 0
            self._seeds_are_lost = saved < self._traits.shuffles
            if self._seeds_are_lost:
                self._guard.report(
                    events.DATA_ORDER_UNSAVABLE,
                    reason=f"of {self._traits.shuffles} shuffles in this input, only {saved} can "
                    "be saved; after an interruption the others produce a different order",
                    fix="shuffle once, after the parts are concatenated or interleaved",
                )

    def _read(self, batches: int) -> int:
        """Read up to `batches` batches and return how many there were.

        The last call of an epoch may have had fewer.
        """
        return sum(1 for _ in itertools.islice(self._iterator, batches))

    def _should_refresh(self, refresh: StateRefresh) -> bool:
        if (
            refresh is StateRefresh.NEVER
            or self._traits.drawn_by_batch
            or (self._traits.cached and not self._traits.endless)
        ):
            return False
        affordable = self._cost.seconds <= REFRESH_BUDGET * (self._clock() - self._cost.at)
        return affordable or refresh is StateRefresh.ALWAYS

    def _capture_later(self) -> None:
        self._reading = replace(self._reading, later=self._capture_state(), since_later=0)

    def _capture_state(self) -> IteratorState | None:
        return self._timed(lambda: IteratorState.of(self._iterator))

    def _timed(self, capture: Callable[[], T]) -> T:
        started = self._clock()
        state = capture()
        ended = self._clock()
        self._cost = _CaptureCost(ended, ended - started)
        return state
