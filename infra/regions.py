"""The queues of a deployment in one or two regions, and the jobs of a run in all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keepfit.infra import aws
from keepfit.infra.deployment import Deployment
from keepfit.infra.jobs import lookup
from keepfit.infra.jobs.lookup import Job, QueueJobs


@dataclass(frozen=True)
class RegionQueue:
    """A job queue, and a client of AWS Batch in its region."""

    batch: Any
    queue: str


def queues_of(deployment: Deployment, queue: str | None = None) -> tuple[RegionQueue, ...]:
    """Return the deployment's queues, that of this region first.

    Args:
        queue: the only queue to return, in this region.

    Raises:
        AwsError: the configuration can't be used.
    """
    own = RegionQueue(aws.client("batch"), queue or deployment.queue)
    if queue or deployment.other is None:
        return (own,)
    other = deployment.other
    return own, RegionQueue(aws.client("batch", other.region), other.queue)


def jobs_of(queues: Sequence[RegionQueue], run: str) -> list[Job]:
    """Return all jobs of the run in these queues, the newest first.

    Raises:
        AwsError: AWS refuses a request or does not answer.
    """
    found = [job for one in queues for job in lookup.jobs_of(one.batch, one.queue, run)]
    return sorted(found, key=lambda job: job.created, reverse=True)


def newest_job(queues: Sequence[RegionQueue], run: str) -> Job:
    """Return the run's newest job in these queues, with the attempts of all its jobs.

    Raises:
        NoJob: there is none.
        AwsError: AWS refuses a request or does not answer.
    """
    return lookup.newest_of(jobs_of(queues, run), run)


def jobs_of_queues(
    queues: Sequence[RegionQueue],
    limit: int = lookup.MAX_LISTED,
    states: Sequence[str] = lookup.ALL_STATES,
) -> QueueJobs:
    """Return the newest jobs of these queues in these states, at most `limit` of each queue.

    Raises:
        AwsError: AWS refuses a request or does not answer.
    """
    found = [lookup.jobs_of_queue(one.batch, one.queue, limit, states) for one in queues]
    jobs = sorted((job for one in found for job in one.jobs), key=lambda j: j.created, reverse=True)
    return QueueJobs(tuple(jobs), sum(one.left_out for one in found))


def batch_of(queues: Sequence[RegionQueue], job: Job) -> Any:
    """Return the client of AWS Batch in the job's region."""
    region = lookup.region_of(job.queue)
    own = (one.batch for one in queues if one.batch.meta.region_name == region)
    return next(own, queues[0].batch)
