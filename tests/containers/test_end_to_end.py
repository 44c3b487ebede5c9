"""A job on AWS Batch, from its submission to its end, through all that can end an attempt."""

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
    """An instance, and what a container on it finds."""
    machine = Machine()
    with serving(machine) as url:
        yield (
            machine,
            {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": url},
        )


def keepfit(*args: str | Path) -> str:
    """What the command prints."""
    tool = Path(sys.executable).with_name("keepfit")
    return subprocess.run([tool, *args], check=True, capture_output=True, text=True).stdout


def left_by(run: str, store: str, s3, folder: Path) -> dict[str, object]:
    """The weights of a run, bit for bit, its history, and its log."""
    weights = folder / f"{run}.safetensors"
    keepfit("export", run, "--to", weights, "--store", store)
    shown = json.loads(keepfit("show", run, "--store", store, "--json"))
    name, _, prefix = store.removeprefix("s3://").partition("/")
    log = s3.get_object(Bucket=name, Key=f"{prefix}/{run}/artifacts/training.csv")["Body"].read()
    tensors = {name: value.tobytes() for name, value in load_file(weights).items()}
    return {"weights": tensors, "history": shown["history"], "log": log}


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


def test_no_interruption_leaves_a_trace(submitted, machine, bucket, s3, tmp_path):
    """A notice, a stop and a lost host each end an attempt, and the result is as without them."""
    instance, environment = machine
    job: Job = submitted("interrupted", *LONG)
    job.environment |= environment
    ways = [end_by_notice, end_by_stop, end_by_lost_host]
    for attempt in job.attempts():
        if ways:
            ways.pop(0)(attempt, instance)
            instance.said.pop("spot/instance-action", None)
    assert job.endings == [Ending(75), Ending(75), Ending(None, HOST_LOST), Ending(0)]

    alone = submitted("alone", *LONG)
    for _ in alone.attempts():
        pass
    assert alone.endings == [Ending(0)]
    left = [left_by(run, f"{bucket}/runs", s3, tmp_path) for run in ("interrupted", "alone")]
    assert left[0] == left[1]
    assert len(left[0]["log"].splitlines()) == 31
