"""Poll the jobs of a run: their log lines, and their end."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from keepfit.job.commands.failures import store_errors_exit

if TYPE_CHECKING:
    from keepfit.callbacks.checkpoint.read.inspection import Summary
    from keepfit.infra.jobs.lookup import Job
    from keepfit.infra.regions import RegionQueue

POLL_SECONDS = 4.0
"""Seconds between two polls, plus up to a quarter: AWS Batch allows few requests."""


def summarize_run(store: str, run: str) -> Summary | None:
    """Return a summary of the run in the store, or None if the store has no such run."""
    from keepfit.callbacks.checkpoint.read import inspection
    from keepfit.callbacks.storage import open_store

    with store_errors_exit():
        try:
            return inspection.summarize(open_store(store), run)
        except inspection.NoSuchRun:
            return None


def log_lines(
    queues: Sequence[RegionQueue], job: Job, group: str, *, follow: bool, only: int | None
) -> Iterator[str]:
    """Yield the lines that the attempts have written, in order.

    Args:
        queues: those in which the run may have jobs.
        group: the log group, of the same name in all regions.
        follow: continue until the job is over.
        only: the number of the only attempt to read; None for all.

    Raises:
        AwsError: the lines can't be read.
    """
    from keepfit.infra import aws
    from keepfit.infra.jobs.logs import Stream

    client = cache(lambda region: aws.client("logs", region))
    streams: dict[str, Stream] = {}
    for found in _poll_job(queues, job, follow=follow):
        for one in found.attempts:
            if not one.stream or only not in (None, one.number):
                continue
            if one.stream not in streams:
                streams[one.stream] = Stream(client(one.region), group, one.stream)
                if only is None:
                    yield f"=== attempt {one.number} ==="
            yield from streams[one.stream].new_lines()
        sys.stdout.flush()


def _poll_job(queues: Sequence[RegionQueue], job: Job, *, follow: bool) -> Iterator[Job]:
    """Yield the run's job as it is now; with `follow`, at each poll, and once after it is over.

    A job that is submitted again, after its last attempt or in another region, is another job of
    the same run.
    """
    from keepfit.infra.regions import newest_job

    yield job
    was_over = False
    while follow and not (was_over and job.over):
        was_over = job.over
        time.sleep(random.uniform(1, 1.25) * POLL_SECONDS)  # noqa: S311 # nosec B311 # no secret
        job = newest_job(queues, job.run)
        yield job


def wait_until_over(batch: Any, job: Job) -> Job:
    """Wait until a cancelled job is over, and return it.

    AWS Batch does not retry a terminated job. If the request has crossed with the end of an
    attempt and the job waits for another one, it is terminated once more: without a machine that
    may take long.

    Raises:
        AwsError: the job can't be read or terminated.
    """
    from tenacity import Retrying, retry_if_result, wait_fixed

    from keepfit.infra.jobs.lookup import describe_job

    def read() -> Job:
        found = describe_job(batch, job.id)
        if found.waits:
            terminate_job(batch, found)
        return found

    unfinished = retry_if_result(lambda found: not found.over)
    return Retrying(retry=unfinished, wait=wait_fixed(POLL_SECONDS))(read)


def terminate_job(batch: Any, job: Job) -> None:
    """Ask AWS Batch to terminate the job.

    Raises:
        AwsError: AWS Batch refuses to.
    """
    from keepfit.infra.aws import explain_errors

    with explain_errors(f"job {job.id} was not terminated"):
        batch.terminate_job(jobId=job.id, reason="keepfit cancel")
