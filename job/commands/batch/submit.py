"""`keepfit submit`: a job on AWS Batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger
from keepfit.job.commands import options
from keepfit.job.commands.failures import store_errors_exit
from keepfit.job.commands.options import Deterministic, Exact, RunName, SaveEvery

if TYPE_CHECKING:
    from keepfit.job.commands.batch.submission.options import SubmitOptions

log = get_logger()


def submit(
    script: Annotated[
        str | None,
        typer.Argument(
            help="A Keras script; its folder is uploaded. With -m a module: this one. "
            "[default: the job file's]",
            show_default=False,
        ),
    ] = None,
    args: Annotated[list[str] | None, typer.Argument(help="Arguments of the script.")] = None,
    module: options.Module = False,
    run: RunName = None,
    image: Annotated[str | None, typer.Option(help="[default: the deployment's]")] = None,
    vcpus: Annotated[int | None, typer.Option(min=1)] = None,
    memory: Annotated[str | None, typer.Option(help="For example 8GiB.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1)] = None,
    save_every: SaveEvery = None,
    deterministic: Deterministic = False,
    exact: Exact = False,
    only_explicit: options.OnlyExplicit = False,
    hourly_price: options.HourlyPrice = None,
    on_demand_price: options.OnDemandPrice = None,
    max_hours: options.MaxHours = None,
    max_cost: options.MaxCost = None,
    notify: options.Notify = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue a run that the store has already, also with other ARGS."
        ),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over; the old run is moved aside, not deleted.")
    ] = False,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A variable for the script; repeatable."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ARN",
            help="A variable whose value is in AWS Secrets Manager or SSM; repeatable.",
        ),
    ] = None,
    requirements: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The packages of the job. [default: requirements.txt or pyproject.toml beside "
            "SCRIPT]",
        ),
    ] = None,
    no_requirements: Annotated[
        bool, typer.Option("--no-requirements", help="Install no packages: the image has all.")
    ] = False,
    max_size: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="Limit for the folder, in MiB. [default: 100]"),
    ] = None,
    max_wait: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="End the job if it waits longer than this for a machine."
        ),
    ] = None,
    queue: options.QueueOption = None,
    store: options.StoreOfJobs = None,
    name: Annotated[
        str | None, typer.Option("--name", help="The deployment's name. [default: keepfit]")
    ] = None,
    job: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A job file. [default: keepfit.toml, or pyproject.toml with [tool.keepfit]]",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show the job, its machines and their prices; submit nothing."
        ),
    ] = False,
) -> None:
    """Run SCRIPT on AWS Spot instances, over any number of interruptions.

    A job file gives options that the command line does not. Prints the run's name, and the commands
    to follow it.
    """
    from keepfit.job.commands.batch.submission import execute, machines, plan, variables

    given = {
        "script": script,
        "args": tuple(args or ()),
        "module": module,
        "run": run,
        "image": image,
        "vcpus": vcpus,
        "memory": memory,
        "gpus": gpus,
        "save_every": save_every,
        "deterministic": deterministic,
        "exact": exact,
        "only_explicit": only_explicit,
        "hourly_price": hourly_price,
        "on_demand_price": on_demand_price,
        "max_hours": max_hours,
        "max_cost": max_cost,
        "notify": tuple(notify or ()),
        "resume": resume,
        "fresh": fresh,
        "env": variables.named_values("--env", "VALUE", env or []),
        "secrets": variables.named_values("--secret", "ARN", secret or []),
        "requirements": requirements,
        "no_requirements": no_requirements,
        "max_size": max_size,
        "max_wait": max_wait,
        "queue": queue,
        "store": store,
        "name": name,
    }
    options_in_effect = _with_job_file(given, job)
    planned = plan.plan_submission(options_in_effect)
    if dry_run:
        machines.show_plan(planned)
        return
    machines.check_machines(planned)
    execute.execute(planned)
    typer.echo(execute.next_steps(planned.request.run, options_in_effect))


def _with_job_file(given: Mapping[str, Any], path: Path | None) -> SubmitOptions:
    """Return the options in effect: those of the command line, and of the job file if one applies.

    Args:
        path: the file that the command line names; None: that of the current folder, if any.
    """
    from keepfit.job.commands.batch.submission import job_file, merge

    with store_errors_exit():
        file = path or job_file.find_job_file(Path.cwd())
        found = job_file.read_job_file(file) if file else job_file.JobFile()
        folder = file.resolve().parent if file else Path.cwd()
        program = given["script"]
        if (
            file
            and not path
            and merge.describes_another(found, folder, program, module=given["module"])
        ):
            log.info(
                events.JOB_FILE_UNUSED,
                file=file.name,
                reason=f"it describes {found.script or found.module}, not {program}",
                fix=f"to use its other options too: --job {file.name}",
            )
            found = job_file.JobFile()
        elif file:
            log.info(
                events.JOB_FILE_USED,
                file=file.name,
                keys=sorted(found.model_dump(exclude_unset=True, by_alias=True)),
            )
        return merge.merge(given, found, folder)


def register(app: typer.Typer) -> None:
    """Register this command with `app`."""
    settings = {"allow_interspersed_args": False, "ignore_unknown_options": False}
    app.command(context_settings=settings)(submit)
