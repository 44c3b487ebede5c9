"""The contents of the page, made of a report within a budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median_high
from typing import Final

from keepfit.callbacks.journal.document import Journal, Save
from keepfit.callbacks.journal.goodput import AttemptGoodput
from keepfit.callbacks.journal.goodput_line import LABELS, describe, dollars, rounded_shares
from keepfit.callbacks.journal.terms import Reason
from keepfit.job.reports.data import Report
from keepfit.job.reports.overview import last_record
from keepfit.job.reports.page.contents import (
    AttemptRow,
    CheckpointRow,
    Cost,
    Figure,
    MetricRow,
    Page,
    PartRow,
    SaveRow,
)
from keepfit.job.reports.page.curves import (
    Epochs,
    Metric,
    borders,
    count_metrics,
    epochs_of,
    lost_steps,
    metrics_of,
    saves_chart,
)
from keepfit.job.reports.page.links import job_link, log_link
from keepfit.job.reports.page.timeline import BINS, timeline
from keepfit.job.reports.texts import (
    describe_machine,
    format_number,
    format_seconds,
    format_short,
    format_size,
    format_time,
)

MEANINGS: Final[Mapping[str, str]] = {
    "productive": "training whose steps were kept",
    "validation": "validation that was kept",
    "startup": "from the start of a process to the end of its first batch",
    "restore": "checkpoints read and restored",
    "saving": "training stood still for a save",
    "other": "the script's own work between fits and after them",
    "retrained": "steps that were lost and had to be trained again",
    "unknown": "after the last record of a killed attempt, or without a journal",
    "waiting": "no attempt was running",
}
"""What the parts of the time mean, by their names."""

MAX_DETAIL: Final = 300
"""Longest cause of an end in the table of attempts; the journal may have a longer one."""

MAX_NOTES: Final = 20


@dataclass(frozen=True)
class Budget:
    """The sizes of the parts of a page: values in its charts, rows of a table, metrics."""

    values: int = 60_000
    rows: int = 500
    metrics: int = 100

    def half(self) -> Budget:
        """Return a budget of half the size."""
        return Budget(self.values // 2, max(1, self.rows // 2), max(1, self.metrics // 2))


def page_model(report: Report, budget: Budget) -> Page:
    """Return what the page of a report shows, within a budget."""
    goodput = report.goodput
    seen = last_record(report.journals)
    epochs = epochs_of(report)
    metrics = metrics_of(epochs, budget.values * 3 // 4, budget.metrics)
    saves = [save for journal in report.journals for save in journal.saves]
    return Page(
        run=report.run.run,
        state=report.run.state,
        reason=report.run.reason,
        store=report.store,
        as_of=format_time(seen) if seen else None,
        versions=", ".join(f"{name} {version}" for name, version in report.versions.items()),
        goodput=describe(goodput) if report.journals else "",
        figures=tuple(_figures(report)),
        lines=timeline(report.journals, goodput),
        bins=BINS,
        parts=tuple(_parts(report)),
        total=format_short(goodput.parts.total),
        cost=_cost(report),
        metrics=metrics,
        summary=tuple(_summary(metrics)),
        save_rows=tuple(_save_rows(saves)),
        checkpoints=tuple(_checkpoints(report))[: budget.rows],
        attempts=tuple(_attempts(report))[: budget.rows],
        notes=_cut(report.notes, MAX_NOTES),
        remarks={
            "metrics": tuple(_metric_remarks(epochs, metrics)),
            "attempts": tuple(_attempt_remarks(report, budget)),
            "saves": tuple(_save_remarks(report, saves)),
        },
        charts={
            "metrics": [
                {"name": metric.name, "names": metric.names, **metric.chart} for metric in metrics
            ],
            "borders": borders(report),
            "bands": lost_steps(report),
            "saves": saves_chart(saves, budget.values // 8),
        },
    )


def _figures(report: Report) -> Iterator[Figure]:
    """Yield the key figures. One that is not known says so."""
    goodput, run = report.goodput, report.run
    tenths = rounded_shares(goodput.parts)
    share = f"{tenths['productive'] / 10:.1f} %" if tenths else "unknown"
    yield Figure("Goodput", share, f"of {format_short(goodput.parts.total)}" if tenths else "")
    step = f"{run.step:,}" if run.step is not None else "none"
    where = f"epoch {run.epoch}, batch {run.batch}" if run.epoch is not None else ""
    yield Figure("Checkpoint at step", step, where)
    ends = [attempt.reason for attempt in goodput.attempts[:-1]]
    killed = sum(reason in (None, Reason.KILLED) for reason in ends)
    preempted = sum(reason is Reason.PREEMPTED for reason in ends)
    causes = [f"{killed} killed"] * bool(killed) + [f"{preempted} preempted"] * bool(preempted)
    yield Figure("Attempts", f"{run.attempts or len(goodput.attempts):,}", ", ".join(causes))
    lost = sum(attempt.lost_steps for attempt in goodput.attempts)
    again = format_short(goodput.parts.retrained)
    more = any(attempt.parts.unknown for attempt in goodput.attempts)
    known = _at_least(f"{lost:,}", more=more) if report.journals else "unknown"
    yield Figure("Steps lost", known, f"{again} of training" if report.journals else "")
    costs = goodput.costs
    if costs.paid is None:
        yield Figure("Cost", "unknown", "no price is known")
    else:
        compared = "" if costs.on_demand is None else f"{dollars(costs.on_demand)} on demand"
        yield Figure("Cost", dollars(costs.paid), compared)


def _at_least(text: str, *, more: bool) -> str:
    """Return a number that may be larger than what is recorded."""
    return f"≥ {text}" if more else text


def _parts(report: Report) -> Iterator[PartRow]:
    """Yield the parts that have any time, in the order of Parts."""
    tenths = rounded_shares(report.goodput.parts)
    for name, seconds in report.goodput.parts.seconds().items():
        if seconds or name == "productive":
            yield PartRow(
                name,
                LABELS[name],
                tenths.get(name, 0) / 10,
                format_short(seconds),
                MEANINGS[name],
            )


def _cost(report: Report) -> Cost | None:
    """Return the costs; None if no price is known."""
    costs = report.goodput.costs
    if costs.paid is None:
        return None
    if costs.on_demand is None:
        return Cost(dollars(costs.paid), None, None, 100.0, 0.0)
    largest = max(costs.paid, costs.on_demand) or 1.0
    saved = 1 - costs.paid / costs.on_demand if costs.on_demand else 0.0
    return Cost(
        paid=dollars(costs.paid),
        on_demand=dollars(costs.on_demand),
        saved=f"{saved:.0%}".replace("%", " %") if saved > 0 else None,
        paid_width=round(costs.paid / largest * 100, 1),
        on_demand_width=round(costs.on_demand / largest * 100, 1),
    )


def _summary(metrics: Sequence[Metric]) -> Iterator[MetricRow]:
    """Yield the text that stands for the curves."""
    for metric in metrics:
        for name in metric.names:
            points = metric.series[name]
            if points:
                low = min(points, key=lambda point: point[1])
                high = max(points, key=lambda point: point[1])
                yield MetricRow(name, *(_at(*point) for point in (points[-1], low, high)))
            else:
                yield MetricRow(name, "no finite value", "", "")


def _at(step: int, value: float) -> str:
    return f"{format_number(value)} at step {step:,}"


def _metric_remarks(epochs: Epochs, metrics: Sequence[Metric]) -> Iterator[str]:
    """Yield what the curves leave out."""
    if epochs.recorded > epochs.known:
        yield f"The journals have {epochs.known:,} of {epochs.recorded:,} epochs."
    thinned = [metric for metric in metrics if metric.drawn < metric.points]
    if thinned:
        most = max(thinned, key=lambda metric: metric.points)
        yield (
            f"Curves are thinned: {most.drawn:,} of {most.points:,} points are drawn, the lowest "
            "and the highest of each stretch."
        )
    if (count := count_metrics(epochs)) > len(metrics):
        yield f"{count - len(metrics)} more metrics are not shown."
    if unfinite := sum(metric.unfinite for metric in metrics):
        yield f"{unfinite:,} values are NaN or infinite, and leave gaps."
    if metrics and epochs.gone:
        yield f"{epochs.gone:,} epochs were lost and trained again; their curves are dashed."


def _save_rows(saves: Sequence[Save]) -> Iterator[SaveRow]:
    """Yield median, highest and sum of what the saves took."""
    if not saves:
        return
    seconds = [save.seconds for save in saves]
    stalls = [save.stall for save in saves]
    sizes = [float(save.size) for save in saves]
    yield SaveRow(
        "until durable", format_short(median_high(seconds)), format_short(max(seconds)),
        format_short(math.fsum(seconds)),
    )  # fmt: skip
    yield SaveRow(
        "training stalled", format_short(median_high(stalls)), format_short(max(stalls)),
        format_short(math.fsum(stalls)),
    )  # fmt: skip
    yield SaveRow("size", format_size(median_high(sizes)), format_size(max(sizes)), "")


def _save_remarks(report: Report, saves: Sequence[Save]) -> Iterator[str]:
    """Yield what the statistics of the saves leave out."""
    count = sum(journal.save_count for journal in report.journals)
    if count > len(saves):
        yield f"The journals have {len(saves):,} of {count:,} saves."


def _checkpoints(report: Report) -> Iterator[CheckpointRow]:
    for one in report.checkpoints:
        yield CheckpointRow(
            step=f"{one.step:,}",
            position=f"epoch {one.epoch}, batch {one.batch}"
            + (f", fit {one.fit}" if one.fit > 1 else ""),
            created=format_time(one.created) if one.created else "unknown",
            size=format_size(one.size),
            attempt=one.attempt,
            final=one.final,
        )


def _attempts(report: Report) -> Iterator[AttemptRow]:
    """Yield the rows of the attempts, the newest first."""
    pairs = list(zip(report.journals, report.goodput.attempts, strict=True))
    for journal, attempt in reversed(pairs):
        yield _attempt(journal, attempt, newest=journal is report.journals[-1])


def _attempt(journal: Journal, attempt: AttemptGoodput, *, newest: bool) -> AttemptRow:
    state, reason = _ended(journal, attempt, newest=newest)
    detail = attempt.detail if attempt.detail != reason else ""
    return AttemptRow(
        number=attempt.attempt,
        started=format_time(attempt.started),
        duration=_at_least(format_seconds(attempt.seconds), more=not attempt.end_known),
        machine=describe_machine(journal.machine),
        kept=f"{attempt.kept_steps:,}",
        lost=_at_least(f"{attempt.lost_steps:,}", more=bool(attempt.parts.unknown)),
        saves=f"{journal.save_count:,}",
        notices=", ".join(dict.fromkeys(notice.source for notice in journal.notices)),
        cost="" if attempt.paid is None else dollars(attempt.paid),
        state=state,
        reason=reason,
        detail=detail if len(detail) <= MAX_DETAIL else f"{detail[:MAX_DETAIL]}…",
        log=log_link(journal.machine),
        job=job_link(journal.machine),
    )


def _ended(journal: Journal, attempt: AttemptGoodput, *, newest: bool) -> tuple[str, str]:
    """Return the colour and the text of an attempt's end."""
    reason = attempt.reason
    if reason is None:
        return ("open", "running, or killed") if newest else ("killed", "killed, no record")
    states = {
        Reason.FINISHED: "finished",
        Reason.KILLED: "killed",
        Reason.PREEMPTED: "preempted",
        Reason.LIMIT: "preempted",
    }
    code = journal.end.exit_code if journal.end else None
    text = reason.value if not code else f"{reason.value} (exit {code})"
    return states.get(reason, "failed"), text


def _attempt_remarks(report: Report, budget: Budget) -> Iterator[str]:
    """Yield what the table of attempts leaves out."""
    if len(report.journals) > budget.rows:
        yield (
            f"The newest {budget.rows} of {len(report.journals):,} attempts; "
            "`keepfit report --json` has all."
        )


def _cut(notes: Sequence[str], most: int) -> tuple[str, ...]:
    """Return the first notes, and how many there are beyond them."""
    more = len(notes) - most
    return (*notes[:most], *([f"{more} more notes are not shown"] if more > 0 else ()))
