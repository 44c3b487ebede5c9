"""The tables and the JSON document that `keepfit status` prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from rich.table import Table

from keepfit.callbacks.checkpoint.read.inspection import Summary
from keepfit.callbacks.journal.goodput_line import describe
from keepfit.infra.jobs.costs import CostReport
from keepfit.infra.jobs.endings import ORDINARY, Ending, explain
from keepfit.infra.jobs.lookup import Attempt, Job
from keepfit.infra.jobs.waiting import explain_wait
from keepfit.job.commands.tables import add_row, text_table
from keepfit.job.reports.data import Report
from keepfit.job.reports.tables import attempts_table, goodput_document

NO_JOB: Final = "AWS Batch has no job of this run any more"


def job_table(
    run: str, found: CostReport | None, report: Report | None, note: str, now: datetime
) -> Iterator[Table]:
    """Yield tables of a run's job, its attempts and its goodput.

    Args:
        found: the job; None if there is none, and `note` says why.
        report: the run as its store has it; None if it does not have it yet.
    """
    facts = text_table("run", run)
    if found:
        facts.add_row("job", found.job.id)
        facts.add_row("state", f"{found.job.status}  {_reason(found.job)}".strip())
    else:
        add_row(facts, "job", note)
    add_row(facts, "checkpoint", _checkpoint(report.run if report else None))
    if report and report.journals:
        add_row(facts, "goodput", describe(report.goodput).removeprefix("goodput "))
    if found:
        facts.add_row("cost so far", _cost(found))
        for gap in found.gaps:
            facts.add_row("", gap)
    yield facts
    if found and found.job.attempts:
        yield _attempts(found, now)
    elif report and report.journals:
        yield attempts_table(report)


def job_document(
    run: str, found: CostReport | None, report: Report | None, note: str
) -> dict[str, Any]:
    """Return the fields of `status RUN --json`."""
    stored = {
        "checkpoint": asdict(report.run) if report else None,
        "goodput": goodput_document(report.goodput) if report and report.journals else None,
        "note": note,
    }
    if found is None:
        return {"run": run, **stored}
    return {
        **asdict(found.job),
        "machines": {number: asdict(machine) for number, machine in found.ran_on.items()},
        "cost": {"so_far": found.so_far, "on_demand": found.on_demand, "unknown": found.gaps},
        **stored,
    }


def _attempts(found: CostReport, now: datetime) -> Table:
    table = text_table("attempt", "machine", "started", "duration", "exit code", "reason")
    for attempt in found.job.attempts:
        machine = found.ran_on.get(attempt.number)
        table.add_row(
            str(attempt.number),
            f"{machine.type} {machine.zone}" if machine else "",
            f"{attempt.began:%Y-%m-%d %H:%M:%S}" if attempt.began else "",
            _duration(attempt, now),
            "" if attempt.code is None else str(attempt.code),
            "running" if attempt.ended is None else attempt.explanation,
        )
    return table


def _reason(job: Job) -> str:
    """Return the reason of a job's state; that of its last attempt, if AWS says nothing of it."""
    if job.waits:
        return explain_wait(job)
    if job.status == "FAILED" and job.reason == ORDINARY and job.attempts:
        return job.attempts[-1].explanation
    return explain(Ending(None, status=job.reason))


def location(saved: Summary | None) -> str:
    """Return the position of the newest checkpoint as text."""
    if saved is None or saved.step is None:
        return "none"
    return f"epoch {saved.epoch}, batch {saved.batch} (step {saved.step})"


def _checkpoint(saved: Summary | None) -> str:
    if saved is None or saved.saved is None:
        return location(saved)
    return f"{location(saved)}, saved {saved.saved:%Y-%m-%d %H:%M:%S} UTC; {saved.state}"


def _cost(found: CostReport) -> str:
    if not found.job.attempts:
        return "nothing yet"
    if found.so_far is None:
        return "unknown"
    compared = f", on demand ${found.on_demand:.2f}" if found.on_demand is not None else ""
    return f"${found.so_far:.2f} for the machines{compared}"


def _duration(attempt: Attempt, now: datetime) -> str:
    if attempt.began is None:
        return ""
    return str((attempt.ended or now) - attempt.began).partition(".")[0]
