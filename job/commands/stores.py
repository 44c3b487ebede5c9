"""`keepfit ls`, `show`, `verify`, `export` and `prune`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from callbacks import events
from callbacks.errors import EXIT_MISFIT
from job.commands.options import AsJson, Run
from job.commands.reporting import fail, of_store

log = structlog.get_logger("keepfit")

NOT_SOUND = 1

StoreOption = Annotated[
    str | None, typer.Option("--store", help="Where the runs are. [default: KEEPFIT_STORE]")
]


def ls(
    store: Annotated[str | None, typer.Argument(help="[default: KEEPFIT_STORE]")] = None,
    json: AsJson = False,
) -> None:
    """List the runs of a store."""
    from callbacks.checkpoint import inspection
    from job.commands import tables

    with of_store():
        opened = _open(store)
        found = list(inspection.summaries(opened))
    tables.show(tables.as_json(found) if json else tables.of_runs(found, datetime.now(UTC)))


def show(run: Run, store: StoreOption = None, json: AsJson = False) -> None:
    """Show a run's checkpoints, and the history of its training."""
    from callbacks.checkpoint import inspection
    from job.commands import tables

    with of_store():
        opened = _open(store)
        summary = inspection.summary(opened, run)
        found = inspection.in_force(opened, run)
    if json:
        tables.show(tables.as_json(tables.for_programs(summary, found)))
        return
    now = datetime.now(UTC)
    tables.show(tables.of_runs([summary], now))
    tables.show(tables.of_checkpoints(found, now))
    tables.show(tables.of_history(found))


def verify(run: Run, store: StoreOption = None, json: AsJson = False) -> None:
    """Read every byte of a run's checkpoints, check every digest; exit code 1 if one is wrong."""
    from callbacks.checkpoint import inspection
    from job.commands import tables

    with of_store():
        found = inspection.verify(_open(store), run)
    tables.show(tables.as_json(found) if json else tables.of_findings(found))
    if any(finding.problem for finding in found):
        raise typer.Exit(NOT_SOUND)


def export(
    run: Run,
    to: Annotated[
        Path, typer.Option(help="A file that ends in .keras, .weights.h5 or .safetensors.")
    ],
    store: StoreOption = None,
) -> None:
    """Write a run's newest model to a file."""
    if not to.name.endswith((".keras", ".weights.h5", ".safetensors")):
        fail(f"a model is exported to .keras, .weights.h5 or .safetensors. Received: --to={to}")
    if not to.parent.is_dir():
        fail(f"there is no folder {str(to.parent)!r}")
    from job.commands import exporting

    with of_store():
        checkpoint = exporting.newest(_open(store), run)
        try:
            optimizer = exporting.export(checkpoint, to)
        except exporting.NotExportable as error:
            fail(f"{to}: {error}", EXIT_MISFIT)
    at = checkpoint.manifest.position
    log.info(events.EXPORTED, file=str(to), epoch=at.epoch + 1, step=at.step, optimizer=optimizer)


def prune(
    run: Annotated[str | None, typer.Argument(help="[default: all runs]")] = None,
    store: StoreOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    json: AsJson = False,
) -> None:
    """Delete what attempts before the newest have left behind; safe beside one that is alive."""
    from callbacks.checkpoint import inspection
    from job.commands import tables

    with of_store():
        opened = _open(store)
        names = [run] if run else [found.run for found in inspection.summaries(opened)]
        keys = [key for name in names for key in inspection.leftovers(opened, name)]
    if json:
        tables.show(tables.as_json(keys))
    elif keys:
        tables.show("\n".join(keys))
    if dry_run or not keys:
        return
    if not yes:
        typer.confirm(f"Delete these {len(keys)} objects?", abort=True, err=True)
    with of_store():
        for key in keys:
            opened.delete(key)
    log.info(events.PRUNED, objects=len(keys))


def register(app: typer.Typer) -> None:
    """Make them commands of `app`."""
    for command in (ls, show, verify, export, prune):
        app.command()(command)


def _open(store: str | None) -> Any:
    from callbacks.settings import Settings
    from callbacks.storage import open_store

    return open_store(Settings.resolve(store=store).store)
