"""`keepfit submit`: a run on AWS Batch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer

from callbacks import events
from job.commands.deployed import Name, QueueOption, StoreOption, deployment_of, summary_of
from job.commands.reporting import fail, of_aws, of_store

log = structlog.get_logger("keepfit")

_MEMORY = re.compile(r"(\d+)\s*(MiB|GiB)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)


def submit(
    script: Annotated[Path, typer.Argument(help="A Keras script; its folder goes with it.")],
    args: Annotated[list[str] | None, typer.Argument(help="Its own arguments.")] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="The run's name. [default: the script's]")
    ] = None,
    image: Annotated[str | None, typer.Option(help="[default: the deployment's]")] = None,
    vcpus: Annotated[int | None, typer.Option(min=1)] = None,
    memory: Annotated[str | None, typer.Option(help="Such as 8GiB.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1)] = None,
    save_every: Annotated[str | None, typer.Option(help="As for `keepfit run`.")] = None,
    deterministic: Annotated[bool, typer.Option("--deterministic")] = False,
    exact: Annotated[bool, typer.Option("--exact")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that the store has already.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin such a run again; it is moved aside.")
    ] = False,
    env: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="For the script; repeatable.")
    ] = None,
    max_size: Annotated[int, typer.Option(min=1, help="Of the folder, in MiB.")] = 100,
    queue: QueueOption = None,
    store: StoreOption = None,
    name: Name = "keepfit",
) -> None:
    """Run SCRIPT on AWS Spot instances, over any number of interruptions.

    Prints the run's name, and how to follow it.
    """
    from callbacks.settings import Settings, name_of
    from callbacks.storage import open_store
    from infra import aws
    from infra.jobs import images, order
    from job import code

    if not script.is_file():
        fail(f"there is no script {str(script)!r}")
    environment = _variables(env or []) | _chosen(save_every, exact=exact, fresh=fresh)
    mebibytes = _mebibytes(memory)
    with of_store():
        run = Settings.resolve(run=run or name_of(str(script)), save_every=save_every).run
    with of_aws():
        deployment = deployment_of(name)
        queue = queue or deployment.queue
        batch = aws.client("batch")
        order.check_queue(batch, queue)
        base = order.described(batch, deployment.job)
        wanted = image or base["containerProperties"]["image"]
        if region := images.region_of(wanted):
            images.check(aws.client("ecr", region), wanted)
    where = store or deployment.store
    _check_free(batch, queue, run, where, goes_on=resume or fresh)
    real = script.resolve()  # as Python finds what it imports
    bundle = _packed(real, max_size)
    with of_store():
        code.send(open_store(where), bundle)
    flags = ["--deterministic"] if deterministic else []
    asked = order.Order(
        run=run,
        command=["run", *flags, "--code", bundle.digest, real.name, *(args or [])],
        environment=environment | {"KEEPFIT_RUN": run, "KEEPFIT_STORE": where},
        image=image,
        vcpus=vcpus,
        memory=mebibytes,
        gpus=gpus,
    )
    with of_aws():
        job = order.submit(batch, queue, base, asked)
    log.info(events.SUBMITTED, run=run, job=job, files=bundle.files, store=where)
    typer.echo(f"{run}\n  keepfit status {run}\n  keepfit logs {run} -f")


def register(app: typer.Typer) -> None:
    """Make it a command of `app`."""
    options = {"allow_interspersed_args": False, "ignore_unknown_options": False}
    app.command(context_settings=options)(submit)


def _variables(given: list[str]) -> dict[str, str]:
    for pair in given:
        if not _VARIABLE.fullmatch(pair):
            fail(f"a variable is given as NAME=VALUE. Received: --env={pair.partition('=')[0]!r}")
        if pair.startswith("AWS_BATCH"):
            fail(f"AWS Batch sets the variables AWS_BATCH… itself. Received: --env={pair!r}")
    return dict(pair.split("=", 1) for pair in given)


def _chosen(save_every: str | None, *, exact: bool, fresh: bool) -> dict[str, str]:
    chosen = {
        "KEEPFIT_SAVE_EVERY": save_every,
        "KEEPFIT_EXACT": "1" if exact else None,
        "KEEPFIT_FRESH": "1" if fresh else None,
    }
    return {name: value for name, value in chosen.items() if value}


def _mebibytes(memory: str | None) -> int | None:
    if memory is None:
        return None
    match = _MEMORY.fullmatch(memory.strip())
    if not match or not int(match[1]):
        fail(f"memory is given as 8GiB or 8192MiB. Received: --memory={memory!r}")
    return int(match[1]) * (1024 if match[2] == "GiB" else 1)


def _packed(script: Path, max_size: int) -> Any:
    from infra.jobs.bundle import NotBundled, pack

    with of_store():
        try:
            return pack(script.parent, max_size << 20, script=script.name)
        except NotBundled as error:
            fail(str(error))


def _check_free(batch: Any, queue: str, run: str, store: str, *, goes_on: bool) -> None:
    """Two jobs of a run would fence each other off; nobody goes on with an old one unawares."""
    from infra.jobs.finding import jobs_of

    with of_aws():
        at_work = [job for job in jobs_of(batch, queue, run) if not job.over]
    if at_work:
        fail(
            f"run {run!r} has a job already, {at_work[0].id} ({at_work[0].status}): follow it with "
            f"`keepfit status {run}`, end it with `keepfit cancel {run}`, or name another --run"
        )
    found = None if goes_on else summary_of(store, run)
    if found:
        fail(
            f"{store} has a run {run!r} already ({found.state}): --resume goes on with it, --fresh "
            f"begins it again, --run names another"
        )
