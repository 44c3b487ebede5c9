"""When a run is saved: the schedule is asked at each boundary, and what saves cost is measured."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.manifest import AttemptHistory
from keepfit.callbacks.checkpoint.save_cost import SaveCostEstimator
from keepfit.callbacks.checkpoint.save_interval import (
    SaveInterval,
    SaveMeasurements,
    choose_interval,
)
from keepfit.callbacks.checkpoint.save_policy import DecisionContext, SaveAutomatically, SavePolicy
from keepfit.callbacks.checkpoint.snapshot import Position

log = structlog.get_logger("keepfit")


class SaveScheduler:
    """Applies a schedule to the trainings of one attempt. For the training thread.

    Args:
        history: how long the run's attempts before this one have lived.
        age: seconds that this one has.
    """

    def __init__(
        self,
        when: SavePolicy,
        history: AttemptHistory,
        age: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._schedule = when
        self._history = history
        self._age = age
        self._clock = clock
        self._save_cost = SaveCostEstimator()
        self._since = (clock(), Position())
        self._first = True
        self._asked_at: float | None = None
        self._reported: SaveInterval | None = None

    def goes_on_from(self, position: Position) -> None:
        """Nothing is at stake at this moment."""
        self._since = (self._clock(), position)

    def offered(self, position: Position, *, stalls: bool) -> None:
        """A snapshot has been given to the writer.

        Args:
            stalls: training goes on after it, and so it can be measured what that cost.
        """
        self.goes_on_from(position)
        self._first = False
        now, asked = self._since[0], self._asked_at
        if stalls:
            self._save_cost.begins(now, 0.0 if asked is None else now - asked)
        self._asked_at = None

    def due(self, epoch: int, step: int, *, asked: bool, busy: bool, durable: float | None) -> bool:
        """At each boundary: whether the schedule or somebody asks for a save, and it can begin.

        Args:
            busy: another one is being written.
            durable: seconds that the last one took; None if none has succeeded.
        """
        now = self._clock()
        ended = self._save_cost.passes(now, epoch, step, busy=busy)
        known = self._known(durable)
        if ended and isinstance(self._schedule, SaveAutomatically):
            self._report(choose_interval(known))
        then, position = self._since
        moment = DecisionContext(
            seconds=now - then,
            batches=step - position.step,
            epochs=epoch - position.epoch,
            first=self._first,
            known=known,
        )
        due = (asked or self._schedule.due(moment)) and not busy
        self._asked_at = now if due else None
        return due

    def _known(self, durable: float | None) -> SaveMeasurements:
        age = self._age()
        return SaveMeasurements(
            cost=self._save_cost.cost,
            durable=durable,
            interruptions=self._history.interruptions,
            lived=self._history.seconds + age,
            age=age,
        )

    def _report(self, interval: SaveInterval) -> None:
        if interval.differs_from(self._reported):
            self._reported = interval
            log.info(
                events.SAVE_INTERVAL, seconds=round(interval.seconds, 1), reason=interval.reason
            )
