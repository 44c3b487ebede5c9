"""Decide how much of an attempt's training was kept, from its journal and those after it.

A later attempt that resumes at a step makes all steps of the earlier ones beyond it lost. The
journal has the time of each step at which something was recorded, so the time of a step in between
is known within bounds only: `Kept` has both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keepfit.callbacks.journal.document import Elapsed, Journal, Mark
from keepfit.callbacks.journal.terms import Reason


@dataclass(frozen=True)
class Kept:
    """The part of an attempt's training that was kept.

    Attributes:
        step: the step up to which it was kept.
        at_least: the recorded time that was kept in any case.
        at_most: the recorded time after which everything was lost. Between both, it is not known.
    """

    step: int
    at_least: Elapsed
    at_most: Elapsed


def last_mark(journal: Journal) -> Mark:
    """Return the last moment that the journal has recorded."""
    return journal.end or journal.written


def first_step(journal: Journal) -> int | None:
    """Return the step from which an attempt has trained; None if it has not trained.

    A fit that is not the first of the run begins after the steps of those before it, which were
    finished, so its step counts also if it does not resume.
    """
    if not journal.fits:
        return None
    first = journal.fits[0]
    return 0 if first.fit == 0 and not first.resumed else first.step


def resume_steps(journals: Sequence[Journal]) -> list[int | None]:
    """Return for each attempt the earliest step to which a later one has gone back, if any."""
    earliest: list[int | None] = []
    known: int | None = None
    for journal in reversed(journals):
        earliest.append(known)
        step = first_step(journal)
        known = step if known is None else known if step is None else min(step, known)
    return earliest[::-1]


def kept_training(journal: Journal, resumed_at: int | None, *, last: bool, direct: bool) -> Kept:
    """Return the part of an attempt's training that was kept.

    Training after the newest save of an attempt that is over is lost, unless its script has
    finished. While the attempt may still run, it counts as kept.

    Args:
        resumed_at: the earliest step to which a later attempt has gone back; None if none has
            trained.
        last: no later attempt is known.
        direct: all attempts up to the next one that has trained have journals. Otherwise one of
            them, too, may have gone back.
    """
    final = last_mark(journal)
    base: Mark = next(iter((*reversed(journal.saves), *journal.fits[:1])), final)
    if resumed_at is not None:
        same = [save for save in journal.saves if save.step == resumed_at]
        if same:
            return _exactly(same[-1])
        if resumed_at <= base.step:
            return _between_marks(journal, resumed_at)
    if journal.end and journal.end.reason is not Reason.FINISHED:
        return _exactly(base)
    if not last and not journal.end and (resumed_at is None or not direct):
        return Kept(base.step, base.elapsed, final.elapsed)
    if resumed_at is None or resumed_at >= final.step:
        return _exactly(final)
    return _between_marks(journal, resumed_at)


def _exactly(mark: Mark) -> Kept:
    return Kept(mark.step, mark.elapsed, mark.elapsed)


def _between_marks(journal: Journal, step: int) -> Kept:
    """Return what was kept up to a step by the nearest moments that the journal has recorded."""
    marks: list[Mark] = [*journal.fits, *journal.saves, *journal.epochs, last_mark(journal)]
    marks.sort(key=lambda mark: mark.at)
    before = [mark for mark in marks if mark.step <= step]
    if before and before[-1].step == step:
        return _exactly(before[-1])
    after = next((mark for mark in marks if mark.step > step), marks[-1])
    return Kept(step, before[-1].elapsed if before else Elapsed(), after.elapsed)
