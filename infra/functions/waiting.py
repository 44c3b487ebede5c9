"""Ends jobs that have waited too long for a machine, or moves them to another region.

An EventBridge rule calls `handler` every five minutes, and when AWS Batch reports a blocked queue.
A job has waited since its last attempt ended, or since it was submitted. `submit --max-wait` limits
this time; the run is kept. A deployment with a second region submits the job there if this region
has had no machine for MOVE_AFTER minutes: either AWS Batch says so, or the limit of vCPUs leaves
room for the job. It often gives no reason for a job that waits for capacity.

A job is submitted there before it is ended here, so it can't be lost. A second call finds it there.
If two calls at once submit it twice, the store fences the older job. Its definition there, with the
same image, is the one that `keepfit submit` has named in the job; no other one is used.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
from botocore.exceptions import ClientError

MAX_WAIT = "KEEPFIT_MAX_WAIT"
SINCE = "KEEPFIT_WAITING_SINCE"
THERE = "KEEPFIT_OTHER_JOB"
PERIOD = 300
Action = Callable[[Any, dict[str, Any], float], str]
_OVER = {"SUCCEEDED", "FAILED"}

log = logging.getLogger("keepfit")
log.setLevel(logging.INFO)


def handler(event: dict[str, Any], context: object) -> None:
    """Log one line for each job that is ended, is moved, or can't be moved."""
    del event, context
    batch, queue, now = boto3.client("batch"), os.environ["QUEUE"], time.time()
    waiting = sorted(_jobs(batch, queue, "RUNNABLE"), key=_since)
    if not waiting:
        return
    started = [job for s in ("STARTING", "RUNNING") for job in _jobs(batch, queue, s)]
    free = sum(map(int, os.environ["VCPUS"].split())) - sum(map(_vcpus, started))
    for job in waiting:
        free -= _vcpus(job)
        waited = now - _since(job)
        for limit, act in _due(job, waited, fits=free >= 0):
            try:
                line, done = act(batch, job, waited), True
            except (LookupError, ClientError) as error:
                line, done = f"waits for a machine: {error}", False
            _report(job, line, new=waited < limit + PERIOD)
            if done:
                break


def _due(job: dict[str, Any], waited: float, *, fits: bool) -> list[tuple[float, Action]]:
    """Return the limits that the job has reached, in seconds, and what to do; the lowest first."""
    variables = _variables(job)
    if "KEEPFIT_RUN" not in variables:
        return []
    limits: list[tuple[float, Action]] = []
    if (most := variables.get(MAX_WAIT, "")).isdigit():
        limits.append((float(most), _end))
    if "OTHER_REGION" in os.environ and lacks_capacity(job, fits=fits):
        limits.append((float(os.environ["MOVE_AFTER"]) * 60, _move))
    return sorted((one for one in limits if waited >= one[0]), key=lambda one: one[0])


def lacks_capacity(job: dict[str, Any], *, fits: bool) -> bool:
    """Return whether the job waits for capacity of AWS; `fits`: the vCPUs' limit leaves room."""
    reason = job.get("statusReason", "")
    return reason.startswith("CAPACITY:") or (fits and not reason.startswith("MISCONFIG"))


def _end(batch: Any, job: dict[str, Any], waited: float) -> str:
    line = f"waited {waited / 60:.0f} minutes for a machine (--max-wait)"
    batch.terminate_job(jobId=job["jobId"], reason=line)
    return f"was ended: it {line}; `keepfit submit --resume` continues the run"


def _move(batch: Any, job: dict[str, Any], waited: float) -> str:
    region, queue = os.environ["OTHER_REGION"], os.environ["OTHER_QUEUE"]
    line = f"no capacity for {waited / 60:.0f} minutes"
    definition = _definition(job, region)
    if not definition:
        raise LookupError(f"{line}, and {region} lacks the job's definition or its secrets")
    there = boto3.client("batch", region_name=region)
    run = _variables(job)["KEEPFIT_RUN"]
    same = _jobs(there, queue, filters=[{"name": "JOB_NAME", "values": [job["jobName"]]}])
    ids = [j["jobId"] for j in same if _variables(j).get("KEEPFIT_RUN") == run]
    new = ids[0] if ids else there.submit_job(**_submit(job, queue, definition))["jobId"]
    batch.terminate_job(jobId=job["jobId"], reason=f"{line}: goes on in {region}, job {new}")
    return f"goes on in {region} as job {new}: {line}"


def _definition(job: dict[str, Any], region: str) -> str | None:
    """Return the ARN of the job's definition in the other region; None if it can't run there."""
    arn = _variables(job).get(THERE, "")
    return None if job["container"].get("secrets") or f":{region}:" not in arn else arn


def _submit(job: dict[str, Any], queue: str, definition: str) -> dict[str, Any]:
    """Return SubmitJob's arguments for the same job, without what belongs to this region."""
    kept = {
        k: v
        for k, v in _variables(job).items()
        if not k.startswith("AWS_BATCH") and k not in ("AWS_REGION", "AWS_DEFAULT_REGION", THERE)
    }
    kept[SINCE] = str(int(_since(job)))
    overrides = {
        "command": job["container"].get("command"),
        "environment": [{"name": k, "value": v} for k, v in kept.items()],
        "resourceRequirements": job["container"].get("resourceRequirements"),
    }
    return {
        "jobName": job["jobName"],
        "jobQueue": queue,
        "jobDefinition": definition,
        "containerOverrides": {k: v for k, v in overrides.items() if v},
        "tags": {k: v for k, v in job.get("tags", {}).items() if not k.startswith("aws:")},
    }


def _report(job: dict[str, Any], line: str, *, new: bool) -> None:
    """Log the line; publish it where the deployment has a topic, unless an earlier call has."""
    text = f"job {job['jobName']} ({job['jobId']}) {line}"
    log.warning(text)
    if new and "TOPIC" in os.environ:
        subject = "keepfit: a job waits for a machine"
        topic = os.environ["TOPIC"]
        boto3.client("sns").publish(TopicArn=topic, Subject=subject, Message=f"keepfit: {text}")


def _jobs(batch: Any, queue: str, status: str = "", **given: Any) -> Iterator[dict[str, Any]]:
    """Yield the jobs of the queue that are not over, as DescribeJobs describes them."""
    wanted = {"jobStatus": status} if status else given
    pages = batch.get_paginator("list_jobs").paginate(jobQueue=queue, **wanted)
    found = [j["jobId"] for p in pages for j in p["jobSummaryList"] if j["status"] not in _OVER]
    for start in range(0, len(found), 100):
        yield from batch.describe_jobs(jobs=found[start : start + 100])["jobs"]


def _variables(job: dict[str, Any]) -> dict[str, str]:
    listed = job.get("container", {}).get("environment", ())
    return {v["name"]: v.get("value", "") for v in listed}


def _since(job: dict[str, Any]) -> float:
    """Return the time from which the job waits, in whichever region that was."""
    ended = max((a.get("stoppedAt") or 0 for a in job.get("attempts", ())), default=0)
    first = _variables(job).get(SINCE, "")
    return float(first) if first.isdigit() and not ended else (ended or job["createdAt"]) / 1000


def _vcpus(job: dict[str, Any]) -> float:
    needs = job.get("container", {}).get("resourceRequirements", ())
    return sum(float(need["value"]) for need in needs if need["type"] == "VCPU")
