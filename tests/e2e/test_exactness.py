"""A run that was killed repeatedly ends as if nothing had happened, bit for bit."""

from __future__ import annotations

import hashlib
import random
import re
import signal

import numpy as np
import pytest

from tests.e2e.process import MNIST, SMALL, document, result, run, small, started
from tests.rotation import rotating

EPOCHS, BATCHES, VALIDATIONS = 5, 20, 4


def moments(seed: int) -> list[list[str]]:
    """Return arguments for six attempts, each killed a little later than the one before it."""
    draw = random.Random(seed)
    return [
        ["--kill", "batch_end:0:0"],
        ["--kill", f"batch_begin:0:{draw.randrange(4, BATCHES)}"],
        ["--kill", f"validation:1:{draw.randrange(VALIDATIONS)}"],
        ["--kill-in-save", str(draw.randrange(12, 60))],
        ["--kill", f"{draw.choice(['epoch_begin', 'epoch_end'])}:3:0"],
        ["--kill", f"batch_end:4:{draw.randrange(BATCHES)}"],
    ]


def result_after_kills(folder, seed: int, kind: str, *more: str) -> dict:
    """Kill a run's attempts, run one more to the end, and return the run's result."""
    killed = 0
    for kill in moments(seed):
        ended = small(folder, kind, *more, *kill)
        assert ended.code in (-signal.SIGKILL, 0), ended.err
        killed += ended.code != 0
    assert killed >= 5, "fewer than five attempts were killed"
    assert small(folder, kind, *more).code == 0
    return result(folder)


@pytest.mark.parametrize("kind", rotating(["tfdata", "infinite"]))
def test_killed_run_equals_uninterrupted_run(tmp_path, uninterrupted, kind):
    """Variables, history, CSV file, callbacks' state and random state are equal."""
    assert result_after_kills(tmp_path, 1, kind) == uninterrupted(kind)


@pytest.mark.parametrize("kind", ["tfdata"])
def test_killed_run_on_s3_with_a_new_machine_for_each_attempt(
    tmp_path, uninterrupted, bucket, s3, kind
):
    """An attempt needs only the bucket; the last one has the result of an uninterrupted run."""
    codes = []
    for number, kill in enumerate([*moments(1), []]):
        machine = tmp_path / str(number)
        machine.mkdir()
        ended = small(machine, kind, *kill, KEEPFIT_STORE=f"{bucket}/{kind}")
        codes.append(ended.code)
    assert codes == [-signal.SIGKILL] * len(moments(1)) + [0], ended.err
    assert result(machine) == uninterrupted(kind)
    name = bucket.removeprefix("s3://")
    artifact = s3.get_object(Bucket=name, Key=f"{kind}/small/artifacts/log.csv")["Body"].read()
    assert artifact == (machine / "log.csv").read_bytes()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 8))
@pytest.mark.parametrize("kind", ["tfdata", "infinite", "numpy", "unknown-length"])
def test_killed_run_equals_uninterrupted_run_wherever_it_was_killed(
    tmp_path, uninterrupted, kind, seed
):
    """A run that was killed at other moments equals the uninterrupted run, too."""
    assert result_after_kills(tmp_path, seed, kind) == uninterrupted(kind)


@pytest.mark.soak
def test_several_steps_per_execution(tmp_path, uninterrupted):
    """With batch hooks at every third batch only, the killed run is equal, too."""
    args = ("tfdata", "--steps-per-execution", "3")
    for moment in ("batch_end:0:8", "validation:1:2", "batch_begin:3:6"):
        assert small(tmp_path, *args, "--kill", moment).code == -signal.SIGKILL
    assert small(tmp_path, *args).code == 0
    assert result(tmp_path) == uninterrupted(*args)


def test_appended_log_of_an_attempt_that_never_saved(tmp_path, uninterrupted):
    """Rows of an attempt without a checkpoint are truncated: an appended CSV log is exact, too."""
    args = ("numpy", "--append")
    ended = small(tmp_path, *args, "--kill", "epoch_begin:2:0", save_every="1h")
    assert ended.code == -signal.SIGKILL
    assert not ended.named("checkpoint_saved")
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    assert small(tmp_path, *args).code == 0
    assert result(tmp_path) == uninterrupted(*args)


def variables_of(folder) -> dict[str, str]:
    """Return a SHA-256 of each model, optimizer and metric variable of the final checkpoint."""
    head = document(folder / "runs/mnist/HEAD.json")
    manifest = document(folder / "runs" / head["checkpoints"][0])
    assert manifest["position"]["finished"]
    digests = {}
    for tensor in manifest["tensors"]:
        if not tensor["name"].startswith(("state/", "data/")):
            shard = np.fromfile(folder / "runs" / manifest["shards"][tensor["shard"]]["key"], "u1")
            content = shard[tensor["offset"] : tensor["offset"] + tensor["size"]]
            digests[tensor["name"]] = hashlib.sha256(content.tobytes()).hexdigest()
    return digests | {"history": manifest["state"]["history"]}


def test_mnist_killed_from_outside(tmp_path):
    """The packaged example on real digits is exact when it is killed at random batches."""
    flags = ("--deterministic", "--save-every", "25 batches", MNIST, "--epochs", "5")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert run(whole, *flags).code == 0
    draw = random.Random(5)
    for fifth in range(5):
        # The last 440 of 940 batches leave a loaded machine the time to send the signal.
        batch = draw.randrange(fifth * 100, (fifth + 1) * 100)
        with started(killed, *flags) as attempt:
            while attempt.until_event("checkpoint_saved")["step"] < batch:
                pass
            attempt.send(signal.SIGKILL)
            assert attempt.wait().code == -signal.SIGKILL
    last = run(killed, *flags)
    assert last.code == 0, last.err
    assert last.one("resumed")["step"] > 0
    assert variables_of(killed) == variables_of(whole)
    assert (killed / "training.csv").read_bytes() == (whole / "training.csv").read_bytes()
    announced = re.findall(r"Epoch (\d) starts", last.out)
    assert "1" not in announced, "an epoch that an earlier attempt started is announced again"


def test_plain_python_resumes_too(tmp_path, uninterrupted):
    """`keepfit run` adds signals and exit codes; resuming works without it, too."""
    import subprocess
    import sys

    env = {"KEEPFIT_SAVE_EVERY": "3 batches", "PATH": "/usr/bin:/bin", "KEEPFIT_RUN": "plain"}
    env["KEEPFIT_RESUME"] = "1"  # the arguments say when it is killed

    def python(*args: str) -> int:
        return subprocess.run(
            [sys.executable, SMALL, "numpy", *args], cwd=tmp_path, env=env, capture_output=True
        ).returncode

    assert python("--kill", "batch_end:2:3") == -signal.SIGKILL
    assert python() == 0
    assert result(tmp_path)["epochs"] == [0, 1, 2, 3, 4]
    assert result(tmp_path)["seen"]["batches"] == EPOCHS * BATCHES
