"""Signals, a second process, a full disk, and a script's own errors."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from contextlib import contextmanager

import pytest

from tests.e2e.process import SMALL, document, result, run, small, started
from tests.imds import Machine, serving

FLAGS = ("--deterministic", "--resume", "--save-every", "3 batches", SMALL)
ENDLESS = ("--epochs", "1000000", "--patience", "1000000")


@pytest.mark.parametrize(
    ("moment", "step"),
    [
        ("batch_end:0:0", 1),
        ("batch_begin:1:7", 28),
        ("validation:2:1", 60),
        ("epoch_end:2:0", 60),
        ("epoch_begin:3:0", 61),
    ],
)
def test_sigterm_loses_nothing(tmp_path, uninterrupted, moment, step):
    """It exits with 75 within one batch and saves that batch; the next attempt resumes there."""
    ended = small(tmp_path, "tfdata", "--kill", f"{moment}:SIGTERM", save_every="1h")
    assert ended.code == 75, ended.err
    preempted = ended.one("preempted")
    assert (preempted["source"], preempted["step"]) == ("SIGTERM", step)
    assert preempted["saved"] is True
    again = small(tmp_path, "tfdata", save_every="1h")
    assert again.code == 0, again.err
    assert again.one("resumed")["step"] == step
    assert result(tmp_path) == uninterrupted("tfdata")


def test_sigterm_and_sigint_from_outside(tmp_path, uninterrupted):
    """As by `docker stop` and Ctrl-C, at any moment."""
    for number in (signal.SIGTERM, signal.SIGINT):
        with started(tmp_path, *FLAGS, "tfdata", *ENDLESS) as attempt:
            attempt.until_event("checkpoint_saved")
            attempt.send(number)
            ended = attempt.wait()
        assert ended.code == 75, ended.err
        saved, preempted = ended.named("checkpoint_saved")[-1], ended.one("preempted")
        assert (preempted["source"], preempted["step"]) == (number.name, saved["step"])


def test_second_sigint_exits_at_once(tmp_path, uninterrupted):
    """Even if the batch does not end; the store stays intact, and the run resumes."""
    assert small(tmp_path, "tfdata", "--kill", "batch_end:1:9").code == -signal.SIGKILL
    with started(tmp_path, *FLAGS, "tfdata", "--stuck") as attempt:
        attempt.until(lambda line: line == "stuck\n")
        attempt.send(signal.SIGINT)
        assert "a second Ctrl-C exits at once" in attempt.until_event("notice")["reaction"]
        attempt.send(signal.SIGINT)
        assert attempt.wait().code == 128 + signal.SIGINT
    assert small(tmp_path, "tfdata").code == 0
    assert result(tmp_path) == uninterrupted("tfdata")


def test_signal_before_training_ends_the_process(tmp_path):
    """Before training there is nothing to save; 75 says that the job may be retried."""
    script = tmp_path / "slow.py"
    script.write_text("import threading\nprint('loading', flush=True)\nthreading.Event().wait()\n")
    with started(tmp_path, script) as attempt:
        attempt.until(lambda line: line == "loading\n")
        attempt.send(signal.SIGTERM)
        assert attempt.wait().code == 75


def test_spot_notice(tmp_path, uninterrupted, bucket):
    """A Spot notice in the instance metadata, without a signal: saved to S3, code 75, and exact.

    The time until the interruption is used: it saves at once, trains on, and saves again.
    """
    machine = Machine()
    with serving(machine) as url:
        environment = {
            "AWS_EC2_METADATA_DISABLED": "false",
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": url,
            "KEEPFIT_STORE": f"{bucket}/spot",
        }
        flags = ("--deterministic", "--save-every", "1h", SMALL, "infinite")
        with started(tmp_path, *flags, "--batch-seconds", "0.2", **environment) as attempt:
            assert attempt.until_event("machine_watched")
            machine.recommend()
            saved = attempt.until_event("checkpoint_saved")
            machine.interrupt(15)
            assert "train on" in attempt.until_event("notice")["reaction"]
            first = attempt.until_event("checkpoint_saved")
            ended = attempt.wait()
    assert ended.code == 75, ended.err
    preempted = ended.one("preempted")
    assert preempted["source"] == "spot/instance-action: terminate"
    assert preempted["saved"]
    assert preempted["step"] > first["step"] > saved["step"]
    other = tmp_path / "other"
    other.mkdir()
    again = small(other, "infinite", KEEPFIT_STORE=f"{bucket}/spot", save_every="1h")
    assert again.code == 0, again.err
    assert again.one("resumed")["step"] == preempted["step"]
    assert result(other) == uninterrupted("infinite")


@pytest.fixture(params=["file", "s3"])
def store(request, tmp_path):
    """Return the address of an empty store of each kind."""
    if request.param == "file":
        return f"file://{tmp_path}/store"
    return f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}"


def test_sigterm_on_s3(tmp_path, uninterrupted, bucket):
    """The last checkpoint is in the bucket before the process exits; another machine resumes."""
    more = {"KEEPFIT_STORE": f"{bucket}/sigterm", "save_every": "1h"}
    ended = small(tmp_path, "tfdata", "--kill", "batch_begin:1:7:SIGTERM", **more)
    assert (ended.code, ended.one("preempted")["saved"]) == (75, True), ended.err
    other = tmp_path / "other"
    other.mkdir()
    again = small(other, "tfdata", **more)
    assert again.code == 0, again.err
    assert again.one("resumed")["step"] == 28
    assert result(other) == uninterrupted("tfdata")


def test_newer_attempt_fences_the_older(tmp_path, uninterrupted, store):
    """The older attempt exits with 76 and has changed nothing: the newer one ends exactly."""
    other = tmp_path / "other"
    other.mkdir()
    with started(tmp_path, "--store", store, *FLAGS, "tfdata", *ENDLESS) as older:
        older.until_event("checkpoint_saved")
        newer = run(other, "--store", store, "--fresh", *FLAGS, "tfdata")
        fenced = older.wait()
    assert fenced.code == 76, fenced.err
    assert fenced.one("fenced")["attempt"] == 1
    assert newer.code == 0, newer.err
    assert result(other) == uninterrupted("tfdata")
    again = run(other, "--store", store, *FLAGS, "tfdata")
    assert again.one("already_finished")
    assert result(other) == uninterrupted("tfdata")


def test_newer_attempt_takes_over_while_the_older_trains(tmp_path):
    """Without --fresh, the newer attempt resumes from the older one's checkpoint and fences it."""
    with started(tmp_path, *FLAGS, "infinite", *ENDLESS) as older:
        older.until_event("checkpoint_saved")
        with started(tmp_path, *FLAGS, "infinite", *ENDLESS) as newer:
            resumed = newer.until_event("resumed")
            newer.until_event("checkpoint_saved")
            assert older.wait().code == 76
    assert resumed["step"] > 0


def test_full_disk_does_not_stop_training(tmp_path, uninterrupted):
    """Each failed save is logged, training continues, and 74 says that its end was not saved."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with limited_disk(disk, kib=16) as launcher:
        flags = ("--store", f"file://{disk}", *FLAGS)
        ended = run(tmp_path, *flags, "tfdata", launcher=launcher)
    assert ended.code == 74, ended.err
    assert len(ended.named("save_failed")) > 1
    reason = ended.one("final_state_unsaved")["reason"]
    assert "No space left on device" in reason or "File too large" in reason
    assert result(tmp_path) == uninterrupted("tfdata")


@contextmanager
def limited_disk(folder, kib: int):
    """Mount a file system of that size at `folder`; without the right to mount, limit file sizes.

    Yields the launcher command of the process.
    """
    if os.geteuid() != 0:
        yield ["prlimit", f"--fsize={kib * 1024}"]
        return
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", folder], check=True)
    try:
        yield []
    finally:
        subprocess.run(["umount", folder], check=True)


def test_script_that_raises(tmp_path, uninterrupted):
    """A script's error keeps its traceback and exit code, and the run can be resumed."""
    ended = small(tmp_path, "numpy", "--fail-in", "2")
    assert ended.code == 1
    assert "ValueError: an error of the script" in ended.err
    frames = [line for line in ended.err.splitlines() if line.startswith('  File "')]
    assert str(SMALL) in frames[0], "the traceback does not start in the script"
    assert "job/runner.py" not in ended.err
    assert small(tmp_path, "numpy").code == 0
    assert result(tmp_path) == uninterrupted("numpy")


def test_finished_run_is_recognised(tmp_path):
    """`fit` returns at once with the whole history and the final weights; --fresh starts over."""
    assert small(tmp_path, "tfdata", "--epochs", "2").code == 0
    first = result(tmp_path)
    again = small(tmp_path, "tfdata", "--epochs", "2")
    assert again.code == 0, again.err
    assert again.one("already_finished")["step"] == 40
    assert not again.named("checkpoint_saved")
    assert result(tmp_path) == first
    fresh = small(tmp_path, "tfdata", "--epochs", "2", KEEPFIT_FRESH="1")
    assert fresh.code == 0, fresh.err
    aside = tmp_path / "runs" / fresh.one("started_afresh")["moved_to"]
    assert document(aside / "HEAD.json")["checkpoints"]
    assert result(tmp_path) == first
    retried = small(
        tmp_path, "tfdata", "--epochs", "2", KEEPFIT_FRESH="1", AWS_BATCH_JOB_ATTEMPT="2"
    )
    assert retried.one("already_finished"), "a retry of the job must not start over again"
