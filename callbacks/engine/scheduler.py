"""When to save a run: a policy is asked at each boundary, and the cost of saves is measured."""

from __future__ import annotations

from collections.abc import Callable

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.head import AttemptHistory
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.engine.save_cost import SaveCostEstimator
from keepfit.callbacks.engine.save_interval import (
    SaveInterval,
    SaveMeasurements,
    choose_interval,
)
from keepfit.callbacks.engine.save_policy import DecisionContext, SaveAutomatically, SavePolicy
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()


class SaveScheduler:
    """A save policy applied to the fits of one attempt. For use on the training thread only.

    Args:
        policy: decides at each boundary whether a save is due.
        history: the interruptions and the total duration of the run's earlier attempts.
        age: returns the seconds since this attempt started.
        clock: returns the present time in seconds, as time.monotonic() does.
    """

    def __init__(
        self,
        policy: SavePolicy,
        history: AttemptHistory,
        age: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._policy = policy
        self._history = history
        self._age = age
        self._clock = clock
        self._save_cost = SaveCostEstimator()
        self._measured_from = (clock(), Position())
        self._saved = False
        self._boundary = clock()
        self._reported: SaveInterval | None = None

    def continue_from(self, position: Position) -> None:
        """Measure the next save from now and from `position`: there are no uncommitted steps."""
        self._measured_from = (self._clock(), position)

    def submitted(self, position: Position, *, stalls: bool) -> None:
        """Record that the snapshot of the last boundary has been submitted to the writer.

        Args:
            stalls: training continues after the save, so that the cost of it can be measured.
        """
        self.continue_from(position)
        self._saved = True
        if stalls:
            now = self._measured_from[0]
            self._save_cost.save_started(now, now - self._boundary)

    def observe(self, epoch: int, step: int, *, busy: bool, durable: float | None) -> None:
        """Record a boundary at which a save is possible; to be called at each.

        Args:
            epoch: the epoch under way.
            step: batches done in the run.
            busy: a save is being written.
            durable: seconds that the last save took; None if none has succeeded.
        """
        self._boundary = self._clock()
        ended = self._save_cost.observe_boundary(self._boundary, epoch, step, busy=busy)
        if ended and isinstance(self._policy, SaveAutomatically):
            self._report(choose_interval(self._measurements(durable)))

    def should_save(self, epoch: int, step: int, *, durable: float | None) -> bool:
        """Return whether a save is due at the boundary that was observed last."""
        then, position = self._measured_from
        return self._policy.should_save(
            DecisionContext(
                seconds=self._boundary - then,
                batches=step - position.step,
                epochs=epoch - position.epoch,
                first=not self._saved,
                measurements=self._measurements(durable),
            )
        )

    def _measurements(self, durable: float | None) -> SaveMeasurements:
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
