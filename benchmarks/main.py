"""scripts/bench: what keepfit costs, beside what its users would pick instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import notice
from compare import picture, run, table
from compare.server import serving
from machine import machine
from saves import main as saves

ROOT = Path(__file__).parents[2]
RESULTS, PICTURE = ROOT / "bench/results.json", ROOT / "docs/bench.png"
PEERS = ("tensorflow", "orbax-checkpoint", "boto3", "s5cmd")

app = typer.Typer(add_completion=False)
app.command()(saves.saves)
app.command()(notice.notice)


@app.callback(invoke_without_command=True)
def compare(
    context: typer.Context,
    quick: Annotated[bool, typer.Option(help="The main figures in under three minutes.")] = False,
    bucket: Annotated[
        str | None,
        typer.Option(help="s3://BUCKET[/PREFIX] on what AWS_ENDPOINT_URL_S3 names."),
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--go-on", help="Measure only what bench/results.json lacks.")
    ] = False,
) -> None:
    """Measure keepfit and its peers in turn; print tables, write bench/results.json and a picture.

    `saves` shows where a save's time goes, `notice` how soon after a notice a checkpoint is safe.
    """
    if context.invoked_subcommand:
        return
    console = Console(width=max(Console().width, 160))
    found = json.loads(RESULTS.read_text()) if go_on else run.nothing()
    try:
        _measure(run.QUICK if quick else run.FULL, bucket, console, found)
    finally:  # a full measurement takes an hour, and what it has found is worth something
        if not quick:
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    for each in table.tables(found):
        console.print(each)
        console.print()
    console.print(found["machine"], soft_wrap=True)
    if not quick:
        picture.draw(found, PICTURE)


def _measure(
    extent: run.Extent, bucket: str | None, console: Console, found: dict[str, Any]
) -> None:
    with console.status("starting an S3 server") as status, serving(bucket) as server:
        say = status.update if console.is_terminal else console.print
        run.measure(extent, server, say, found)
    found["machine"] = f"{machine(*PEERS)}; {server.name} on the same machine"


if __name__ == "__main__":
    app(prog_name="scripts/bench")
