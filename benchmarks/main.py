"""scripts/bench: measure the cost of keepfit beside the methods that users would choose instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import against
import inputs
import notice
from compare import picture, run, table
from compare.server import serving
from machine import machine
from saves import main as saves

ROOT = Path(__file__).parents[1]
RESULTS, PICTURE = ROOT / "benchmarks/results.json", ROOT / "docs/bench.png"
PEERS = ("tensorflow", "orbax-checkpoint", "boto3", "s5cmd")

app = typer.Typer(add_completion=False)
app.command()(saves.saves)
app.command()(notice.notice)
app.command()(inputs.inputs)
app.command()(against.against)


@app.callback(invoke_without_command=True)
def compare(
    context: typer.Context,
    quick: Annotated[bool, typer.Option(help="The main figures in under three minutes.")] = False,
    bucket: Annotated[
        str | None,
        typer.Option(help="s3://BUCKET or s3://BUCKET/PREFIX at AWS_ENDPOINT_URL_S3."),
    ] = None,
    go_on: Annotated[
        bool, typer.Option("--go-on", help="Measure only what benchmarks/results.json lacks.")
    ] = False,
) -> None:
    """Measure keepfit and its peers in turn.

    Prints tables; without --quick, writes benchmarks/results.json and docs/bench.png as well.

    `saves` shows how the time of a save is spent, `notice` the time from a notice to a commit,
    `inputs` the cost of the digest of an input.
    """
    if context.invoked_subcommand:
        return
    console = Console(width=max(Console().width, 160))
    results = json.loads(RESULTS.read_text()) if go_on else run.empty_results()
    try:
        _measure(run.QUICK if quick else run.FULL, bucket, console, results)
    finally:  # a full measurement takes an hour, so partial results are kept
        if not quick:
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    for each in table.tables(results):
        console.print(each)
        console.print()
    console.print(results["machine"], soft_wrap=True)
    if not quick:
        picture.draw(results, PICTURE)


def _measure(
    extent: run.Extent, bucket: str | None, console: Console, results: dict[str, Any]
) -> None:
    with console.status("starting an S3 server") as status, serving(bucket) as server:
        report = status.update if console.is_terminal else console.print
        run.measure(extent, server, report, results)
    results["machine"] = f"{machine(*PEERS)}; {server.name} on the same machine"


if __name__ == "__main__":
    app(prog_name="scripts/bench")
