"""`keepfit submit`, `status`, `logs` and `cancel`: a run on AWS Batch."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import typer

from callbacks import events
from job.commands.reporting import fail, of_aws, of_store

if TYPE_CHECKING:
    from callbacks.checkpoint.inspection import Summary
    from infra.deployment import Deployment
    from infra.jobs.finding import Job

log = structlog.get_logger("keepfit")

INTERRUPTED = 130
BETWEEN_LOOKS = 4.0
"""Seconds, and up to a quarter more: AWS Batch allows few requests."""

_MEMORY = re.compile(r"(\d+)\s*(MiB|GiB)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)

Run = Annotated[str, typer.Argument(help="The run's name.")]
Name = Annotated[str, typer.Option("--name", help="The deployment's name.")]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="Where runs are. [default: the deployment's bucket]")
]
QueueOption = Annotated[
    str | None, typer.Option("--queue", help="A job queue. [default: the deployment's]")
]


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
    from callbacks.settings import Settings
    from callbacks.storage import open_store
    from infra import aws
    from infra.jobs import images, order
    from job import code

    if not script.is_file():
        fail(f"there is no script {str(script)!r}")
    environment = _variables(env or []) | _chosen(save_every, exact=exact, fresh=fresh)
    mebibytes = _mebibytes(memory)
    with of_store():
        run = Settings.resolve(run=run or _name_of(script), save_every=save_every).run
    with of_aws():
        deployment = _deployment(name)
        queue = queue or deployment.queue
        batch = aws.client("batch")
        order.check_queue(batch, queue)
        base = order.described(batch, deployment.job)
        wanted = image or base["containerProperties"]["image"]
        if region := images.region_of(wanted):
            images.check(aws.client("ecr", region), wanted)
    where = store or deployment.store
    _check_free(batch, queue, run, where, goes_on=resume or fresh)
    bundle = _packed(script, max_size)
    with of_store():
        code.send(open_store(where), bundle)
    flags = ["--deterministic"] if deterministic else []
    asked = order.Order(
        run=run,
        command=["run", *flags, "--code", bundle.digest, script.name, *(args or [])],
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


def status(
    run: Run,
    queue: QueueOption = None,
    store: StoreOption = None,
    name: Name = "keepfit",
    json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show a run's job: its state, its attempts, its newest checkpoint, and what it has cost."""
    from infra import aws
    from infra.jobs.finding import NoJob, jobs_of
    from infra.jobs.report import report
    from job.commands import job_tables, tables

    with of_aws():
        deployment = _deployment(name)
        batch = aws.client("batch")
        jobs = jobs_of(batch, queue or deployment.queue, run)
    saved = _summary(store or deployment.store, run)
    now = datetime.now(UTC)
    with of_aws():
        if not jobs and saved is None:
            raise NoJob(run)
        found = report(jobs[0], aws.client, batch.meta.region_name, now) if jobs else None
    if json:
        tables.show(tables.as_json(job_tables.for_programs(run, found, saved)))
        return
    for part in job_tables.for_people(run, found, saved, now):
        tables.show(part)


def logs(
    run: Run,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until the job is over.")] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Only this one.")] = None,
    queue: QueueOption = None,
    name: Name = "keepfit",
) -> None:
    """Print what the attempts of a run's job have written, in order."""
    from infra import aws

    try:
        with of_aws():
            deployment = _deployment(name)
            batch = aws.client("batch")
            job = _newest(batch, queue or deployment.queue, run)
            if attempt and not follow and attempt > len(job.attempts):
                fail(f"the job of run {run!r} has had {len(job.attempts)} attempts")
            for line in _lines(batch, job, deployment.logs, follow=follow, only=attempt):
                typer.echo(line)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def cancel(
    run: Run,
    queue: QueueOption = None,
    store: StoreOption = None,
    name: Name = "keepfit",
) -> None:
    """End a run's job. It saves first; `keepfit submit --resume` goes on from there."""
    from callbacks.storage import open_store
    from infra import aws
    from job.cancelled import mark
    from job.commands import job_tables

    with of_aws():
        deployment = _deployment(name)
        batch = aws.client("batch")
        job = _newest(batch, queue or deployment.queue, run)
    if job.over:
        fail(f"the job of run {run!r} is over already: {job.status}")
    where = store or deployment.store
    with of_store():
        mark(open_store(where), job.id)
    with of_aws():
        with aws.explained(f"job {job.id} was not ended"):
            batch.terminate_job(jobId=job.id, reason="keepfit cancel")
        ended = _when_over(batch, job)
    saved = _summary(where, run)
    log.info(
        events.CANCELLED,
        run=run,
        job=job.id,
        status=ended.status,
        kept=job_tables.where(saved),
    )


def register(app: typer.Typer) -> None:
    """Make them commands of `app`."""
    options = {"allow_interspersed_args": False, "ignore_unknown_options": False}
    app.command(context_settings=options)(submit)
    for command in (status, logs, cancel):
        app.command()(command)


def _deployment(name: str) -> Deployment:
    from infra import aws
    from infra.deployment import find

    return find(aws.client("cloudformation"), name)


def _newest(batch: Any, queue: str, run: str) -> Job:
    from infra.jobs.finding import newest

    return newest(batch, queue, run)


def _name_of(script: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._=+-]", "-", script.stem).lstrip("._=+-") or "run"


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
            return pack(script.resolve().parent, max_size << 20)
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
    found = None if goes_on else _summary(store, run)
    if found:
        fail(
            f"{store} has a run {run!r} already ({found.state}): --resume goes on with it, --fresh "
            f"begins it again, --run names another"
        )


def _summary(store: str, run: str) -> Summary | None:
    from callbacks.checkpoint.inspection import NoSuchRun, summary
    from callbacks.storage import open_store

    with of_store():
        try:
            return summary(open_store(store), run)
        except NoSuchRun:
            return None


def _lines(batch: Any, job: Job, group: str, *, follow: bool, only: int | None) -> Iterator[str]:
    from infra import aws
    from infra.jobs.logs import Stream

    client = aws.client("logs")
    streams: dict[str, Stream] = {}
    for found in _looks(batch, job, follow=follow):
        for one in found.attempts:
            if not one.stream or only not in (None, one.number):
                continue
            if one.stream not in streams:
                streams[one.stream] = Stream(client, group, one.stream)
                if only is None:
                    yield f"=== attempt {one.number} ==="
            yield from streams[one.stream].new_lines()
        sys.stdout.flush()


def _looks(batch: Any, job: Job, *, follow: bool) -> Iterator[Job]:
    """The job as it is now; with `follow`, again and again, and once after it is over."""
    from tenacity import Retrying, retry_if_result, wait_fixed, wait_random

    from infra.jobs.finding import job_of

    if not follow:
        yield job
        return
    was_over = False
    wait = wait_fixed(BETWEEN_LOOKS) + wait_random(0, BETWEEN_LOOKS / 4)
    for look in Retrying(retry=retry_if_result(lambda last: not last), wait=wait):
        with look:
            found = job_of(batch, job.id)
            yield found
        if (outcome := look.retry_state.outcome) is None or not outcome.failed:
            look.retry_state.set_result(was_over)
        was_over = found.over


def _when_over(batch: Any, job: Job) -> Job:
    from tenacity import Retrying, retry_if_result, wait_fixed

    from infra.jobs.finding import job_of

    waiting = Retrying(
        retry=retry_if_result(lambda found: not found.over), wait=wait_fixed(BETWEEN_LOOKS)
    )
    return waiting(job_of, batch, job.id)
