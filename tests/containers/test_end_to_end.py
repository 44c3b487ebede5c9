"""A job on AWS Batch, from its submission to its end, with every way to end an attempt."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.containers.batch import HOST_LOST, Ending, Job
from tests.imds import Machine, serving

pytestmark = pytest.mark.container

LONG = ("--epochs", "30", "--patience", "30")


@pytest.fixture
def machine():
    """An instance with a metadata service, and the variables of a container on it."""
    machine = Machine()
    with serving(machine) as url:
        yield (
            machine,
            {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": url},
        )


def keepfit(*args: str | Path) -> str:
    """Run `keepfit` and return its output."""
    tool = Path(sys.executable).with_name("keepfit")
    return subprocess.run([tool, *args], check=True, capture_output=True, text=True).stdout


def results_of(run: str, store: str, s3, folder: Path) -> dict[str, object]:
    """Return the weights of a run as bytes, its history, and its CSV log."""
    weights = folder / f"{run}.safetensors"
    keepfit("export", run, "--to", weights, "--store", store)
    described = json.loads(keepfit("show", run, "--store", store, "--json"))
    name, _, prefix = store.removeprefix("s3://").partition("/")
    log = s3.get_object(Bucket=name, Key=f"{prefix}/{run}/artifacts/training.csv")["Body"].read()
    tensors = {name: value.tobytes() for name, value in load_file(weights).items()}
    return {"weights": tensors, "history": described["history"], "log": log}


def end_by_notice(attempt, machine):
    attempt.container.until(lambda line: line == "Epoch 3 starts\n")
    machine.interrupt(8)
    assert attempt.container.until_event("notice")["source"]


def end_by_stop(attempt, machine):
    attempt.container.until_event("resumed")
    attempt.container.until(lambda line: line.endswith(" starts\n"))
    attempt.container.stop()


def end_by_lost_host(attempt, machine):
    attempt.container.until_event("checkpoint_saved")
    attempt.container.until(lambda line: line.endswith(" starts\n"))
    attempt.lose_host()


def test_interruptions_do_not_change_the_result(submitted, machine, bucket, s3, tmp_path):
    """A notice, a stop and a lost host each end an attempt; the result is the same."""
    instance, environment = machine
    job: Job = submitted("interrupted", *LONG)
    job.environment |= environment
    endings = [end_by_notice, end_by_stop, end_by_lost_host]
    for attempt in job.attempts():
        if endings:
            endings.pop(0)(attempt, instance)
            instance.documents.pop("spot/instance-action", None)
    assert job.endings == [Ending(75), Ending(75), Ending(None, HOST_LOST), Ending(0)]

    uninterrupted = submitted("whole", *LONG)
    for _ in uninterrupted.attempts():
        pass
    assert uninterrupted.endings == [Ending(0)]
    interrupted, whole = (
        results_of(run, f"{bucket}/runs", s3, tmp_path) for run in ("interrupted", "whole")
    )
    assert interrupted == whole
    assert len(interrupted["log"].splitlines()) == 31
