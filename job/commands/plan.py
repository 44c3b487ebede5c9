"""`keepfit plan`: the useful time with each interval between saves, estimated before a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from keepfit.callbacks.errors import ConfigurationError
from keepfit.job.commands.failures import fail
from keepfit.job.commands.options import AsJson

STALL_SHARE = 0.1
"""The share of a save's duration that training loses, unless the user gives one.

Threads of a low priority write the save. On two cores that training kept busy, saves of 280 MiB to
a disk cost 22 and 39 percent of their duration; less if cores are free or a save waits for the
network.
"""


def plan(
    save_cost: Annotated[
        str,
        typer.Option(help='Time until a save is durable: "4s"; see `checkpoint_saved` in a log.'),
    ],
    restart: Annotated[
        str, typer.Option(help="Time from a machine's start until it trains.")
    ] = "30s",
    stall: Annotated[
        str | None,
        typer.Option(
            help="Time that a save costs training; see `save_interval` in a log. "
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
    """Show how much of the machines' time is useful, with save_every="auto" and fixed intervals."""
    from keepfit.job.commands import tables
    from keepfit.job.planning import plan as planning
    from keepfit.job.planning.lifetimes import RECORDED, read_lifetimes
    from keepfit.job.planning.replay import Conditions

    try:
        save = _time("save-cost", save_cost)
        conditions = Conditions(
            save=save,
            stall=save * STALL_SHARE if stall is None else _time("stall", stall),
            restart=_time("restart", restart),
            notices=not no_notices,
        )
        if conditions.stall > save:
            raise ConfigurationError(
                "a save can't cost training more time than it takes. "
                f"Received: --stall={stall} --save-cost={save_cost}"
            )
        found = planning.make_plan(read_lifetimes(lives or RECORDED), conditions)
    except ConfigurationError as error:
        fail(str(error))
    if json:
        tables.show(tables.as_json(planning.plan_document(found)))
        return
    tables.show(planning.describe_conditions(found))
    tables.show(planning.plan_table(found))
    tables.show(planning.describe_result(found))


def register(app: typer.Typer) -> None:
    """Register the command with `app`."""
    app.command()(plan)


def _time(name: str, text: str) -> float:
    """Return a time in seconds; 0 is allowed.

    Raises:
        ConfigurationError: `text` is not a time.
    """
    from keepfit.callbacks.engine import save_policy

    zero = text.strip() in ("0", "0s")
    seconds = 0.0 if zero else save_policy.parse_duration(text)
    if seconds is None or not math.isfinite(seconds):
        raise ConfigurationError(
            f'{name} must be a time: "4s", "250ms", "2min". Received: {text!r}'
        )
    return seconds
