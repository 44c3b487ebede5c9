"""The goodput of a run: the share of its time that became training which was kept.

The terms are those of ml-goodput-measurement (github.com/AI-Hypercomputer/ml-goodput-measurement):
goodput is productive time; badput is the rest, by cause. docs/goodput.md defines each part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from itertools import pairwise

from keepfit.callbacks.journal.document import Elapsed, Journal
from keepfit.callbacks.journal.kept import (
    Kept,
    first_step,
    kept_training,
    last_mark,
    resume_steps,
)
from keepfit.callbacks.journal.spans import Span, entry_about, span_of
from keepfit.callbacks.journal.terms import Reason


@dataclass(frozen=True)
class Parts:
    """Seconds of an attempt or of a run, by what became of them. They add up to `total`.

    Attributes:
        productive: training whose steps were kept.
        validation: validation that was kept.
        startup, restore, saving, other: see Activity.
        retrained: training and validation whose steps were lost, and were done again.
        unknown: from the last record of a killed attempt to its end, or, if that is not known, to
            the start of the next one: training that was lost, or waiting for a machine. Attempts
            without a journal are part of it, and training of which it is not known whether it was
            kept.
        waiting: between the end of an attempt and the start of the next one.
    """

    productive: float = 0.0
    validation: float = 0.0
    startup: float = 0.0
    restore: float = 0.0
    saving: float = 0.0
    other: float = 0.0
    retrained: float = 0.0
    unknown: float = 0.0
    waiting: float = 0.0

    @property
    def total(self) -> float:
        """All seconds."""
        return math.fsum(self.seconds().values())

    def seconds(self) -> dict[str, float]:
        """Return the seconds by name of the part, in the order above."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def shares(self) -> dict[str, float]:
        """Return the share of each part by its name, between 0 and 1; all are 0 without time."""
        total = self.total
        return {name: part / total if total else 0.0 for name, part in self.seconds().items()}


@dataclass(frozen=True)
class Costs:
    """US dollars of a run: the recorded time of its attempts times the price of their machines.

    Attributes:
        paid: for the attempts whose price is known; None if no price is known.
        on_demand: for the same time on demand; None if the price of one of them is not known.
        unpriced: number of attempts without a price.
        unended: number of priced attempts whose end is not known: the time after their last record
            is not counted.
    """

    paid: float | None = None
    on_demand: float | None = None
    unpriced: int = 0
    unended: int = 0


@dataclass(frozen=True)
class AttemptGoodput:
    """What became of the time of one attempt.

    Attributes:
        started: when its process started.
        seconds: from there to its end, or to its last record if its end is not known.
        end_known: whether `seconds` reaches to the end of its process.
        reason: why it ended; None if it is not known, or has not ended. `detail` is one line.
        parts: its time; `waiting` is that before the attempt, `unknown` that after its last record.
        first_step: the step from which it has trained.
        last_step: the newest step that it has recorded.
        kept_step: the step up to which its training was kept, as far as it is known.
        paid, on_demand: US dollars for its machine; None if the price is not known.
    """

    attempt: int
    started: datetime
    seconds: float
    end_known: bool
    reason: Reason | None
    detail: str
    parts: Parts
    first_step: int
    last_step: int
    kept_step: int
    paid: float | None = None
    on_demand: float | None = None

    @property
    def kept_steps(self) -> int:
        """Number of its steps that were kept."""
        return max(0, self.kept_step - self.first_step)

    @property
    def lost_steps(self) -> int:
        """Number of its recorded steps that were lost."""
        return max(0, self.last_step - max(self.kept_step, self.first_step))


@dataclass(frozen=True)
class Goodput:
    """What became of the time of a run.

    Attributes:
        parts: the sum over all attempts.
        overlap: seconds that are in the parts of two attempts. An older attempt was still alive
            when a newer one began, or the clocks of their machines differ.
    """

    attempts: tuple[AttemptGoodput, ...] = ()
    parts: Parts = Parts()
    costs: Costs = Costs()
    overlap: float = 0.0


def measure(journals: Sequence[Journal], running_at: datetime | None = None) -> Goodput:
    """Return the goodput of a run from the journals of its attempts, in their order.

    The parts add up to the time from the start of the first attempt to the last moment that is
    known of the last one, plus `overlap`. Some attempts may have no journal.

    Args:
        running_at: a moment at which the last attempt is known to run; without it, the time after
            its last record is not counted.
    """
    if not journals:
        return Goodput()
    followers = [*journals[1:], None]
    spans = [
        span_of(journal, following, running_at)
        for journal, following in zip(journals, followers, strict=True)
    ]
    gaps = [0.0] + [
        (after.process_started - before.process_started).total_seconds() - span.total
        for (before, after), span in zip(pairwise(journals), spans, strict=False)
    ]
    attempts = tuple(
        _attempt(journal, following, span, kept, max(0.0, gap))
        for journal, following, span, kept, gap in zip(
            journals, followers, spans, _all_kept(journals), gaps, strict=True
        )
    )
    return Goodput(
        attempts=attempts,
        parts=_add(attempt.parts for attempt in attempts),
        costs=_costs(attempts),
        overlap=math.fsum(-gap for gap in gaps if gap < 0),
    )


def _all_kept(journals: Sequence[Journal]) -> list[Kept]:
    """Return what was kept of the training of each attempt."""
    resumed = resume_steps(journals)
    kept = []
    trained: int | None = None  # index of the next attempt that has trained
    for index in reversed(range(len(journals))):
        journal = journals[index]
        until = len(journals) - 1 if trained is None else trained
        direct = journals[until].attempt - journal.attempt == until - index
        last = index == len(journals) - 1
        kept.append(kept_training(journal, resumed[index], last=last, direct=direct))
        if journal.fits:
            trained = index
    return kept[::-1]


def _attempt(
    journal: Journal, following: Journal | None, span: Span, kept: Kept, waiting: float
) -> AttemptGoodput:
    final = last_mark(journal)
    reason, detail = _ending(journal, following)
    hours = span.seconds / 3600
    paid, on_demand = (
        None if price is None else price * hours
        for price in (journal.machine.hourly_price, journal.machine.on_demand_price)
    )
    return AttemptGoodput(
        attempt=journal.attempt,
        started=journal.process_started,
        seconds=span.seconds,
        end_known=span.end_known,
        reason=reason,
        detail=detail,
        parts=_parts(final.elapsed, kept, span.unknown, waiting),
        first_step=first_step(journal) or 0,
        last_step=final.step,
        kept_step=kept.step,
        paid=paid,
        on_demand=on_demand,
    )


def _ending(journal: Journal, following: Journal | None) -> tuple[Reason | None, str]:
    """Return why an attempt ended, by itself or by the one after it, and a line about it."""
    if journal.end:
        return journal.end.reason, journal.end.detail
    previous = entry_about(journal, following)
    if previous:
        return previous.reason, previous.detail
    return None, ""


def _parts(final: Elapsed, kept: Kept, unknown: float, waiting: float) -> Parts:
    """Divide the recorded time of an attempt; no part is negative, whatever the journal says."""
    retrained = 0.0
    productive = {}
    for name in ("training", "validation"):
        whole = getattr(final, name)
        at_most = min(getattr(kept.at_most, name), whole)
        at_least = min(getattr(kept.at_least, name), at_most)
        productive[name] = at_least
        unknown += at_most - at_least
        retrained += whole - at_most
    return Parts(
        productive=productive["training"],
        validation=productive["validation"],
        startup=final.startup,
        restore=final.restore,
        saving=final.saving,
        other=final.other,
        retrained=retrained,
        unknown=unknown,
        waiting=waiting,
    )


def _add(parts: Iterable[Parts]) -> Parts:
    """Return the sums of all parts."""
    seconds = [part.seconds() for part in parts]
    return Parts(
        **{field.name: math.fsum(one[field.name] for one in seconds) for field in fields(Parts)}
    )


def _costs(attempts: Sequence[AttemptGoodput]) -> Costs:
    priced = [attempt for attempt in attempts if attempt.paid is not None]
    on_demand = [attempt.on_demand for attempt in priced or attempts]
    return Costs(
        paid=math.fsum(attempt.paid or 0.0 for attempt in priced) if priced else None,
        on_demand=_total(on_demand),
        unpriced=len(attempts) - len(priced),
        unended=sum(not attempt.end_known for attempt in priced),
    )


def _total(amounts: Sequence[float | None]) -> float | None:
    """Return the sum; None if there are no amounts, or one of them is not known."""
    known = [amount for amount in amounts if amount is not None]
    return math.fsum(known) if known and len(known) == len(amounts) else None
