"""`keepfit drill`: kill a script on purpose, and compare the result with an uninterrupted run."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Collection
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from keepfit.callbacks.errors import EXIT_REFUSED, ConfigurationError
from keepfit.callbacks.masking import mask_known_of
from keepfit.job.commands import tables
from keepfit.job.commands.failures import fail
from keepfit.job.commands.options import AsJson, Exact, OnlyExplicit, SaveEvery
from keepfit.job.drill.attempts import Runner, Setting
from keepfit.job.drill.folders import NotBelow, Project, TooLarge, linked_paths
from keepfit.job.drill.instructions import Limit, Program, parse_limit
from keepfit.job.drill.moments import Kind
from keepfit.job.drill.rehearsal import CannotDrill, Rehearsal, Report
from keepfit.job.drill.report import document_of, table_of, text_of

EXIT_DIFFERS, EXIT_INTERRUPTED = 1, 128 + signal.SIGINT


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(context_settings={"allow_interspersed_args": False})(drill)


def drill(
    script: Annotated[str, typer.Argument(help="A Keras script, or with -m a module.")],
    args: Annotated[list[str] | None, typer.Argument(help="Arguments of the script.")] = None,
    module: Annotated[
        bool, typer.Option("--module", "-m", help="Run module SCRIPT, as `python -m` would.")
    ] = False,
    until: Annotated[
        str | None,
        typer.Option(help='Compare at "200 batches" or "3 epochs". [default: the end]'),
    ] = None,
    at: Annotated[
        list[Kind] | None, typer.Option(help="Interrupt it there only. Repeatable. [default: all]")
    ] = None,
    save_every: SaveEvery = None,
    not_deterministic: Annotated[
        bool,
        typer.Option("--no-deterministic", help="Run without --deterministic, which drills use."),
    ] = False,
    exact: Exact = False,
    only_explicit: OnlyExplicit = False,
    link: Annotated[
        list[Path] | None,
        typer.Option(help="Data that is only read: linked in place of copied. Repeatable."),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help='Files that are not compared: "*.log". Repeatable.'),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folders of the runs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Kill SCRIPT at chosen moments, and compare its results with uninterrupted runs.

    It runs in temporary copies of the current folder, with stores of their own. Exit codes: 0 the
    results are identical; 1 they differ, or the script is not reproducible; 78 it can't be drilled.
    """
    options = [
        *(["--save-every", save_every] if save_every else []),
        *(["--exact"] if exact else []),
        *(["--only-explicit"] if only_explicit else []),
    ]
    project = _project(link or [])
    program = Program(
        script if module else _script(project, script),
        tuple(args or []),
        module,
        not not_deterministic,
        tuple(options),
    )
    base = Path(tempfile.mkdtemp(prefix="keepfit-drill-")).resolve()
    kept = keep
    try:
        setting = Setting(
            base, project, program, os.environ, _limit(until), ignored=tuple(ignore or [])
        )
        report = _rehearse(setting, tuple(at or Kind))
        kept = keep or not report.identical
    except CannotDrill as error:
        kept = keep or error.has_log
        fail(str(error), EXIT_REFUSED)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    finally:
        if not kept:
            shutil.rmtree(base)
    _show(report, base if kept else None, as_json=as_json)
    raise typer.Exit(0 if report.identical else EXIT_DIFFERS)


def _project(links: list[Path]) -> Project:
    project = Project(Path.cwd())
    try:
        project = Project(project.folder, linked_paths(project, links))
        project.check_size()
    except (NotBelow, TooLarge) as error:
        where = "--link takes paths below the current folder. Received: "
        fail(f"{where}{error}" if isinstance(error, NotBelow) else str(error), EXIT_REFUSED)
    return project


def _script(project: Project, script: str) -> str:
    if not Path(script).is_file():
        fail(f"there is no script {script!r}")
    try:
        return project.relative(Path(script))
    except NotBelow:
        fail(
            f"{script!r} is not below the current folder, of which a drill makes copies; change to "
            "the folder of the project",
            EXIT_REFUSED,
        )


def _limit(until: str | None) -> Limit | None:
    try:
        return parse_limit(until) if until else None
    except ConfigurationError as error:
        fail(str(error))


def _rehearse(setting: Setting, kinds: Collection[Kind]) -> Report:
    """Rehearse, with a bar on the terminal. SIGTERM ends the processes of the drill like Ctrl-C.

    Raises:
        CannotDrill: there is nothing to compare.
        KeyboardInterrupt: it was interrupted.
    """
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with Progress(
            *columns, console=console, transient=True, disable=not console.is_terminal
        ) as bar:
            task = bar.add_task("", total=None)

            def show(title: str, done: int, total: int) -> None:
                bar.update(task, description=title, completed=done, total=total)

            return Rehearsal(Runner(setting), show, kinds).rehearse()
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show(report: Report, folder: Path | None, *, as_json: bool) -> None:
    """Print the result to standard output.

    Args:
        folder: the folder of the runs, unless it is deleted.
    """

    def mask(text: str) -> str:
        return mask_known_of(os.environ, text)

    if as_json:
        document = {**document_of(report, mask), "folder": folder and str(folder)}
        tables.show(tables.as_json(document))
        return
    tables.show(table_of(report, mask))
    tables.show("")
    tables.show(text_of(report, mask))
    if folder:
        tables.show(f"files of the runs: {folder}")
