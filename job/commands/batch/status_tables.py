"""The table and the JSON document of `keepfit status` without a name."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from rich.table import Table

from keepfit.callbacks.journal.goodput_line import rounded_shares
from keepfit.job.commands.tables import add_row, data_table, format_age
from keepfit.job.reports.overview import Overview, RunStatus
from keepfit.job.reports.tables import goodput_document


def overview_table(found: Overview, now: datetime) -> Table:
    """Return a table with a row for each run."""
    table = data_table("run", "state", "step", "attempts", "goodput", "last seen")
    for run in found.runs:
        add_row(
            table,
            run.run,
            _state(run),
            "" if run.step is None else str(run.step),
            str(run.attempts),
            _goodput(run),
            format_age(now - run.last_seen) if run.last_seen else "",
        )
    return table


def overview_document(found: Overview, note: str) -> dict[str, Any]:
    """Return the fields of `status --json` without a name; docs/commands.md lists them."""
    runs = [
        {
            "run": run.run,
            "state": run.state,
            "reason": run.reason,
            "job": asdict(run.job) if run.job else None,
            "step": run.step,
            "attempts": run.attempts,
            "goodput": goodput_document(run.goodput) if run.goodput else None,
            "last_seen": run.last_seen,
        }
        for run in found.runs
    ]
    return {"store": found.store, "runs": runs, "left_out": found.left_out, "note": note}


def _state(run: RunStatus) -> str:
    state = ", ".join(filter(None, (run.job.status if run.job else "", run.state)))
    return f"{state}: {run.reason}" if run.reason else state


def _goodput(run: RunStatus) -> str:
    tenths = rounded_shares(run.goodput.parts) if run.goodput else {}
    return f"{tenths['productive'] / 10:.1f} %" if tenths else ""
