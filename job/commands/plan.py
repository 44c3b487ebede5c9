"""`keepfit plan`: the useful time with each interval, before a run or from one's own runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from keepfit.callbacks.errors import ConfigurationError
from keepfit.job.commands.completion import complete_run
from keepfit.job.commands.failures import fail, store_errors_exit
from keepfit.job.commands.options import AsJson

if TYPE_CHECKING:
    from keepfit.callbacks.journal.document import Journal
    from keepfit.job.planning.own_lives import OwnLives
    from keepfit.job.planning.replay import Conditions

STALL_SHARE = 0.1
"""The share of a save's duration that training loses, unless the user gives one.

Threads of a low priority write the save. On two cores that training kept busy, saves of 280 MiB to
a disk cost 22 and 39 percent of their duration; less if cores are free or a save waits for the
network.
"""


RESTART = "30s"
"""The time until a machine trains, unless the user or a journal says otherwise."""


def plan(
    save_cost: Annotated[
        str | None,
        typer.Option(
            help='Time until a save is durable: "4s"; see `checkpoint_saved` in a log. '
            "Required without --run."
        ),
    ] = None,
    restart: Annotated[
        str | None,
        typer.Option(
            help="Time from a machine's start until it trains. [default: 30s] "
            "With --run: the runs'."
        ),
    ] = None,
    stall: Annotated[
        str | None,
        typer.Option(
            help="Time that a save costs training; see `save_interval` in a log. "
            "[default: 10 percent of --save-cost] With --run: the runs'."
        ),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(
            help="A run whose journals are used; repeatable.", autocompletion=complete_run
        ),
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="The store of the runs. [default: KEEPFIT_STORE]")
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
    """Show how much of the machines' time is useful, with save_every="auto" and fixed intervals.

    With --run, the attempts of these runs are replayed as well, from their journals.
    """
    from keepfit.job.planning.lifetimes import RECORDED, read_lifetimes

    try:
        given = _Given.parse(save_cost, stall, restart)
        lifetimes = read_lifetimes(lives or RECORDED)
        if not run:
            _show_plan(lifetimes, given, notices=not no_notices, json=json)
            return
        if no_notices:
            raise ConfigurationError("--no-notices has no effect with --run, which shows both")
        _show_plan_of_runs(run, store, lifetimes, given, json=json)
    except ConfigurationError as error:
        fail(str(error))


@dataclass(frozen=True)
class _Given:
    """The times that the user has given, in seconds; None if not."""

    save: float | None
    stall: float | None
    restart: float | None

    @classmethod
    def parse(cls, save: str | None, stall: str | None, restart: str | None) -> _Given:
        """Parse the options.

        Raises:
            ConfigurationError: one of them is no time.
        """
        return cls(
            save=None if save is None else _time("save-cost", save),
            stall=None if stall is None else _time("stall", stall),
            restart=None if restart is None else _time("restart", restart),
        )

    def conditions(self, *, notices: bool, own: OwnLives | None = None) -> Conditions:
        """Return what is replayed: the given times, else those of the own runs, else the defaults.

        Raises:
            ConfigurationError: the time of a save is not known, or the times contradict each other.
        """
        from keepfit.job.planning.replay import Conditions

        costs = own.costs if own else None
        save = costs.save if self.save is None and costs else self.save
        if save is None:
            reason = "the runs have no saves" if own else "it is not known without --run"
            raise ConfigurationError(f"give the time of a save with --save-cost: {reason}")
        stall = self.stall
        if stall is None:
            stall = min(save, costs.stall) if costs and self.save is None else save * STALL_SHARE
        if stall > save:
            raise ConfigurationError(
                "a save can't cost training more time than it takes. "
                f"Received: --stall={stall:g}s --save-cost={save:g}s"
            )
        usual = own.restart if own and own.restart is not None else _time("restart", RESTART)
        restart = usual if self.restart is None else self.restart
        return Conditions(save=save, stall=stall, restart=restart, notices=notices)


def _show_plan(lifetimes: Sequence[float], given: _Given, *, notices: bool, json: bool) -> None:
    from keepfit.job.commands import tables
    from keepfit.job.planning import plan as planning

    found = planning.make_plan(lifetimes, given.conditions(notices=notices))
    if json:
        tables.show(tables.as_json(planning.plan_document(found)))
        return
    tables.show(planning.describe_conditions(found))
    tables.show(planning.plan_table(found))
    tables.show(planning.describe_result(found))


def _show_plan_of_runs(
    runs: Sequence[str],
    store: str | None,
    lifetimes: Sequence[float],
    given: _Given,
    *,
    json: bool,
) -> None:
    from keepfit.job.commands import tables
    from keepfit.job.planning import run_plan as planning
    from keepfit.job.planning.own_lives import own_lives

    names = list(dict.fromkeys(runs))
    journals, left_out = _read(names, store)
    own = own_lives(journals)
    conditions = given.conditions(notices=True, own=own)
    found = planning.make_run_plan(names, own, lifetimes, conditions, left_out)
    if json:
        tables.show(tables.as_json(planning.run_plan_document(found)))
        return
    tables.show(planning.describe_runs(found))
    tables.show(planning.run_plan_table(found))
    tables.show(planning.describe_columns(found))


def _read(runs: Sequence[str], uri: str | None) -> tuple[list[tuple[Journal, ...]], int]:
    """Return the journals of each run, and the number of attempts that have no readable one.

    Exits if a run has none at all.
    """
    from keepfit.callbacks.checkpoint.read import inspection
    from keepfit.callbacks.journal.read import read_journals
    from keepfit.callbacks.settings import StoreSettings
    from keepfit.callbacks.storage import open_store

    found, left_out = [], 0
    with store_errors_exit():
        store = open_store(StoreSettings.resolve(store=uri).store)
        for run in runs:
            summary = inspection.summarize(store, run)
            read = read_journals(store, run, first=summary.first_attempt)
            if not read.journals:
                raise ConfigurationError(
                    f"run {run!r} has no journal that can be read; keepfit 0.1 has written none. "
                    "Plan without --run, with --save-cost as a log reports it"
                )
            found.append(read.journals)
            left_out += len(read.missing(summary.attempts)) + len(read.unreadable) + read.left_out
    return found, left_out


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
