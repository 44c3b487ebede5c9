"""The curves of a report: its metrics and its saves over the steps, thinned to fit the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from keepfit.callbacks.journal.document import Epoch, Save
from keepfit.job.reports.data import Report

VALIDATION: Final = "val_"
"""The start of the names that Keras gives to metrics of validation data."""

MAX_BORDERS: Final = 1000
"""Largest number of attempts whose borders are drawn."""

LOST_SHARE: Final = 0.25
"""Largest share of the points of a chart that lost epochs may take."""


@dataclass(frozen=True)
class Point:
    """The metrics of an epoch, at its step."""

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Epochs:
    """The epochs of a run.

    Attributes:
        kept: those that count, by rising steps.
        lost: those that were trained again later, in runs; each begins with the epoch before it,
            if that was kept.
        gone: number of lost epochs.
        recorded: number of epochs that have ended, those included that the journals left out.
        known: number of epochs that the journals have.
    """

    kept: tuple[Point, ...]
    lost: tuple[tuple[Point, ...], ...]
    gone: int
    recorded: int
    known: int


@dataclass(frozen=True)
class Metric:
    """A metric and its twin for validation data, in one chart.

    Attributes:
        names: one or two names; the second, or the only one, may begin with "val_".
        drawn, points: number of kept epochs that are drawn, and of all.
        unfinite: number of values that are NaN or infinite, and can't be drawn.
        series: the kept values by name, for the summary: finite ones with their steps.
        chart: columns for the chart.
    """

    name: str
    names: tuple[str, ...]
    drawn: int
    points: int
    unfinite: int
    series: Mapping[str, Sequence[tuple[int, float]]]
    chart: Mapping[str, Any]


def epochs_of(report: Report) -> Epochs:
    """Return the epochs of all attempts, those apart that were lost."""
    kept: dict[int, Point] = {}
    lost: list[tuple[Point, ...]] = []
    count = 0
    for journal, attempt in zip(report.journals, report.goodput.attempts, strict=True):
        before: tuple[Point, ...] = ()
        gone: list[Point] = []
        for epoch in journal.epochs:
            point = _point(epoch)
            if epoch.step <= attempt.kept_step:
                kept[epoch.step] = point
                before = (point,)
            else:
                gone.append(point)
        if gone:
            lost.append((*before, *gone))
            count += len(gone)
    return Epochs(
        kept=tuple(kept[step] for step in sorted(kept)),
        lost=tuple(lost),
        gone=count,
        recorded=sum(journal.epoch_count for journal in report.journals),
        known=sum(len(journal.epochs) for journal in report.journals),
    )


def _point(epoch: Epoch) -> Point:
    return Point(epoch.step, epoch.metrics)


def metrics_of(epochs: Epochs, values: int, at_most: int) -> tuple[Metric, ...]:
    """Return the metrics in the order of their first appearance.

    Args:
        values: number of values that all charts together may have.
        at_most: largest number of charts.
    """
    groups = _groups(epochs)[:at_most]
    if not groups:
        return ()
    share = values // len(groups)
    return tuple(_metric(name, names, epochs, share) for name, names in groups)


def count_metrics(epochs: Epochs) -> int:
    """Return the number of charts that all metrics need."""
    return len(_groups(epochs))


def _groups(epochs: Epochs) -> list[tuple[str, tuple[str, ...]]]:
    """Return the metrics with their names: that of the training data first."""
    seen: dict[str, None] = {}
    for points in (epochs.kept, *epochs.lost):
        for point in points:
            seen.update(dict.fromkeys(point.metrics))
    groups: dict[str, list[str]] = {}
    for name in sorted(seen, key=lambda name: name.startswith(VALIDATION)):
        base = name.removeprefix(VALIDATION)
        groups.setdefault(base if base in seen else name, []).append(name)
    order = {name: place for place, name in enumerate(seen)}
    ranked = sorted(groups.items(), key=lambda item: min(order[name] for name in item[1]))
    return [(name, tuple(names)) for name, names in ranked]


def _metric(name: str, names: tuple[str, ...], epochs: Epochs, values: int) -> Metric:
    points = [point for point in epochs.kept if any(one in point.metrics for one in names)]
    columns = [[_finite(point.metrics.get(one)) for point in points] for one in names]
    steps = [point.step for point in points]
    lost = [
        [point for point in run if any(one in point.metrics for one in names)]
        for run in epochs.lost
    ]
    lost = [run for run in lost if run]
    room = values // (len(names) + 1)
    for_lost = int(room * LOST_SHARE) if lost else 0
    chosen = thin(columns, room - for_lost)
    each = max(2, for_lost // len(lost)) if lost else 0
    allowed = lost[-max(1, for_lost // each) :] if lost else []
    unfinite = sum(
        one in point.metrics and not math.isfinite(point.metrics[one])
        for point in points
        for one in names
    )
    return Metric(
        name=name,
        names=names,
        drawn=len(chosen),
        points=len(points),
        unfinite=unfinite,
        series={
            one: [(s, v) for s, v in zip(steps, column, strict=True) if v is not None]
            for one, column in zip(names, columns, strict=True)
        },
        chart={
            "x": [steps[index] for index in chosen],
            "y": [[column[index] for index in chosen] for column in columns],
            "lost": [_lost(run, names, each) for run in allowed],
        },
    )


def _lost(run: Sequence[Point], names: tuple[str, ...], room: int) -> Mapping[str, Any]:
    columns = [[_finite(point.metrics.get(one)) for point in run] for one in names]
    chosen = thin(columns, room)
    return {
        "x": [run[index].step for index in chosen],
        "y": [[column[index] for index in chosen] for column in columns],
    }


def saves_chart(saves: Sequence[Save], values: int) -> Mapping[str, Any]:
    """Return the columns of the chart of the saves: seconds of a save, and of its stall."""
    ordered = sorted(saves, key=lambda save: save.step)
    columns = [[save.seconds for save in ordered], [save.stall for save in ordered]]
    chosen = thin(columns, values // 3)
    return {
        "x": [ordered[index].step for index in chosen],
        "y": [[_finite(column[index]) for index in chosen] for column in columns],
    }


def borders(report: Report) -> list[tuple[int, int]]:
    """Return the step and the number of each attempt that has trained, except the first one."""
    trained = [
        (attempt.first_step, attempt.attempt)
        for attempt, journal in zip(report.goodput.attempts, report.journals, strict=True)
        if journal.fits
    ]
    return trained[1:][-MAX_BORDERS:]


def lost_steps(report: Report) -> list[tuple[int, int]]:
    """Return the ranges of steps that attempts have lost."""
    attempts = report.goodput.attempts
    ranges = [(one.last_step - one.lost_steps, one.last_step) for one in attempts if one.lost_steps]
    return ranges[-MAX_BORDERS:]


def thin(columns: Sequence[Sequence[float | None]], room: int) -> list[int]:
    """Return the indexes of the points to draw: the lowest and highest of each stretch.

    Args:
        room: number of points to draw; at least the ends and the extremes of the whole are drawn.
    """
    count = len(columns[0])
    if count <= max(room, 2):
        return list(range(count))
    stretches = max(1, (room - 2) // (2 * len(columns)))
    chosen = {0, count - 1}
    for stretch in range(stretches):
        indexes = range(stretch * count // stretches, (stretch + 1) * count // stretches)
        for column in columns:
            chosen.update(_extremes(indexes, column))
    return sorted(chosen)


def _extremes(indexes: Iterable[int], column: Sequence[float | None]) -> set[int]:
    """Return the indexes of the lowest and the highest of the known values."""
    known = [(value, index) for index in indexes if (value := column[index]) is not None]
    return {min(known)[1], max(known)[1]} if known else set()


def _finite(value: float | None) -> float | None:
    """Return a value with six digits; None if it can't be drawn."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
