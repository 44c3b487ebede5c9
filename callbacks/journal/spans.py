"""How long an attempt's process has run, from its own journal and the next one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from keepfit.callbacks.journal.document import Journal, Previous
from keepfit.callbacks.journal.kept import last_mark

SAME_START: Final = 1.0
"""Seconds by which the start of a process may differ in its own journal and in the next one, which
has it by another clock."""


@dataclass(frozen=True)
class Span:
    """The time of an attempt's process in seconds.

    Attributes:
        recorded: until its last record.
        seconds: until its end, or its last record if its end is not known.
        unknown: from `recorded` to its end, or to the start of the next attempt.
    """

    recorded: float
    seconds: float
    unknown: float
    end_known: bool

    @property
    def total(self) -> float:
        return self.recorded + self.unknown


def span_of(journal: Journal, following: Journal | None, running_at: datetime | None) -> Span:
    """Return the time of an attempt, given the next journal, if there is one."""
    recorded = last_mark(journal).at
    missing = following is not None and following.attempt != journal.attempt + 1
    if following is None:
        alive_at = running_at if journal.end is None else None
        ended = (alive_at - journal.process_started).total_seconds() if alive_at else recorded
        seconds = max(ended, recorded)
        return Span(recorded, seconds, seconds - recorded, end_known=journal.end is not None)
    begun = (following.process_started - journal.process_started).total_seconds()
    watched = None if missing or journal.end else watched_seconds(journal, following.previous)
    if watched is not None:  # it was noted before the next attempt began, whatever a clock says
        seconds = max(recorded, min(watched, begun))
        return Span(recorded, seconds, seconds - recorded, end_known=True)
    open_end = missing or journal.end is None
    unknown = max(0.0, begun - recorded) if open_end else 0.0
    return Span(recorded, recorded, unknown, end_known=journal.end is not None)


def watched_seconds(journal: Journal, previous: Previous | None) -> float | None:
    """Return the end of an attempt in seconds after its start, if something has watched it.

    Args:
        previous: what the attempt after it knows of the process before.
    """
    found = _if_about(journal, previous)
    if found is None or found.ended is None:
        return None
    return (found.ended - journal.process_started).total_seconds()


def entry_about(journal: Journal, following: Journal | None) -> Previous | None:
    """Return what the next journal says of this attempt; None if it is about another process."""
    return _if_about(journal, following.previous if following else None)


def _if_about(journal: Journal, previous: Previous | None) -> Previous | None:
    if previous is None or previous.attempt != journal.attempt:
        return None
    if previous.started is None:
        return previous
    apart = abs((previous.started - journal.process_started).total_seconds())
    return previous if apart <= SAME_START else None
