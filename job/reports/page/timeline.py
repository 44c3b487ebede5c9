"""The timeline of a run: lines of equal duration, with the parts of the attempts in their order.

The position on the lines is the time of the run without the middle of long gaps, which would leave
no room for the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Final

from keepfit.callbacks.journal.document import Elapsed, Journal, Mark
from keepfit.callbacks.journal.goodput import AttemptGoodput, Goodput
from keepfit.callbacks.journal.kept import last_mark
from keepfit.callbacks.journal.terms import Activity, Reason
from keepfit.job.reports.texts import format_seconds, format_short, format_time

ATTEMPTS_PER_LINE: Final = 8
MAX_LINES: Final = 24
BINS: Final = 600
"""Resolution of a line: a bin has the colour of the part that took the most of its time."""

MARKS: Final = 100
"""Resolution of the marks of a line: of those of one kind, one is drawn in each hundredth."""

LONGEST_GAP: Final = 0.1
"""Longest drawn gap between two attempts, as a share of the time of all attempts."""

PARTS: Final = {Activity.TRAINING: "productive"}
"""The names of parts that differ from those of their activities."""

ENDS: Final = {
    Reason.FINISHED: "finished",
    Reason.PREEMPTED: "preempted",
    Reason.CANCELLED: "preempted",
    Reason.LIMIT: "preempted",
    Reason.KILLED: "killed",
}
"""The marks of the ends; others are errors."""

_ACTIVITIES: Final = tuple(Activity)
_ELAPSED: Final[Callable[[Elapsed], tuple[float, ...]]] = attrgetter(*_ACTIVITIES)


@dataclass(frozen=True)
class Segment:
    """A coloured piece of a line: a part of the time, from `start` for `width` of BINS bins."""

    part: str
    start: int
    width: int


@dataclass(frozen=True)
class LineMark:
    """A mark on a line: an attempt's start, a notice, an end, or a cut.

    Attributes:
        kind: "start", "notice", "cut", or one of the ends: "finished", "preempted", "killed",
            "failed".
        percent: its place on the line.
        text: what it says to a pointer; the label of a start.
    """

    kind: str
    percent: float
    text: str


@dataclass(frozen=True)
class Line:
    """A line of the timeline.

    Attributes:
        begins, ends: time of day of its first and its last moment.
        attempts: the numbers of its attempts: "3 to 7".
        saves: the bins in which there is a save.
    """

    begins: str
    ends: str
    attempts: str
    segments: tuple[Segment, ...]
    saves: tuple[int, ...]
    marks: tuple[LineMark, ...]


@dataclass(frozen=True)
class _Interval:
    part: str
    start: float
    end: float


@dataclass(frozen=True)
class _Placed:
    """An attempt on the axis: from `start` to `end`, followed by a gap as long as it is drawn.

    Attributes:
        gap: seconds from its end to the start of the next attempt.
        gap_end: where the drawn gap ends; `gap_part` is the part to which the gap belongs.
    """

    journal: Journal
    goodput: AttemptGoodput
    start: float
    end: float
    gap: float
    gap_end: float
    gap_part: str


def timeline(journals: Sequence[Journal], goodput: Goodput) -> tuple[Line, ...]:
    """Return the lines; none if no time is recorded."""
    placed = _place(journals, goodput)
    total = placed[-1].end if placed else 0.0
    if not total or not math.isfinite(total):
        return ()
    count = min(MAX_LINES, math.ceil(len(placed) / ATTEMPTS_PER_LINE))
    length = total / count
    bins = _paint(_intervals(placed), count * BINS, total)
    marks = list(_marks(placed))
    saves = {
        _bin(p.start + save.at, total, count * BINS) for p in placed for save in p.journal.saves
    }
    return tuple(
        _line(
            placed,
            (row * length, (row + 1) * length),
            bins[row * BINS : (row + 1) * BINS],
            tuple(sorted(s - row * BINS for s in saves if s // BINS == row)),
            marks,
        )
        for row in range(count)
    )


def _place(journals: Sequence[Journal], goodput: Goodput) -> list[_Placed]:
    """Put the attempts one after the other, with gaps that leave room for them."""
    if not journals:
        return []
    pairs = list(zip(journals, goodput.attempts, strict=True))
    lengths = [max(last_mark(journal).at, attempt.seconds) for journal, attempt in pairs]
    longest = LONGEST_GAP * math.fsum(lengths)
    gaps = [
        max(0.0, (after.started - before.started).total_seconds() - length)
        for (before, after), length in zip(pairwise(goodput.attempts), lengths, strict=False)
    ] + [0.0]
    waits = [attempt.parts.waiting for attempt in goodput.attempts[1:]] + [0.0]
    placed, at = [], 0.0
    for (journal, attempt), length, gap, waiting in zip(pairs, lengths, gaps, waits, strict=True):
        end = at + length
        part = "waiting" if waiting else "unknown"
        placed.append(_Placed(journal, attempt, at, end, gap, end + min(gap, longest), part))
        at = placed[-1].gap_end
    return placed


def _intervals(placed: Iterable[_Placed]) -> Iterator[_Interval]:
    """Yield the parts of the time in their order; pieces of one part that follow are one."""
    for one in placed:
        pieces = _pieces(one.journal, one.goodput.kept_step, one.end - one.start)
        at = one.start
        for part, group in groupby(pieces, key=lambda piece: piece[0]):
            seconds = math.fsum(seconds for _, seconds in group)
            yield _Interval(part, at, at + seconds)
            at += seconds
        yield _Interval(one.gap_part, one.end, one.gap_end)


def _pieces(journal: Journal, kept: int, seconds: float) -> Iterator[tuple[str, float]]:
    """Yield parts and seconds of an attempt, up to the end of its process.

    Between two marks, the activities are in the order of Activity.
    """
    final = last_mark(journal)
    marks: list[Mark] = [*journal.fits, *journal.saves, *journal.epochs, final]
    # A run may have 100,000 epochs, so the fields of Elapsed are read once.
    spans = sorted(((_ELAPSED(mark.elapsed), mark.step) for mark in marks), key=_total)
    before, step = _ELAPSED(Elapsed()), 0
    for elapsed, reached in spans:
        for activity, since, until in zip(_ACTIVITIES, before, elapsed, strict=True):
            if until > since:
                yield _part(activity, step, reached, kept), until - since
        before, step = elapsed, reached
    if seconds > final.at:
        yield "unknown", seconds - final.at


def _total(span: tuple[tuple[float, ...], int]) -> float:
    return math.fsum(span[0])


def _part(activity: Activity, before: int, step: int, kept: int) -> str:
    """Return the part to which the time between two steps belongs."""
    if activity not in (Activity.TRAINING, Activity.VALIDATION) or step <= kept:
        return PARTS.get(activity, activity.value)
    return "unknown" if before < kept else "retrained"


def _bin(at: float, total: float, bins: int) -> int:
    """Return the bin of a moment."""
    return max(0, min(bins - 1, int(at / total * bins)))


def _paint(intervals: Iterable[_Interval], bins: int, total: float) -> list[str]:
    """Return the part of each bin that took the most of its time; empty if there is none."""
    seconds: list[dict[str, float]] = [{} for _ in range(bins)]
    width = total / bins
    for one in intervals:
        first, last = _bin(one.start, total, bins), _bin(one.end, total, bins)
        for index in range(first, last + 1):
            left = one.start if index == first else index * width
            right = one.end if index == last else (index + 1) * width
            covered = right - left
            if covered > 0:
                seconds[index][one.part] = seconds[index].get(one.part, 0.0) + covered
    return [max(known, key=lambda part: known[part]) if known else "" for known in seconds]


def _marks(placed: Sequence[_Placed]) -> Iterator[tuple[float, str, str]]:
    """Yield place, kind and text of each mark."""
    for one in placed:
        number = one.journal.attempt
        yield one.start, "start", str(number)
        for notice in one.journal.notices:
            at = min(one.start + notice.at, one.end)
            yield at, "notice", f"attempt {number}: notice {notice.source}"
        if one.goodput.reason or one is not placed[-1]:
            yield one.end, *_end(one.goodput)
        if one.gap_end - one.end < one.gap * 0.999:
            text = f"{format_short(one.gap)} between the attempts, drawn shorter"
            yield (one.end + one.gap_end) / 2, "cut", text


def _end(attempt: AttemptGoodput) -> tuple[str, str]:
    """Return kind and text of the mark of an attempt's end."""
    reason = attempt.reason
    kind = "killed" if reason is None else ENDS.get(reason, "failed")
    duration = format_seconds(attempt.seconds)
    said = f"{reason or 'no record, so killed'} after {duration}"
    return kind, f"attempt {attempt.attempt}: {said}" + (
        f", {attempt.detail}" if attempt.detail and attempt.detail != reason else ""
    )


def _line(
    placed: Sequence[_Placed],
    span: tuple[float, float],
    bins: Sequence[str],
    saves: tuple[int, ...],
    marks: Iterable[tuple[float, str, str]],
) -> Line:
    """Return the line of a span of the axis."""
    start, end = span
    inside = [one for one in placed if one.start < end and one.end > start] or [
        max((one for one in placed if one.start <= start), key=lambda one: one.start)
    ]
    last = end >= placed[-1].end
    drawn: dict[tuple[str, int], LineMark] = {}
    for at, kind, text in marks:
        if start <= at < end or (last and at >= end):
            percent = min(100.0, (at - start) / (end - start) * 100)
            place = (kind, int(percent * MARKS / 100))
            drawn.setdefault(place, LineMark(kind, round(percent, 2), text[:200]))
    numbers = [one.journal.attempt for one in inside]
    begins, ends = _time(inside[0], start), _time(inside[-1], end)
    return Line(
        begins=begins,
        ends=ends.removeprefix(begins[:11]),  # without the day if it is the same
        attempts=f"{numbers[0]} to {numbers[-1]}" if numbers[1:] else str(numbers[0]),
        segments=tuple(_runs(bins)),
        saves=saves,
        marks=tuple(_spread_labels(drawn.values())),
    )


def _spread_labels(marks: Iterable[LineMark]) -> Iterator[LineMark]:
    """Yield the marks; the number of an attempt only where the one before leaves room."""
    free = -1.0
    for mark in marks:
        if mark.kind != "start":
            yield mark
        elif mark.percent >= free and mark.percent <= 97:
            free = mark.percent + 3 + 1.5 * len(mark.text)
            yield mark


def _runs(bins: Sequence[str]) -> Iterator[Segment]:
    """Yield a segment for each run of bins of the same part."""
    start = 0
    for part, group in groupby(bins):
        width = len(list(group))
        if part:
            yield Segment(part, start, width)
        start += width


def _time(one: _Placed, at: float) -> str:
    """Return the time of day at a place on the axis, counted from the start of an attempt."""
    started: datetime = one.goodput.started
    try:
        return format_time(
            started + timedelta(seconds=min(max(at - one.start, 0), one.end - one.start))
        )
    except OverflowError:  # a forged journal: the year 9999
        return format_time(started)
