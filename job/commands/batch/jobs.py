"""`keepfit logs` and `cancel`: a run on AWS Batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger
from keepfit.job.commands import options
from keepfit.job.commands.failures import aws_errors_exit, fail, store_errors_exit
from keepfit.job.commands.options import Run

if TYPE_CHECKING:
    from keepfit.callbacks.storage.base import Store
    from keepfit.infra.deployment import Deployment
    from keepfit.infra.jobs.lookup import Job
    from keepfit.infra.regions import RegionQueue

log = get_logger()

INTERRUPTED = 130


def logs(
    run: Run,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue until the job is over.")
    ] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Print only this one.")] = None,
    queue: options.QueueOption = None,
    name: options.Deployment = "keepfit",
) -> None:
    """Print what the attempts of a run have written, in order."""
    from keepfit.infra import regions
    from keepfit.job.commands.batch import job_polling

    try:
        with aws_errors_exit():
            deployment = _deployment(name)
            queues = regions.queues_of(deployment, queue)
            job = regions.newest_job(queues, run)
            if attempt and not follow and attempt > len(job.attempts):
                fail(f"run {run!r} has had {len(job.attempts)} attempts")
            group = deployment.logs
            for line in job_polling.log_lines(queues, job, group, follow=follow, only=attempt):
                typer.echo(line)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def cancel(
    run: Run,
    queue: options.QueueOption = None,
    store: options.StoreOfJobs = None,
    name: options.Deployment = "keepfit",
) -> None:
    """Cancel a run's job. It saves first; `keepfit submit --resume` continues from there."""
    from keepfit.callbacks.storage import open_store
    from keepfit.infra import regions
    from keepfit.job.commands.batch import job_polling, job_tables

    with aws_errors_exit():
        deployment = _deployment(name)
        queues = regions.queues_of(deployment, queue)
        job = regions.newest_job(queues, run)
    if job.over:
        fail(f"the job of run {run!r} is already over: {job.status}")
    where = store or job.store or deployment.store
    with store_errors_exit():
        opened = open_store(where)
    try:
        ended = _cancel_job(queues, job, opened)
        # Meanwhile the run may have been submitted again, or in the other region.
        with aws_errors_exit():
            newest = regions.newest_job(queues, run)
        if not newest.over:
            ended = _cancel_job(queues, newest, opened)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    saved = job_polling.summarize_run(where, run)
    log.info(
        events.CANCELLED,
        run=run,
        job=ended.id,
        status=ended.status,
        kept=job_tables.location(saved),
    )


def _cancel_job(queues: Sequence[RegionQueue], job: Job, store: Store) -> Job:
    """Cancel a job and wait until it is over; return it as it is then."""
    from keepfit.infra import regions
    from keepfit.job import cancellation
    from keepfit.job.commands.batch import job_polling

    with store_errors_exit():
        cancellation.mark_cancelled(store, job.id)
    with aws_errors_exit():
        batch = regions.batch_of(queues, job)
        _terminate(batch, job, store)
        return job_polling.wait_until_over(batch, job)


def _terminate(batch: Any, job: Job, store: Store) -> None:
    from keepfit.infra.aws import AwsError
    from keepfit.job.cancellation import unmark_cancelled
    from keepfit.job.commands.batch import job_polling

    try:
        job_polling.terminate_job(batch, job)
    except AwsError:
        with store_errors_exit():
            # Otherwise the next attempt would exit, though this one could not be terminated.
            unmark_cancelled(store, job.id)
        raise
    log.info(events.CANCELLING, run=job.run, job=job.id, status=job.status)


def register(app: typer.Typer) -> None:
    """Register these commands with `app`."""
    for command in (logs, cancel):
        app.command()(command)


def _deployment(name: str) -> Deployment:
    from keepfit.infra import aws
    from keepfit.infra.deployment import find_deployment

    return find_deployment(aws.client("cloudformation"), name)
