"""`keepfit report`: what became of the time of a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger
from keepfit.job.commands.failures import fail, store_errors_exit
from keepfit.job.commands.options import AsJson, Run, StoreOfRuns, open_runs

if TYPE_CHECKING:
    from keepfit.callbacks.storage.base import Store
    from keepfit.job.reports.data import Report

log = get_logger()

INTERRUPTED = 130


def report(
    run: Run,
    store: StoreOfRuns = None,
    json: AsJson = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the shares of the time for TensorBoard."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report as a page of HTML, with curves."),
    ] = None,
    prices: Annotated[
        bool,
        typer.Option("--prices", help="Ask AWS for the prices of machines that have none."),
    ] = False,
    serve: Annotated[
        bool, typer.Option("--serve", help="Show the page in a browser of this machine, live.")
    ] = False,
    port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="The port of --serve. [default: any free one]",
                     show_default=False),
    ] = 0,
) -> None:  # fmt: skip
    """Show what became of the time of a run: its goodput, its attempts, their costs."""
    from keepfit.job.commands.tables import as_json, show
    from keepfit.job.reports import data, tables

    if json and serve:
        fail("--json and --serve exclude each other")
    with store_errors_exit():
        opened = open_runs(store)
        found = data.read_report(opened, run)
    if prices:
        found = _with_prices(found)
    if tensorboard:
        _write_scalars(found, tensorboard)
    if to:
        _write_page(found, to)
    if json:
        show(as_json(tables.report_document(found)))
    elif serve:
        _serve(opened, found, port)
    elif not to:
        for table in tables.report_tables(found):
            show(table)


def _with_prices(found: Report) -> Report:
    """Return the report with the prices that AWS knows, and log why it does not know others."""
    from datetime import UTC, datetime

    from keepfit.job.reports.prices import with_prices

    priced, gaps = with_prices(found, datetime.now(UTC))
    if gaps:
        log.info(
            events.PRICE_UNKNOWN,
            reason="; ".join(gaps),
            fix="allow ec2:DescribeSpotPriceHistory and pricing:GetProducts",
        )
    return priced


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


def _write_page(found: Report, path: Path) -> None:
    """Write the page, or end the command with one line."""
    from keepfit.job.reports.page.render import page_of

    try:
        page = page_of(found)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            unfinished.write_bytes(page)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except (
        OSError,
        ValueError,
    ) as error:  # ValueError: "." names no file, or the page is too large
        fail(f"the page can't be written: {error}")
    log.info(events.REPORT_WRITTEN, file=str(path), size=len(page))


def _serve(store: Store, found: Report, port: int) -> None:
    """Serve the page until Ctrl-C."""
    from keepfit.job.reports.data import read_report
    from keepfit.job.reports.page.server import LiveReport, ReportServer

    live = LiveReport(lambda: read_report(store, found.run.run), found)
    try:
        server = ReportServer(live, port)
    except OSError as error:
        fail(f"port {port} can't be used: {error.strerror}; --port selects another one")
    with server:
        log.info(events.REPORT_SERVED, url=server.address, end="Ctrl-C")
        try:
            server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def register(app: typer.Typer) -> None:
    """Register this command with `app`."""
    app.command()(report)
