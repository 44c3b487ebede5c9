"""What the attempts of a run have used, in hours and dollars, and what is left of its limits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from keepfit.callbacks.journal.document import Journal, Previous
from keepfit.callbacks.journal.read import RunJournals
from keepfit.callbacks.journal.spans import span_of, watched_seconds

HOUR = 3600.0


@dataclass(frozen=True)
class Limits:
    """What all attempts of a run may use together: hours and US dollars; None for no limit."""

    max_hours: float | None = None
    max_cost: float | None = None

    def __bool__(self) -> bool:
        return self.max_hours is not None or self.max_cost is not None


@dataclass(frozen=True)
class Usage:
    """What the earlier attempts of a run have used, as far as their journals say.

    Attributes:
        attempts: number of the attempts that are counted.
        seconds: the time of their processes.
        dollars: for their machines; those of `unpriced` are not in it.
        unpriced: the numbers of the counted attempts whose price is not known.
        assumed: number of them that count at the price which the user has given.
        uncounted: number of attempts of which a part is not counted: they were killed, and nothing
            has watched their end, or they have no journal that can be read.
    """

    attempts: int = 0
    seconds: float = 0.0
    dollars: float = 0.0
    unpriced: tuple[int, ...] = ()
    assumed: int = 0
    uncounted: int = 0


@dataclass(frozen=True)
class Allowance:
    """What is left of a limit.

    Attributes:
        option: the limit as users write it: "--max-hours 2".
        used: what was used until now: "1.5 h of 2 h, in 3 attempts".
        seconds: for which this attempt may go on; 0 or less if the limit is reached.
    """

    option: str
    used: str
    seconds: float


def usage_of(
    found: RunJournals,
    newest: int,
    previous: Previous | None = None,
    price: float | None = None,
) -> Usage:
    """Return what the attempts of a run have used.

    Args:
        found: the journals of all earlier attempts.
        newest: the number of the newest of them.
        previous: what has watched the end of the newest one.
        price: dollars an hour for an attempt whose price is not known; None to leave it out.
    """
    journals = found.journals
    seconds, dollars, open_ends = [], [], 0
    unpriced = []
    for journal, following in zip_longest(journals, journals[1:]):
        used, end_known = _seconds(journal, following, previous)
        hourly = journal.machine.hourly_price
        seconds.append(used)
        open_ends += not end_known
        if hourly is None:
            unpriced.append(journal.attempt)
        dollars.append(used / HOUR * (hourly if hourly is not None else price or 0.0))
    without = len(found.missing(newest)) + len(found.unreadable)
    return Usage(
        attempts=len(journals),
        seconds=math.fsum(seconds),
        dollars=math.fsum(dollars),
        unpriced=() if price is not None else tuple(unpriced),
        assumed=len(unpriced) if price is not None else 0,
        uncounted=open_ends + without,
    )


def _seconds(
    journal: Journal, following: Journal | None, previous: Previous | None
) -> tuple[float, bool]:
    """Return the seconds of an attempt's process, and whether they reach to its end."""
    span = span_of(journal, following, None)
    if following is None and not span.end_known:
        watched = watched_seconds(journal, previous)
        if watched is not None:
            return max(watched, span.recorded), True
    return span.seconds, span.end_known


def allowances(
    limits: Limits, usage: Usage, elapsed: float, price: float | None
) -> tuple[Allowance, ...]:
    """Return what is left of each limit, the one that is reached first at the beginning.

    Args:
        usage: of the earlier attempts.
        elapsed: seconds since the start of this attempt's process.
        price: of this attempt's machine, in dollars an hour; None without a limit of the cost.
    """
    seconds = usage.seconds + elapsed
    left = []
    if limits.max_hours is not None:
        used = f"{_number(seconds / HOUR)} h of {limits.max_hours:g} h"
        left.append(
            Allowance(f"--max-hours {limits.max_hours:g}", used, limits.max_hours * HOUR - seconds)
        )
    if limits.max_cost is not None:
        hourly = price or 0.0
        dollars = usage.dollars + elapsed / HOUR * hourly
        unused = limits.max_cost - dollars
        rest = unused / hourly * HOUR if hourly else math.copysign(math.inf, unused)
        used = f"${_number(dollars)} of ${limits.max_cost:g}"
        left.append(Allowance(f"--max-cost {limits.max_cost:g}", used, rest))
    counted = [replace(one, used=f"{one.used}{_extent(usage)}") for one in left]
    return tuple(sorted(counted, key=lambda one: one.seconds))


def _number(value: float) -> str:
    """Return an amount with two decimals, or with two digits if it is small."""
    return f"{value:.2f}" if value >= 0.1 or not value else f"{value:.2g}"


def _extent(usage: Usage) -> str:
    """Return over which attempts an amount was counted, and what is not in it."""
    number = usage.attempts + 1
    parts = [f", in {number} attempt{'s' if number > 1 else ''}"]
    if usage.uncounted:
        parts.append(
            f" (without the unrecorded time of {usage.uncounted} that were killed or have no "
            "journal)"
        )
    if usage.assumed:
        parts.append(f" ({usage.assumed} of them had no price, and count at --hourly-price)")
    return "".join(parts)


def attempts_text(numbers: Sequence[int]) -> str:
    """Return the numbers of attempts as text; a long list is cut."""
    shown = ", ".join(map(str, numbers[:5]))
    more = f" and {len(numbers) - 5} others" if len(numbers) > 5 else ""
    return f"attempt{'s' if len(numbers) > 1 else ''} {shown}{more}"
