"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from keepfit.job.commands.completion import complete_run

if TYPE_CHECKING:
    from keepfit.callbacks.storage.base import Store

Run = Annotated[str, typer.Argument(help="The run's name.", autocompletion=complete_run)]
RunName = Annotated[
    str | None,
    typer.Option(
        "--run", help="The run's name. [default: the script's]", autocompletion=complete_run
    ),
]
SaveEvery = Annotated[
    str | None, typer.Option(help='"auto", "30s", "200 batches", "1 epoch". [default: auto]')
]
Module = Annotated[
    bool, typer.Option("--module", "-m", help="Run module SCRIPT, as `python -m` would.")
]
Deterministic = Annotated[
    bool, typer.Option("--deterministic", help="Give the same bits in every run; costs some speed.")
]
Exact = Annotated[
    bool, typer.Option("--exact", help="Refuse a training that can't resume exactly.")
]
OnlyExplicit = Annotated[
    bool,
    typer.Option("--only-explicit", help="Leave a fit without Resumable as it is: not resumable."),
]
HourlyPrice = Annotated[
    str | None,
    typer.Option(metavar="USD", help="What the machine costs per hour, for the report of the run."),
]
OnDemandPrice = Annotated[
    str | None,
    typer.Option(metavar="USD", help="What it would cost on demand, per hour, to compare."),
]
MaxHours = Annotated[
    str | None,
    typer.Option(metavar="N", help="Hours of all attempts together, after which training ends."),
]
MaxCost = Annotated[
    str | None,
    typer.Option(metavar="USD", help="Dollars for all attempts, after which training ends."),
]
Deployment = Annotated[str, typer.Option("--name", help="The deployment's name.")]
StoreOfRuns = Annotated[
    str | None, typer.Option("--store", help="The store of the runs. [default: KEEPFIT_STORE]")
]
StoreOfJobs = Annotated[
    str | None, typer.Option("--store", help="The store of the runs. [default: the deployment's]")
]
QueueOption = Annotated[
    str | None, typer.Option("--queue", help="A job queue. [default: the deployment's]")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]
Notify = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URL", help="A webhook that learns of preemptions, ends and stalls; repeatable."
    ),
]


def open_runs(store: str | None) -> Store:
    """Open the store that the option names, else KEEPFIT_STORE, else the default.

    Raises:
        ConfigurationError: there is no such store.
    """
    from keepfit.callbacks.settings import StoreSettings
    from keepfit.callbacks.storage import open_store

    return open_store(StoreSettings.resolve(store=store).store)
