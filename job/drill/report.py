"""The result of a drill: a table for people, one JSON document for programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.table import Table

from keepfit.callbacks.logs.printable import printable
from keepfit.job.drill.rehearsal import Report, Result, Row

Mask = Callable[[str], str]


def table_of(report: Report, mask: Mask) -> Table:
    """Return a table with a row for each moment."""
    table = Table("moment", "where", "result", box=None, pad_edge=False)
    for row in report.rows:
        shown = row.detail if row.result is Result.ABSENT else row.place
        table.add_row(*(printable(mask(text)) for text in (row.moment, shown, row.result)))
    return table


def text_of(report: Report, mask: Mask) -> str:
    """Return the lines below the table: the conclusion, what differs first, and why."""
    compared = f", compared at {report.until}" if report.until else ""
    lines = [f"{report.conclusion}{compared}"]
    for row in report.rows:
        if row.result in (Result.DIFFERS, Result.FAILED):
            lines += [f"{name}: {text}" for name, text in _explanations(row) if text]
            break
    return "\n".join(printable(mask(line)) for line in lines)


def document_of(report: Report, mask: Mask) -> dict[str, Any]:
    """Return the fields of `drill --json`."""
    return {
        "identical": report.identical,
        "reproducible": report.reproducible,
        "conclusion": report.conclusion,
        "until": report.until or None,
        "moments": [
            {
                "moment": row.moment,
                "result": row.result,
                **{name: mask(text) for name, text in _fields(row) if text},
            }
            for row in report.rows
        ],
        "differences": [
            {
                "what": each.what,
                "names": [mask(name) for name in each.names],
                "fit": None if each.fit is None else each.fit + 1,
                "epoch": None if each.epoch is None else each.epoch + 1,
                "detail": mask(each.detail),
            }
            for each in report.first
        ],
    }


def _explanations(row: Row) -> list[tuple[str, str]]:
    at = f" ({row.moment})" if row.place else ""
    return [
        (f"first difference{at}" if row.result is Result.DIFFERS else row.moment, row.detail),
        ("probable cause", row.cause),
        ("its files", row.folder),
    ]


def _fields(row: Row) -> list[tuple[str, str]]:
    return [
        ("where", row.place),
        ("detail", row.detail),
        ("cause", row.cause),
        ("folder", row.folder),
    ]
