"""`keepfit drill`: kill a script on purpose, and compare the result with an uninterrupted run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from keepfit.job.commands.options import AsJson, Exact, OnlyExplicit, SaveEvery
from keepfit.job.drill.moments import Kind


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
    from keepfit.job.commands import drill_command

    options = [
        *(["--save-every", save_every] if save_every else []),
        *(["--exact"] if exact else []),
        *(["--only-explicit"] if only_explicit else []),
    ]
    project = drill_command.find_project(link or [])
    program = drill_command.Program(
        script if module else drill_command.relative_script(project, script),
        tuple(args or []),
        module,
        not not_deterministic,
        tuple(options),
    )
    raise typer.Exit(
        drill_command.drill(
            project,
            program,
            drill_command.limit_of(until),
            at or tuple(Kind),
            ignored=tuple(ignore or ()),
            keep=keep,
            as_json=as_json,
        )
    )
