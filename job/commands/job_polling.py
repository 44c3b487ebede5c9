"""A run's jobs, as they go on: what they log, and when they are over."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from keepfit.job.commands.failures import store_errors_exit

if TYPE_CHECKING:
    from keepfit.callbacks.checkpoint.inspection import Summary
    from keepfit.infra.jobs.lookup import Job

POLL_SECONDS = 4.0
"""Seconds, and up to a quarter more: AWS Batch allows few requests."""


def summarize_run(store: str, run: str) -> Summary | None:
    """What the store has of the run."""
    from keepfit.callbacks.checkpoint import inspection
    from keepfit.callbacks.storage import open_store

    with store_errors_exit():
        try:
            return inspection.summarize(open_store(store), run)
        except inspection.NoSuchRun:
            return None


def log_lines(batch: Any, job: Job, group: str, *, follow: bool, only: int | None) -> Iterator[str]:
    """What the attempts have written, in order.

    Raises:
        AwsError: it can't be read.
    """
    from keepfit.infra import aws
    from keepfit.infra.jobs.logs import Stream

    client = aws.client("logs")
    streams: dict[str, Stream] = {}
    for found in _poll_job(batch, job, follow=follow):
        for one in found.attempts:
            if not one.stream or only not in (None, one.number):
                continue
            if one.stream not in streams:
                streams[one.stream] = Stream(client, group, one.stream)
                if only is None:
                    yield f"=== attempt {one.number} ==="
            yield from streams[one.stream].new_lines()
        sys.stdout.flush()


def _poll_job(batch: Any, job: Job, *, follow: bool) -> Iterator[Job]:
    """The run's job as it is now; with `follow`, again and again, and once after it is over.

    A job that is submitted again after its last attempt is another one of the same run.
    """
    from keepfit.infra.jobs.lookup import newest_job

    yield job
    was_over = False
    while follow and not (was_over and job.over):
        was_over = job.over
        time.sleep(random.uniform(1, 1.25) * POLL_SECONDS)  # noqa: S311 # no secret
        job = newest_job(batch, job.queue, job.run)
        yield job


def wait_until_over(batch: Any, job: Job) -> Job:
    """A job that was asked to end, when it has.

    Should AWS Batch make another attempt, it ends by itself; but if there is no machine for it
    that may take long, so it is ended while it waits, too.

    Raises:
        AwsError: it can't be asked for.
    """
    from tenacity import Retrying, retry_if_result, wait_fixed

    from keepfit.infra.jobs.lookup import describe_job

    def look() -> Job:
        found = describe_job(batch, job.id)
        if found.waits:
            terminate_job(batch, found)
        return found

    unfinished = retry_if_result(lambda found: not found.over)
    return Retrying(retry=unfinished, wait=wait_fixed(POLL_SECONDS))(look)


def terminate_job(batch: Any, job: Job) -> None:
    """Ask AWS Batch to end the job. Raises AwsError if it refuses to."""
    from keepfit.infra.aws import explain_errors

    with explain_errors(f"job {job.id} was not ended"):
        batch.terminate_job(jobId=job.id, reason="keepfit cancel")
