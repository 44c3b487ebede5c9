"""The tables and the JSON document that `keepfit report` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.table import Table

from keepfit.callbacks.journal.document import Journal, Machine
from keepfit.callbacks.journal.goodput import AttemptGoodput, Goodput
from keepfit.callbacks.journal.goodput_line import LABELS, describe, dollars, rounded_shares
from keepfit.job.commands.tables import add_row, data_table, text_table
from keepfit.job.reports.data import Report


def report_tables(report: Report) -> Iterator[Table]:
    """Yield the tables of a report: facts, goodput, attempts, notes."""
    yield _facts(report)
    if report.journals:
        yield goodput_table(report.goodput)
        yield attempts_table(report)
    if report.notes:
        notes = text_table("notes")
        for note in report.notes:
            add_row(notes, note)
        yield notes


def _facts(report: Report) -> Table:
    run = report.run
    facts = text_table("run", run.run)
    add_row(facts, "state", f"{run.state}: {run.reason}" if run.reason else run.state)
    add_row(facts, "checkpoint", "none" if run.step is None else f"step {run.step}")
    add_row(facts, "attempts", str(run.attempts))
    line = describe(report.goodput) if report.journals else "unknown: no journal can be read"
    add_row(facts, "goodput", line.removeprefix("goodput "))
    return facts


def goodput_table(goodput: Goodput) -> Table:
    """Return a table with a row for each part of the time, in seconds and percent."""
    table = data_table("part", "seconds", "percent")
    tenths = rounded_shares(goodput.parts)
    for name, seconds in goodput.parts.seconds().items():
        add_row(table, LABELS[name], f"{seconds:.1f}", f"{tenths.get(name, 0) / 10:.1f}")
    add_row(table, "total", f"{goodput.parts.total:.1f}", f"{sum(tenths.values()) / 10:.1f}")
    return table


def attempts_table(report: Report) -> Table:
    """Return a table with a row for each attempt that has a journal."""
    table = data_table(
        "attempt", "machine", "started", "duration", "kept", "lost", "saves", "cost", "ended"
    )
    for journal, attempt in zip(report.journals, report.goodput.attempts, strict=True):
        add_row(
            table,
            str(attempt.attempt),
            describe_machine(journal.machine),
            format_time(attempt.started),
            format_seconds(attempt.seconds) + ("" if attempt.end_known else " +"),
            str(attempt.kept_steps),
            str(attempt.lost_steps),
            str(journal.save_count),
            "" if attempt.paid is None else dollars(attempt.paid),
            describe_end(attempt, journal, newest=journal is report.journals[-1]),
        )
    return table


def describe_machine(machine: Machine) -> str:
    """Return type, zone and price class of a machine, or its host name."""
    known = (machine.instance_type, machine.zone, machine.price_class)
    return " ".join(filter(None, known)) or machine.host or ""


def describe_end(attempt: AttemptGoodput, journal: Journal, *, newest: bool) -> str:
    """Return why an attempt ended, and its exit code, or what is known instead.

    Args:
        newest: no later attempt has a journal.
    """
    if attempt.reason is None:
        return "no record: running, or killed" if newest else "no record: killed"
    code = journal.end.exit_code if journal.end else None
    text = attempt.reason if code is None else f"{attempt.reason} ({code})"
    return f"{text}: {attempt.detail}" if attempt.detail else text


def format_time(moment: datetime) -> str:
    """Return a time of day in UTC."""
    try:
        return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    except OverflowError:  # a forged journal: the year 1 or 9999
        return moment.isoformat()


def format_seconds(seconds: float) -> str:
    """Return a duration as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))


def report_document(report: Report) -> dict[str, Any]:
    """Return the fields of `report --json`; docs/commands.md lists them."""
    return {
        "store": report.store,
        "run": asdict(report.run),
        "goodput": goodput_document(report.goodput),
        # JSON has no NaN and no infinity: the journals' own form has texts for them.
        "journals": [json.loads(journal.model_dump_json()) for journal in report.journals],
        "missing": report.missing,
        "unreadable": {str(number): reason for number, reason in report.unreadable.items()},
        "unlisted": report.unlisted,
        "left_out": report.left_out,
        "versions": dict(report.versions),
        "checkpoints": [asdict(checkpoint) for checkpoint in report.checkpoints],
        "problems": dict(report.problems),
        "notes": report.notes,
    }


def goodput_document(goodput: Goodput) -> dict[str, Any]:
    """Return goodput as JSON: seconds and shares by part, for the run and for each attempt."""
    return {
        "parts": goodput.parts.seconds(),
        "shares": goodput.parts.shares(),
        "total": goodput.parts.total,
        "overlap": goodput.overlap,
        "costs": asdict(goodput.costs),
        "attempts": [asdict(attempt) for attempt in goodput.attempts],
    }
