"""A job file with packages and a large file, whose job is interrupted and goes on elsewhere."""

from __future__ import annotations

import os
import time

import boto3
import pytest

from keepfit.infra import deployment
from keepfit.infra.functions import waiting
from tests.containers.batch import Ending
from tests.containers.conftest import job_of
from tests.containers.engine import image
from tests.containers.test_end_to_end import end_by_notice, machine, results_of
from tests.job.conftest import keepfit
from tests.requirements.samples import wheel

__all__ = ["machine"]

pytestmark = pytest.mark.container

SECOND = "eu-west-1"
DRY = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested"

SCRIPT = """
import keras, numpy
import alpha

keras.utils.set_random_seed(3)
numbers = numpy.random.default_rng(5)
with open("/scratch/data.bin", "wb") as file:
    for _ in range(128):
        file.write(numbers.random((1024, 1000), numpy.float32).tobytes())
data = numpy.memmap("/scratch/data.bin", numpy.float32, "r", shape=(131072, 1000))
print(f"{data.nbytes >> 20} MiB, alpha {alpha.VERSION}", flush=True)
x = numpy.array(data[::32])
model = keras.Sequential([keras.layers.Dense(64, activation="relu"), keras.layers.Dense(1)])
model.compile("adam", "mse")
announce = keras.callbacks.LambdaCallback(
    on_epoch_begin=lambda epoch, logs: print(f"Epoch {epoch + 1} starts", flush=True)
)
callbacks = [keras.callbacks.CSVLogger("training.csv"), announce]
model.fit(x, x.sum(1), epochs=20, verbose=0, callbacks=callbacks)
"""

JOB_FILE = """
script = "train.py"
store = "{store}"
image = "{image}"
deterministic = true
save-every = "2s"
"""


@pytest.fixture
def both_regions(bucket, request, monkeypatch):
    """A deployment with a second region. The store of the tests is on another server than these."""
    s3 = os.environ["AWS_ENDPOINT_URL_S3"]
    store = request.getfixturevalue("deployed").store
    keepfit("infra", "up", "--yes", "--policy", "arn:aws:iam::aws:policy/AmazonS3FullAccess")
    keepfit("infra", "up", "--yes", "--region", SECOND, "--store", store)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3)
    return deployment.find_deployment(boto3.client("cloudformation"))


@pytest.fixture
def project(bucket, tmp_path, monkeypatch):
    """The current folder: a script, its job file, and requirements of a package index."""
    folder, index = tmp_path / "project", tmp_path / "index"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    (folder / "requirements.txt").write_text("alpha\n")
    job = JOB_FILE.format(store=f"{bucket}/regions", image=image())
    (folder / "keepfit.toml").write_text(job)
    wheel(index, "alpha")
    for name, value in {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": index}.items():
        monkeypatch.setenv(f"PIP_{name}", str(value))
    monkeypatch.chdir(folder)
    return folder


def move_for_lack_of_capacity(both_regions, job, monkeypatch):
    """Call the deployment's function about a job that has waited for a machine for an hour.

    moto's jobs end at once, so the job waits in its answers only.
    """
    waits = {"status": "RUNNABLE", "createdAt": int(time.time() - 3600) * 1000}

    def list_waiting(parsed, context, **_):
        if context["client_region"] != SECOND:
            parsed["jobSummaryList"] = [{"jobId": job.id, **waits}]

    def describe_waiting(parsed, context, **_):
        if context["client_region"] != SECOND:
            for found in parsed["jobs"]:
                found |= {**waits, "statusReason": DRY, "attempts": []}

    variables = {
        "QUEUE": both_regions.queue,
        "VCPUS": "64 0",
        "MOVE_AFTER": "30",
        "OTHER_REGION": SECOND,
        "OTHER_QUEUE": both_regions.other.queue,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    boto3.setup_default_session()
    events = boto3.DEFAULT_SESSION.events
    events.register("after-call.batch.ListJobs", list_waiting)
    events.register("after-call.batch.DescribeJobs", describe_waiting)
    waiting.handler({}, None)
    boto3.setup_default_session()


def test_a_job_goes_on_in_another_region(
    both_regions, project, machine, bucket, s3, tmp_path, monkeypatch
):
    """It ends as one that was never interrupted, with its packages and 500 MiB in /scratch."""
    instance, environment = machine
    keepfit("submit", "--run", "moved")
    first = job_of(boto3.client("batch"), both_regions.queue, "moved")
    first.environment = {**first.environment, **environment}
    attempt = next(attempts := first.attempts())
    attempt.container.until(lambda line: line == "500 MiB, alpha 1.0\n")
    end_by_notice(attempt, instance)
    assert attempt.container.wait().code == 75
    attempts.close()
    instance.documents.pop("spot/instance-action", None)

    move_for_lack_of_capacity(both_regions, first, monkeypatch)
    there = boto3.client("batch", region_name=SECOND)
    second = job_of(there, both_regions.other.queue, "moved")
    for attempt in second.attempts():
        assert attempt.container.until_event("resumed")["epoch"] >= 2
    assert second.endings == [Ending(0)]

    keepfit("submit", "--run", "whole")
    whole = job_of(boto3.client("batch"), both_regions.queue, "whole")
    for _ in whole.attempts():
        pass
    assert whole.endings == [Ending(0)]
    store = f"{bucket}/regions"
    assert results_of("moved", store, s3, tmp_path) == results_of("whole", store, s3, tmp_path)
