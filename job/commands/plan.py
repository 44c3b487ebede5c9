"""`keepfit plan`: what intervals between saves are worth, before a run has cost anything."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from keepfit.callbacks.errors import ConfigurationError
from keepfit.job.commands.failures import fail
from keepfit.job.commands.options import AsJson

STALL_SHARE = 0.1
"""The share of a save's time that training loses, where it is not said.

It is written by threads of a low priority. On two cores that training kept busy, 22 and 39 percent
of saves of 280 MiB to a disk were lost; it is less where cores are free or the network is awaited.
"""


def plan(
    save_cost: Annotated[
        str, typer.Option(help='Until a save is durable: "4s", as `checkpoint_saved` in a log.')
    ],
    restart: Annotated[str, typer.Option(help="From a machine's start until it trains.")] = "30s",
    stall: Annotated[
        str | None,
        typer.Option(
            help="What a save costs training, as `save_interval` in a log. "
            "[default: 10 percent of --save-cost]"
        ),
    ] = None,
    lives: Annotated[
        Path | None,
        typer.Option(help="A CSV file with a column life_seconds. [default: 322 Spot instances]"),
    ] = None,
    no_notices: Annotated[
        bool, typer.Option("--no-notices", help="Machines disappear without a warning.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Show how much of machines' time is useful with save_every="auto" and with fixed intervals."""
    from keepfit.job.commands import tables
    from keepfit.job.planning import plan as planning
    from keepfit.job.planning.lifetimes import RECORDED, read_lifetimes
    from keepfit.job.planning.replay import Conditions

    try:
        save = _time("save-cost", save_cost)
        under = Conditions(
            save=save,
            stall=save * STALL_SHARE if stall is None else _time("stall", stall),
            restart=_time("restart", restart),
            notices=not no_notices,
        )
        if under.stall > save:
            raise ConfigurationError(
                "a save can't cost training more time than it takes. "
                f"Received: --stall={stall} --save-cost={save_cost}"
            )
        found = planning.make_plan(read_lifetimes(lives or RECORDED), under)
    except ConfigurationError as error:
        fail(str(error))
    if json:
        tables.show(tables.as_json(planning.plan_document(found)))
        return
    tables.show(planning.describe_conditions(found))
    tables.show(planning.plan_table(found))
    tables.show(planning.describe_result(found))


def register(app: typer.Typer) -> None:
    """Make it a command of `app`."""
    app.command()(plan)


def _time(name: str, text: str) -> float:
    """Seconds; 0 is one too.

    Raises:
        ConfigurationError: it is no time.
    """
    from keepfit.callbacks.checkpoint import save_policy

    zero = text.strip() in ("0", "0s")
    seconds = 0.0 if zero else save_policy.parse_duration(text)
    if seconds is None or not math.isfinite(seconds):
        raise ConfigurationError(f'{name} is a time: "4s", "250ms", "2min". Received: {text!r}')
    return seconds
