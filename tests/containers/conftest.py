"""Jobs for the local runner, submitted as by a user."""

from __future__ import annotations

import os

import boto3
import pytest

from tests.containers.batch import Job
from tests.containers.engine import image, store_environment
from tests.e2e.process import MNIST
from tests.job.conftest import aws, deployed, keepfit, moto_server

__all__ = ["aws", "deployed", "moto_server"]


@pytest.fixture
def submitted(bucket, request, monkeypatch):
    """Return a function that submits a script under a run name, with a store on S3."""
    s3 = os.environ["AWS_ENDPOINT_URL_S3"]
    deployment = request.getfixturevalue("deployed")
    # The bucket is on another server than the deployment, so it is outside of its store.
    keepfit("infra", "up", "--yes", "--policy", "arn:aws:iam::aws:policy/AmazonS3FullAccess")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3)

    def submit(run, *args, script=MNIST, options=("--deterministic", "--save-every", "2s")):
        keepfit(
            *("submit", "--run", run, "--image", image(), "--store", f"{bucket}/runs", "--fresh"),
            *(*options, script, *args),
        )
        return job_of(boto3.client("batch"), deployment.queue, run)

    return submit


def job_of(batch, queue, run):
    """Return the run's newest job in a queue for the local runner."""
    listed = batch.list_jobs(jobQueue=queue, filters=[{"name": "JOB_NAME", "values": [run]}])
    (job,) = batch.describe_jobs(jobs=[listed["jobSummaryList"][0]["jobId"]])["jobs"]
    described = batch.describe_job_definitions(jobDefinitions=[job["jobDefinition"]])
    (definition,) = described["jobDefinitions"]
    return Job(definition, job["container"], store_environment(), job["jobId"])
