"""Submits a job again after its last attempt, if its run has progressed since.

AWS Batch gives a job ten attempts. An EventBridge rule calls `handler` when an interrupted job has
used them up: by notices, lost machines, and containers that the machine's agent could not start or
inspect. Ten interruptions are normal in a long training; a run without any progress between them is
not (its image may be missing), and would cost money forever. What is not submitted again is
published to the topic of the deployment, if it has one.

Events may arrive twice. Two jobs of one run are harmless: the store fences the older one.
"""

from __future__ import annotations

import logging
import os
import re
from typing import Any

import boto3

SINCE = "KEEPFIT_RESUBMITTED_AT"
_MANIFEST = re.compile(r"/checkpoints/(\d+)-\d+-\d+\.json$")
_MACHINE = ("Host EC2", "Task failed to start", "CgroupError", "DockerTimeoutError")
_PAYS = {"requester", "1", "true", "yes", "on"}
_DROPPED = {"KEEPFIT_FRESH", "KEEPFIT_WAITING_SINCE", SINCE}

log = logging.getLogger("keepfit")
log.setLevel(logging.INFO)


def handler(event: dict[str, Any], context: object) -> str | None:
    """Return the id of the new job, or None. In both cases one line is logged."""
    del context
    batch = boto3.client("batch")
    (job,) = batch.describe_jobs(jobs=[event["detail"]["jobId"]])["jobs"]
    name = f"job {job['jobName']} ({job['jobId']})"
    variables = {v["name"]: v.get("value", "") for v in job["container"].get("environment", ())}
    if job.get("isTerminated") or job.get("isCancelled"):
        log.info("%s is not submitted again: it was terminated or cancelled", name)
        return None
    if reason := _skip(job, variables):
        _give_up(name, reason)
        return None
    run, since = variables["KEEPFIT_RUN"], int(variables.get(SINCE, "0"))
    step = newest_step(variables["KEEPFIT_STORE"], run, _options(variables))
    if step <= since:
        ended = job["container"].get("reason") or job.get("statusReason")
        reason = f"run {run} got no further than batch {step} in its last attempts; see their logs"
        _give_up(name, f"{reason} (the last one: {ended})")
        return None
    submitted = _submit(batch, _submit_again(job, variables, step))
    log.info("%s is submitted again as %s: run %s is at batch %d", name, submitted, run, step)
    return submitted


def newest_step(store: str, run: str, options: dict[str, str]) -> int:
    """Return the number of batches trained at the newest checkpoint; 0 without one."""
    bucket, _, prefix = store.removeprefix("s3://").strip("/").partition("/")
    within = "/".join(part for part in (prefix.strip("/"), run, "checkpoints/") if part)
    pages = boto3.client("s3").get_paginator("list_objects_v2")
    keys = (
        found["Key"]
        for page in pages.paginate(Bucket=bucket, Prefix=within, **options)
        for found in page.get("Contents", ())
    )
    return max((int(match[1]) for match in map(_MANIFEST.search, keys) if match), default=0)


def _options(variables: dict[str, str]) -> dict[str, str]:
    """Return the parameters that the job's own listings have."""
    owner = variables.get("KEEPFIT_S3_EXPECTED_BUCKET_OWNER", "")
    pays = variables.get("KEEPFIT_S3_REQUEST_PAYER", "").lower() in _PAYS
    options = {"ExpectedBucketOwner": owner, "RequestPayer": "requester" if pays else ""}
    return {name: value for name, value in options.items() if value}


def _give_up(name: str, reason: str) -> None:
    """Log the reason, and publish it where the deployment has a topic."""
    text = f"{name} is not submitted again: {reason}"
    log.error(text)
    if topic := os.environ.get("TOPIC"):
        subject = "keepfit: a job is not submitted again"
        boto3.client("sns").publish(TopicArn=topic, Subject=subject, Message=f"keepfit: {text}")


def _skip(job: dict[str, Any], variables: dict[str, str]) -> str | None:
    """Return why the job can't be submitted again, whatever its run has done; or None."""
    exit_code, reason = job["container"].get("exitCode"), job["container"].get("reason", "")
    status = job.get("statusReason", "")
    by_machine = status.startswith(_MACHINE) or reason.startswith("Cannot")
    if exit_code != 75 and not by_machine:
        return f"it was not interrupted (exit code {exit_code}, {reason or status})"
    if "KEEPFIT_RUN" not in variables:
        return "it names no run in KEEPFIT_RUN"
    if not variables.get("KEEPFIT_STORE", "").startswith("s3://"):
        return "its KEEPFIT_STORE is not in S3"
    return None


def _submit(batch: Any, request: dict[str, Any]) -> str:
    """Submit the job and return its id; without tags if the role may not set them."""
    try:
        job_id: str = batch.submit_job(**request)["jobId"]
    except batch.exceptions.ClientError as error:
        if "batch:TagResource" not in str(error):
            raise
        log.warning("job %s is submitted without its tags: %s", request["jobName"], error)
        job_id = batch.submit_job(**{**request, "tags": {}})["jobId"]
    return job_id


def _submit_again(job: dict[str, Any], variables: dict[str, str], step: int) -> dict[str, Any]:
    """Return SubmitJob's arguments for the same job, without AWS Batch's own variables."""
    kept = {
        k: v for k, v in variables.items() if k not in _DROPPED and not k.startswith("AWS_BATCH")
    }
    container = job["container"]
    overrides = {
        "command": container.get("command"),
        "environment": [{"name": k, "value": v} for k, v in {**kept, SINCE: str(step)}.items()],
        "resourceRequirements": container.get("resourceRequirements"),
    }
    return {
        "jobName": job["jobName"],
        "jobQueue": job["jobQueue"],
        "jobDefinition": job["jobDefinition"],
        "containerOverrides": {k: v for k, v in overrides.items() if v},
        "tags": {k: v for k, v in job.get("tags", {}).items() if not k.startswith("aws:")},
    }
