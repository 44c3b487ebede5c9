"""The lifetimes of the machines of one's own runs, and what saves cost there, from the journals.

- A lifetime is that of an attempt's process: from its start to its end. The time before it (the
  machine boots, the image is pulled) is in no journal.
- Start-up, restore and the script's own work are not useful, whatever the interval. Of an attempt
  that has ended before its first save, nothing tells whether it had begun to train: all of it
  counts as start-up.
- An attempt that was preempted had a notice. One that was killed had none. One that ended by a
  failure (an exception, an unreachable store) loses the work since its last save, and no notice
  would have helped. One that has finished, or is not known to have ended, loses nothing.
- If nothing has watched the end of a killed attempt, it has lived at least until its last record.
  This lower bound is its lifetime here; the unknown time after it is neither useful nor lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from keepfit.callbacks.journal.document import Elapsed, Journal
from keepfit.callbacks.journal.goodput import AttemptGoodput, measure
from keepfit.callbacks.journal.terms import Reason
from keepfit.job.planning.replay import Life, LifeEnd

_BY_THE_MACHINE = frozenset({Reason.PREEMPTED, Reason.KILLED, None})
"""Reasons for which a machine may have been taken away; None is not known."""


@dataclass(frozen=True)
class OwnLife:
    """The lifetime of an attempt.

    Attributes:
        useful: seconds of training and validation that were kept.
        saves: number of its saves without the last one of a fit or of the attempt.
        stalls: seconds that they have cost training.
        ended_by_machine: the machine was taken away, as far as is known; a notice would help.
        lower_bound: the end is not known; it has lived longer.
    """

    life: Life
    useful: float
    saves: int
    stalls: float
    ended_by_machine: bool
    lower_bound: bool

    @property
    def lost(self) -> float:
        """Seconds of the trained time that are neither useful nor the cost of a save."""
        return max(0.0, self.life.seconds - self.life.restart - self.useful - self.stalls)

    def with_notice(self) -> Life:
        """Return the lifetime if its end had been announced."""
        if self.life.end is LifeEnd.UNWARNED and self.ended_by_machine:
            return replace(self.life, end=LifeEnd.WARNED)
        return self.life

    def without_notice(self) -> Life:
        """Return the lifetime if its end had not been announced."""
        if self.life.end is LifeEnd.WARNED:
            return replace(self.life, end=LifeEnd.UNWARNED, tail=None)
        return self.life


@dataclass(frozen=True)
class SaveCosts:
    """What the saves of the attempts have cost, in seconds.

    Attributes:
        save: mean time from the capture of a snapshot until it was durable.
        stall: mean training time that a save costs, without the last ones of attempts.
        interval: mean time between two saves of an attempt; None if no attempt has two.
    """

    save: float
    stall: float
    interval: float | None


@dataclass(frozen=True)
class OwnLives:
    """The lifetimes of the attempts of some runs.

    Attributes:
        runs: the lifetimes of each run, in the order of its attempts.
        costs: None if there was no save.
        restart: mean seconds from the start of a process to the end of its first batch; None if no
            attempt has trained.
    """

    runs: tuple[tuple[OwnLife, ...], ...]
    costs: SaveCosts | None
    restart: float | None

    @property
    def lives(self) -> tuple[OwnLife, ...]:
        """The lifetimes of all runs."""
        return tuple(life for run in self.runs for life in run)

    @property
    def seconds(self) -> float:
        """The sum of all lifetimes."""
        return math.fsum(own.life.seconds for own in self.lives)

    @property
    def useful_share(self) -> float:
        """The share of the lifetimes that was useful, as the journals say, from 0 to 1."""
        return math.fsum(own.useful for own in self.lives) / self.seconds


def own_lives(runs: Sequence[Sequence[Journal]]) -> OwnLives:
    """Return the lifetimes of the attempts of runs, each given by its journals in order."""
    journals = [journal for run in runs for journal in run]
    costs = save_costs(journals)
    first_batches = [j.first_batch for j in journals if j.first_batch is not None]
    return OwnLives(
        runs=tuple(tuple(_lives(run, costs)) for run in runs),
        costs=costs,
        restart=fmean(first_batches) if first_batches else None,
    )


def save_costs(journals: Sequence[Journal]) -> SaveCosts | None:
    """Return the costs of all saves; None if there was none."""
    count = sum(journal.save_count for journal in journals)
    saves = [save for journal in journals for save in journal.saves]
    if not count or not saves:
        return None
    periodic = [save for save in saves if not save.last]
    save = math.fsum(journal.save_seconds for journal in journals) / count
    return SaveCosts(
        save=save,
        stall=min(save, fmean(save.stall for save in periodic or saves)),
        interval=_interval(journals),
    )


def _interval(journals: Iterable[Journal]) -> float | None:
    """Return the mean seconds between two saves, without start-up, restore and other work.

    The entries of a journal are thinned out, the first one and `save_count` are not.
    """
    seconds, count = 0.0, 0
    for journal in journals:
        saves = [save for save in journal.saves if not save.last]
        if len(saves) > 1:
            seconds += _trained(saves[-1].elapsed) - _trained(saves[0].elapsed)
            count += max(1, _periodic_count(journal) - 1)
    return seconds / count if seconds > 0 else None


def _periodic_count(journal: Journal) -> int:
    """Return the number of saves that were not the last one of a fit or of the attempt."""
    return journal.save_count - sum(save.last for save in journal.saves)


def _trained(elapsed: Elapsed) -> float:
    return elapsed.training + elapsed.validation + elapsed.saving


def _lives(journals: Sequence[Journal], costs: SaveCosts | None) -> Iterable[OwnLife]:
    newest = len(journals) - 1
    for index, (journal, attempt) in enumerate(
        zip(journals, measure(journals).attempts, strict=True)
    ):
        if attempt.seconds > 0:
            yield _life(journal, attempt, costs, newest=index == newest)


def _life(
    journal: Journal, attempt: AttemptGoodput, costs: SaveCosts | None, *, newest: bool
) -> OwnLife:
    parts = attempt.parts
    useful = parts.productive + parts.validation
    restart = parts.startup + parts.restore + parts.other
    end = _end_of(attempt.reason, newest=newest)
    if not journal.saves and end is LifeEnd.UNWARNED:
        restart = attempt.seconds
    saves = _periodic_count(journal)
    if end is LifeEnd.UNWARNED:
        stalls = journal.saves[-1].elapsed.saving if journal.saves else 0.0
        tail = None
    else:
        rest = max(0.0, attempt.seconds - restart - useful)
        stalls = min(rest, saves * costs.stall) if costs else 0.0
        tail = rest - stalls
    return OwnLife(
        life=Life(attempt.seconds, min(restart, attempt.seconds), end, tail),
        useful=useful,
        saves=saves,
        stalls=stalls,
        ended_by_machine=attempt.reason in _BY_THE_MACHINE,
        lower_bound=not attempt.end_known,
    )


def _end_of(reason: Reason | None, *, newest: bool) -> LifeEnd:
    if reason in (Reason.PREEMPTED, Reason.LIMIT):
        return LifeEnd.WARNED
    if reason is Reason.FINISHED or (reason is None and newest):
        return LifeEnd.COMPLETE
    return LifeEnd.UNWARNED
