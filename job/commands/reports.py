"""`keepfit report`: what became of the time of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger
from keepfit.job.commands.failures import fail, store_errors_exit
from keepfit.job.commands.options import AsJson, Run, StoreOfRuns, open_runs

if TYPE_CHECKING:
    from keepfit.job.reports.data import Report

log = get_logger()


def report(
    run: Run,
    store: StoreOfRuns = None,
    json: AsJson = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the shares of the time for TensorBoard."),
    ] = None,
) -> None:
    """Show what became of the time of a run: its goodput, its attempts, their costs."""
    from keepfit.job.commands.tables import as_json, show
    from keepfit.job.reports import data, tables

    with store_errors_exit():
        found = data.read_report(open_runs(store), run)
    if tensorboard:
        _write_scalars(found, tensorboard)
    if json:
        show(as_json(tables.report_document(found)))
        return
    for table in tables.report_tables(found):
        show(table)


def _write_scalars(found: Report, folder: Path) -> None:
    """Write the event file, or end the command with one line."""
    from keepfit.job.reports.scalars import write_scalars

    if not found.journals:
        fail(f"run {found.run.run!r} has no journal, so there is nothing for TensorBoard")
    try:
        path = write_scalars(found, folder)
    except OSError as error:
        fail(f"the event file can't be written: {error}")
    log.info(events.SCALARS_WRITTEN, file=str(path), attempts=len(found.journals))


def register(app: typer.Typer) -> None:
    """Register this command with `app`."""
    app.command()(report)
