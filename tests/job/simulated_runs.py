"""Journals of simulated runs: attempts that train batch by batch, save by the clock, and end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from keepfit.callbacks.journal.document import (
    Elapsed,
    Ending,
    Fit,
    Journal,
    Mark,
    NoticeEntry,
    Previous,
    Save,
)
from keepfit.callbacks.journal.terms import Reason

BEGIN = datetime(2026, 11, 28, 12, tzinfo=UTC)
BETWEEN = 60.0
"""Seconds from the end of an attempt to the start of the next one."""


@dataclass(frozen=True)
class Ended:
    """An attempt's life in seconds, and its end.

    Attributes:
        reason: KILLED has no entry in the attempt's own journal.
        watched: the next attempt knows when it was killed.
    """

    seconds: float
    reason: Reason
    watched: bool = True


@dataclass(frozen=True)
class Costs:
    """The seconds of a run's activities.

    Attributes:
        tail: from a notice, or from the last batch of a script, to the end.
    """

    batch: float = 0.5
    every: float = 60.0
    save: float = 4.0
    stall: float = 0.4
    startup: float = 20.0
    restore: float = 5.0
    tail: float = 6.0


@dataclass
class SimulatedRun:
    """A run: its journals, and the time that was useful by the simulation's own account."""

    journals: list[Journal]
    useful: float = 0.0
    seconds: float = 0.0


def simulate(name: str, lives: list[Ended], costs: Costs) -> SimulatedRun:
    """Return the run whose attempts have these lives."""
    run = SimulatedRun([])
    started, step, previous = BEGIN, 0, None
    for number, ended in enumerate(lives, 1):
        attempt = _Attempt(costs, ended, step)
        attempt.train()
        run.journals.append(attempt.journal(name, number, started, previous))
        run.useful += attempt.kept_seconds
        last = number == len(lives)
        known = ended.reason is not Reason.KILLED or (ended.watched and not last)
        # The stall of the last save may end after the life that was drawn.
        at = run.journals[-1].written.at
        run.seconds += max(ended.seconds, at) if known else at
        end = started + timedelta(seconds=ended.seconds)
        previous = None
        if ended.watched and ended.reason is Reason.KILLED:
            previous = Previous(attempt=number, started=started, ended=end, reason=Reason.KILLED)
        started, step = end + timedelta(seconds=BETWEEN), attempt.kept_step
    return run


class _Attempt:
    """One attempt; `train` runs it to its end."""

    def __init__(self, costs: Costs, ended: Ended, step: int) -> None:
        self.costs, self.ended, self.first = costs, ended, step
        self.step = self.kept_step = step
        self.kept_seconds = self.trained = self.saving = 0.0
        self.restore = costs.restore if step else 0.0
        self.saves: list[Save] = []
        self.written = Mark(step=step, elapsed=self.elapsed())

    def elapsed(self) -> Elapsed:
        return Elapsed(
            startup=self.costs.startup,
            restore=self.restore,
            training=self.trained,
            saving=self.saving,
        )

    @property
    def now(self) -> float:
        """Seconds since the start of the process."""
        return self.costs.startup + self.restore + self.trained + self.saving

    def train(self) -> None:
        """Train until the notice, the end of the script, or the end of the process."""
        known = self.ended.reason in (Reason.PREEMPTED, Reason.FINISHED)
        until = self.ended.seconds - (self.costs.tail if known else 0.0)
        last, pending = 0.0, None
        while self.now + self.costs.batch <= until:
            self.trained += self.costs.batch
            self.step += 1
            if pending is not None and self.now >= pending.at + self.costs.save:
                self._commit(pending)
                pending = None
            wait = self.costs.every if self.saves or pending else min(10.0, self.costs.every)
            if pending is None and self.trained + self.saving - last >= wait:
                last = self.trained + self.saving
                self.saving += self.costs.stall
                pending = Mark(step=self.step, elapsed=self.elapsed())
        if pending is not None and pending.at + self.costs.save <= self.ended.seconds:
            self._commit(pending)
        if known:
            self._commit(Mark(step=self.step, elapsed=self.elapsed()), last=True)
            self.saving += max(0.0, self.ended.seconds - self.now)
        else:
            self.trained += max(0.0, self.ended.seconds - self.now)

    def _commit(self, mark: Mark, *, last: bool = False) -> None:
        stall = mark.elapsed.saving - (self.saves[-1].elapsed.saving if self.saves else 0.0)
        self.saves.append(
            Save(
                step=mark.step,
                elapsed=mark.elapsed,
                fit=0,
                epoch=0,
                batch=mark.step,
                seconds=self.costs.save,
                size=1,
                stall=stall,
                last=last,
            )
        )
        self.kept_step, self.kept_seconds = mark.step, mark.elapsed.training
        training = mark.elapsed.training + self.costs.save
        self.written = Mark(
            step=mark.step, elapsed=mark.elapsed.model_copy(update={"training": training})
        )

    def journal(
        self, name: str, number: int, started: datetime, previous: Previous | None
    ) -> Journal:
        """Return its journal as it was last written."""
        reason, end = self.ended.reason, None
        if reason is not Reason.KILLED:
            end = Ending(step=self.step, elapsed=self.elapsed(), reason=reason)
            self.written = Mark(step=end.step, elapsed=end.elapsed)
        begun = Elapsed(startup=self.costs.startup, restore=self.restore)
        notice = NoticeEntry(at=self.ended.seconds, source="spot")
        return Journal(
            run=name,
            attempt=number,
            process_started=started,
            written=self.written,
            imported=self.costs.startup / 2,
            claimed=self.costs.startup,
            first_batch=begun.total + self.costs.batch if self.saves else None,
            fits=(Fit(step=self.first, elapsed=begun, fit=0, resumed=self.first > 0),),
            saves=tuple(self.saves),
            save_count=len(self.saves),
            save_seconds=sum(save.seconds for save in self.saves),
            notices=(notice,) if reason is Reason.PREEMPTED else (),
            end=end,
            previous=previous,
        )
