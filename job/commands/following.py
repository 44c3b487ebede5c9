"""`keepfit status`, `logs` and `cancel`: a run's job on AWS Batch."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import typer

from callbacks import events
from job.commands.deployed import Name, QueueOption, StoreOption, deployment_of, summary_of
from job.commands.reporting import fail, of_aws, of_store

if TYPE_CHECKING:
    from infra.jobs.finding import Job

log = structlog.get_logger("keepfit")

INTERRUPTED = 130
BETWEEN_LOOKS = 4.0
"""Seconds; AWS Batch allows few requests."""

Run = Annotated[str, typer.Argument(help="The run's name.")]


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
        deployment = deployment_of(name)
        batch = aws.client("batch")
        jobs = jobs_of(batch, queue or deployment.queue, run)
    saved = summary_of(store or deployment.store, run)
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
            deployment = deployment_of(name)
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
        deployment = deployment_of(name)
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
    saved = summary_of(where, run)
    log.info(
        events.CANCELLED,
        run=run,
        job=job.id,
        status=ended.status,
        kept=job_tables.where(saved),
    )


def register(app: typer.Typer) -> None:
    """Make them commands of `app`."""
    for command in (status, logs, cancel):
        app.command()(command)


def _newest(batch: Any, queue: str, run: str) -> Job:
    from infra.jobs.finding import newest

    return newest(batch, queue, run)


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
    from infra.jobs.finding import job_of

    if not follow:
        yield job
        return
    was_over = False
    while True:
        found = job_of(batch, job.id)
        yield found
        if was_over:
            return
        was_over = found.over
        time.sleep(BETWEEN_LOOKS)


def _when_over(batch: Any, job: Job) -> Job:
    from tenacity import Retrying, retry_if_result, wait_fixed

    from infra.jobs.finding import job_of

    waiting = Retrying(
        retry=retry_if_result(lambda found: not found.over), wait=wait_fixed(BETWEEN_LOOKS)
    )
    return waiting(job_of, batch, job.id)
