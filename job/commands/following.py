"""A run's jobs, as they go on: what they log, and when they are over."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from job.commands.reporting import of_store

if TYPE_CHECKING:
    from callbacks.checkpoint.inspection import Summary
    from infra.jobs.finding import Job

BETWEEN_LOOKS = 4.0
"""Seconds, and up to a quarter more: AWS Batch allows few requests."""


def summary(store: str, run: str) -> Summary | None:
    """What the store has of the run."""
    from callbacks.checkpoint import inspection
    from callbacks.storage import open_store

    with of_store():
        try:
            return inspection.summary(open_store(store), run)
        except inspection.NoSuchRun:
            return None


def lines(batch: Any, job: Job, group: str, *, follow: bool, only: int | None) -> Iterator[str]:
    """What the attempts have written, in order.

    Raises:
        AwsError: it can't be read.
    """
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
    """The run's job as it is now; with `follow`, again and again, and once after it is over.

    A job that is submitted again after its last attempt is another one of the same run.
    """
    from infra.jobs.finding import newest

    yield job
    was_over = False
    while follow and not (was_over and job.over):
        was_over = job.over
        time.sleep(random.uniform(1, 1.25) * BETWEEN_LOOKS)  # noqa: S311 # no secret
        job = newest(batch, job.queue, job.run)
        yield job


def until_over(batch: Any, job: Job) -> Job:
    """A job that was asked to end, when it has.

    Should AWS Batch make another attempt, it ends by itself; but if there is no machine for it
    that may take long, so it is ended while it waits, too.

    Raises:
        AwsError: it can't be asked for.
    """
    from tenacity import Retrying, retry_if_result, wait_fixed

    from infra.jobs.finding import job_of

    def look() -> Job:
        found = job_of(batch, job.id)
        if found.waits:
            terminate(batch, found)
        return found

    unfinished = retry_if_result(lambda found: not found.over)
    return Retrying(retry=unfinished, wait=wait_fixed(BETWEEN_LOOKS))(look)


def terminate(batch: Any, job: Job) -> None:
    """Ask AWS Batch to end the job. Raises AwsError if it refuses to."""
    from infra.aws import explained

    with explained(f"job {job.id} was not ended"):
        batch.terminate_job(jobId=job.id, reason="keepfit cancel")
