"""The work of `keepfit drill`: its folders, its progress bar, and its result."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Collection
from pathlib import Path
from types import FrameType

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from keepfit.callbacks.errors import EXIT_REFUSED, ConfigurationError
from keepfit.callbacks.masking import mask_known_of
from keepfit.job.commands import tables
from keepfit.job.commands.failures import fail
from keepfit.job.drill.attempts import Runner, Setting
from keepfit.job.drill.folders import NotBelow, Project, TooLarge, linked_paths
from keepfit.job.drill.instructions import Limit, Program, parse_limit
from keepfit.job.drill.moments import Kind
from keepfit.job.drill.rehearsal import CannotDrill, Rehearsal, Report
from keepfit.job.drill.report import document_of, table_of, text_of

__all__ = ["Program", "drill", "find_project", "limit_of", "relative_script"]

EXIT_DIFFERS, EXIT_INTERRUPTED = 1, 128 + signal.SIGINT


def drill(
    project: Project,
    program: Program,
    limit: Limit | None,
    kinds: Collection[Kind],
    *,
    ignored: tuple[str, ...],
    keep: bool,
    as_json: bool,
) -> int:
    """Drill a program, print the result, and return the exit code.

    Args:
        ignored: patterns of files that are not compared.
        keep: keep the folders of the runs.
    """
    base = Path(tempfile.mkdtemp(prefix="keepfit-drill-")).resolve()
    kept = keep
    try:
        setting = Setting(base, project, program, os.environ, limit, ignored=ignored)
        report = _rehearse(setting, kinds)
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
    return 0 if report.identical else EXIT_DIFFERS


def find_project(links: list[Path]) -> Project:
    """Return the current folder, whose size fits; exit if it does not."""
    project = Project(Path.cwd())
    try:
        project = Project(project.folder, linked_paths(project, links))
        project.check_size()
    except (NotBelow, TooLarge) as error:
        where = "--link takes paths below the current folder. Received: "
        fail(f"{where}{error}" if isinstance(error, NotBelow) else str(error), EXIT_REFUSED)
    return project


def relative_script(project: Project, script: str) -> str:
    """Return the path of a script relative to the folder; exit if it is not below it."""
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


def limit_of(until: str | None) -> Limit | None:
    """Return where a drill ends; exit if the text is no limit."""
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
