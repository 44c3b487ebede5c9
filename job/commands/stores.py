"""`keepfit ls`, `show`, `verify`, `export` and `prune`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keepfit.callbacks import events
from keepfit.callbacks.errors import EXIT_REFUSED
from keepfit.callbacks.logs.logger import get_logger
from keepfit.job.commands.completion import complete_run
from keepfit.job.commands.failures import fail, store_errors_exit
from keepfit.job.commands.options import AsJson, Run, StoreOfRuns, open_runs

if TYPE_CHECKING:
    from keepfit.callbacks.checkpoint.read.history import History
    from keepfit.callbacks.checkpoint.read.inspection import CommittedState
    from keepfit.callbacks.storage.base import Store

log = get_logger()

VERIFY_FAILED = 1


def ls(
    store: Annotated[str | None, typer.Argument(help="[default: KEEPFIT_STORE]")] = None,
    json: AsJson = False,
) -> None:
    """List the runs of a store."""
    from keepfit.callbacks.checkpoint.read import inspection
    from keepfit.job.commands import tables

    with store_errors_exit():
        opened = open_runs(store)
        found = list(inspection.summarize_all(opened))
    tables.show(tables.as_json(found) if json else tables.runs_table(found, datetime.now(UTC)))


def show(run: Run, store: StoreOfRuns = None, json: AsJson = False) -> None:
    """Show a run's checkpoints and the history of its training."""
    from keepfit.callbacks.checkpoint.read import inspection
    from keepfit.job.commands import tables

    with store_errors_exit():
        opened = open_runs(store)
        summary = inspection.summarize(opened, run)
        found = inspection.read_committed(opened, run)
        history = _history(opened, found)
    if json:
        tables.show(tables.as_json(tables.run_document(summary, found, history)))
        return
    now = datetime.now(UTC)
    tables.show(tables.runs_table([summary], now))
    tables.show(tables.checkpoints_table(found, now))
    if history:
        tables.show(tables.history_table(history))


def verify(run: Run, store: StoreOfRuns = None, json: AsJson = False) -> None:
    """Read all of a run's checkpoints and check every digest; exit code 1 if one is wrong."""
    from keepfit.callbacks.checkpoint.read import inspection
    from keepfit.job.commands import tables

    with store_errors_exit():
        found = inspection.verify(open_runs(store), run)
    tables.show(tables.as_json(found) if json else tables.verification_table(found))
    if any(finding.problem for finding in found):
        raise typer.Exit(VERIFY_FAILED)


def export(
    run: Run,
    to: Annotated[
        Path, typer.Option(help="A file that ends in .keras, .weights.h5 or .safetensors.")
    ],
    store: StoreOfRuns = None,
) -> None:
    """Write a run's newest model to a file."""
    if not to.name.endswith((".keras", ".weights.h5", ".safetensors")):
        fail(f"a model is exported to .keras, .weights.h5 or .safetensors. Received: --to={to}")
    if not to.parent.is_dir():
        fail(f"there is no folder {str(to.parent)!r}")
    from keepfit.job.commands import model_export

    with store_errors_exit():
        checkpoint = model_export.read_newest(open_runs(store), run)
        try:
            optimizer = model_export.export_model(checkpoint, to)
        except model_export.NotExportable as error:
            fail(f"{to}: {error}", EXIT_REFUSED)
    at = checkpoint.manifest.position
    log.info(events.EXPORTED, file=str(to), epoch=at.epoch + 1, step=at.step, optimizer=optimizer)


def prune(
    run: Annotated[
        str | None, typer.Argument(help="[default: all runs]", autocompletion=complete_run)
    ] = None,
    store: StoreOfRuns = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be deleted.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation.")] = False,
    json: AsJson = False,
) -> None:
    """Delete unused objects of earlier attempts; safe while the newest attempt is running.

    A damaged run is named and left alone, the others are pruned; the exit code is 78 then.
    """
    from keepfit.job.commands import tables

    with store_errors_exit():
        opened = open_runs(store)
        keys, damaged = _orphans(opened, run)
    if json:
        tables.show(tables.as_json(keys))
    elif keys:
        tables.show("\n".join(keys))
    if keys and not dry_run:
        if not yes:
            typer.confirm(f"Delete these {len(keys)} objects?", abort=True, err=True)
        with store_errors_exit():
            for key in keys:
                opened.delete(key)
        log.info(events.PRUNED, objects=len(keys))
    for name, reason in damaged.items():
        log.error(events.PRUNE_FAILED, run=name, reason=reason)
    if damaged:
        raise typer.Exit(EXIT_REFUSED)


def _orphans(store: Store, run: str | None) -> tuple[list[str], dict[str, str]]:
    """Return the keys to delete, and of each damaged run why none of its objects is.

    Args:
        run: the only run to look at; None for all.

    Raises:
        NoSuchRun, RunMoved: `run` is not the name of a run.
        StorageError: the store does not answer.
    """
    from keepfit.callbacks.checkpoint.read import inspection
    from keepfit.callbacks.storage.base import StorageError, Transient

    if run:
        return inspection.find_orphans(store, run), {}
    keys: list[str] = []
    damaged = {}
    for name in store.folders(""):
        try:
            keys += inspection.find_orphans(store, name)
        except (inspection.NoSuchRun, inspection.RunMoved):
            continue
        except Transient:
            raise
        except StorageError as error:
            damaged[name] = str(error)
    return keys, damaged


def register(app: typer.Typer) -> None:
    """Register these commands with `app`."""
    for command in (ls, show, verify, export, prune):
        app.command()(command)


def _history(store: Store, found: CommittedState) -> History | None:
    """Return the history of the newest checkpoint; None, with a log line, if it can't be read."""
    from keepfit.callbacks.checkpoint.read.history import read_history
    from keepfit.callbacks.storage.base import Damaged, NotFound

    try:
        return read_history(store, found.newest) if found.newest else None
    except (NotFound, Damaged) as error:
        log.warning(events.CHECKPOINT_REJECTED, reason=str(error))
        return None
