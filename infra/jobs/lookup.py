"""The jobs of a run, as AWS Batch knows them. It forgets a job a week after its end."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from keepfit.infra.aws import AwsError, explain_errors
from keepfit.infra.jobs.endings import Ending, explain

FINAL_STATES = frozenset({"SUCCEEDED", "FAILED"})
WAITING_STATES = frozenset({"SUBMITTED", "PENDING", "RUNNABLE"})
MAX_DESCRIBED = 100
MAX_LISTED = 1000
"""Largest number of jobs of a queue that are described: each 100 of them are a request."""

ACTIVE_STATES = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
ALL_STATES = (*ACTIVE_STATES, "SUCCEEDED", "FAILED")


class NoJob(AwsError):
    """AWS Batch knows no job of the run."""

    def __init__(self, run: str) -> None:
        super().__init__(
            f"AWS Batch knows no job of run {run!r} (it forgets a job a week after its end); "
            f"`keepfit ls` lists the runs of a store"
        )


@dataclass(frozen=True)
class Attempt:
    """One container of a job.

    Attributes:
        job: the id of the job.
        machine: the ARN of its ECS container instance, if it had one.
        stream: its log stream, if it has written anything.
        queue: the ARN of the job's queue.
        code: its exit code; None while it runs, and if its machine was lost.
        reason: the reason of its end, as AWS Batch gives it.
        explanation: its end in words; empty while it runs, and if it has ended well.
        job_attempt: its number in its job, from 1.
    """

    number: int
    job: str
    began: datetime | None
    ended: datetime | None
    code: int | None
    reason: str
    machine: str | None
    stream: str | None
    queue: str = ""
    explanation: str = ""
    job_attempt: int = 1

    @property
    def region(self) -> str | None:
        """The region in which it ran; None if AWS Batch names the queue without it."""
        return region_of(self.queue)


@dataclass(frozen=True)
class Job:
    """A job with its attempts in order.

    Attributes:
        queue: the ARN of its queue.
        store: the URI of the run's store; empty if the job's variables do not name it.
    """

    id: str
    name: str
    run: str
    status: str
    reason: str
    created: datetime
    queue: str
    store: str
    attempts: tuple[Attempt, ...]

    @property
    def over(self) -> bool:
        return self.status in FINAL_STATES

    @property
    def waits(self) -> bool:
        """True while the job waits for a machine, for its first attempt or for another one."""
        return self.status in WAITING_STATES


def job_name(run: str) -> str:
    """Return the name of a run's jobs: AWS Batch allows no dots, plus signs and equals signs."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", run)


def region_of(arn: str) -> str | None:
    """Return the region of an ARN; None for a name."""
    return arn.split(":")[3] if arn.startswith("arn:") else None


def jobs_of(batch: Any, queue: str, run: str) -> list[Job]:
    """Return all jobs of the run that AWS Batch still knows, the newest first.

    Raises:
        AwsError: AWS refuses the request or does not answer.
    """
    with explain_errors(f"the jobs of run {run!r}"):
        pages = batch.get_paginator("list_jobs").paginate(
            jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [job_name(run)]}]
        )
        ids = [found["jobId"] for page in pages for found in page["jobSummaryList"]]
        jobs = [job for job in _described(batch, ids) if job.run == run]
    return sorted(jobs, key=lambda job: job.created, reverse=True)


def newest_job(batch: Any, queue: str, run: str) -> Job:
    """Return the run's newest job, with the attempts of all its jobs, numbered consecutively.

    Raises:
        NoJob: there is none.
        AwsError: AWS refuses the request or does not answer.
    """
    return newest_of(jobs_of(batch, queue, run), run)


def newest_of(found: Sequence[Job], run: str) -> Job:
    """Return the first of the run's jobs, with the attempts of all; `found` has the newest first.

    Raises:
        NoJob: there is none.
    """
    if not found:
        raise NoJob(run)
    attempts = [attempt for job in reversed(found) for attempt in job.attempts]
    counted = (replace(attempt, number=n) for n, attempt in enumerate(attempts, 1))
    return replace(found[0], attempts=tuple(counted))


@dataclass(frozen=True)
class QueueJobs:
    """The jobs of keepfit in a queue, the newest first; `left_out` is the number of older ones."""

    jobs: tuple[Job, ...]
    left_out: int


def jobs_of_queue(
    batch: Any, queue: str, limit: int = MAX_LISTED, states: Sequence[str] = ALL_STATES
) -> QueueJobs:
    """Return the jobs of a queue in these states that AWS Batch still knows, the newest first.

    Raises:
        AwsError: AWS refuses the request or does not answer.
    """
    with explain_errors(f"the jobs of queue {queue}"):
        paginator = batch.get_paginator("list_jobs")
        listed = {
            found["jobId"]: found.get("createdAt", 0)
            for state in states  # a job may change its state between two requests
            for page in paginator.paginate(jobQueue=queue, jobStatus=state)
            for found in page["jobSummaryList"]
        }
        newest = sorted(listed, key=listed.__getitem__, reverse=True)
        jobs = sorted(_described(batch, newest[:limit]), key=lambda job: job.created, reverse=True)
    return QueueJobs(tuple(jobs), max(0, len(newest) - limit))


def describe_job(batch: Any, job_id: str) -> Job:
    """Return the current state of the job with that id."""
    with explain_errors(f"job {job_id}"):
        (found,) = _described(batch, [job_id])
    return found


def variables_of(container: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of a container of a job, or of a definition, by name."""
    return {v["name"]: v.get("value", "") for v in container.get("environment", ())}


def _described(batch: Any, ids: list[str]) -> Iterator[Job]:
    for start in range(0, len(ids), MAX_DESCRIBED):
        answer = batch.describe_jobs(jobs=ids[start : start + MAX_DESCRIBED])
        yield from map(_job, answer["jobs"])


def _job(found: dict[str, Any]) -> Job:
    container = found.get("container", {})
    variables = variables_of(container)
    job = found["jobId"]
    queue = found["jobQueue"]
    attempts = [_attempt(n, job, a, queue) for n, a in enumerate(found.get("attempts", ()), 1)]
    if found["status"] == "RUNNING" and all(a.ended for a in attempts):
        attempts.append(
            Attempt(
                number=len(attempts) + 1,
                job=job,
                began=_time(found.get("startedAt")),
                ended=None,
                code=None,
                reason="",
                machine=container.get("containerInstanceArn"),
                stream=container.get("logStreamName"),
                queue=queue,
                job_attempt=len(attempts) + 1,
            )
        )
    return Job(
        id=job,
        name=found["jobName"],
        run=variables.get("KEEPFIT_RUN", ""),
        status=found["status"],
        reason=found.get("statusReason", ""),
        created=_time(found.get("createdAt")) or datetime.fromtimestamp(0, UTC),
        queue=found["jobQueue"],
        store=variables.get("KEEPFIT_STORE", ""),
        attempts=tuple(attempts),
    )


def _attempt(number: int, job: str, found: dict[str, Any], queue: str = "") -> Attempt:
    container = found.get("container", {})
    code, reason = container.get("exitCode"), container.get("reason", "")
    status = found.get("statusReason", "")
    return Attempt(
        number=number,
        job=job,
        began=_time(found.get("startedAt")),
        ended=_time(found.get("stoppedAt")),
        code=code,
        reason=reason or status,
        machine=container.get("containerInstanceArn"),
        stream=container.get("logStreamName"),
        queue=queue,
        explanation=explain(Ending(code, reason, status)),
        job_attempt=number,
    )


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
