"""A run that was killed again and again ends as if nothing had happened, bit for bit."""

from __future__ import annotations

import hashlib
import random
import re
import signal

import numpy as np
import pytest

from tests.e2e.process import MNIST, SMALL, document, result, run, small, started

EPOCHS, BATCHES, VALIDATIONS = 5, 20, 4


def moments(seed: int) -> list[list[str]]:
    """Arguments for six attempts, each killed a little later than the one before it."""
    draw = random.Random(seed)
    return [
        ["--kill", "batch_end:0:0"],
        ["--kill", f"batch_begin:0:{draw.randrange(4, BATCHES)}"],
        ["--kill", f"validation:1:{draw.randrange(VALIDATIONS)}"],
        ["--kill-in-save", str(draw.randrange(12, 60))],
        ["--kill", f"{draw.choice(['epoch_begin', 'epoch_end'])}:3:0"],
        ["--kill", f"batch_end:4:{draw.randrange(BATCHES)}"],
    ]


def survive(folder, seed: int, kind: str, *more: str) -> dict:
    """The result of a run whose attempts were killed, and which then was left alone."""
    killed = 0
    for last_words in moments(seed):
        ended = small(folder, kind, *more, *last_words)
        assert ended.code in (-signal.SIGKILL, 0), ended.err
        killed += ended.code != 0
    assert killed >= 5, "the attempts were to be killed at least five times"
    assert small(folder, kind, *more).code == 0
    return result(folder)


@pytest.mark.parametrize("kind", ["tfdata", "infinite"])
def test_killed_run_equals_uninterrupted_run(tmp_path, uninterrupted, kind):
    """All variables, the history, the CSV, the callbacks' state and the random state are equal."""
    assert survive(tmp_path, 1, kind) == uninterrupted(kind)


@pytest.mark.parametrize("kind", ["tfdata"])
def test_killed_run_on_s3_with_a_new_machine_for_each_attempt(
    tmp_path, uninterrupted, bucket, s3, kind
):
    """All that an attempt needs comes from the bucket; the last one leaves what one alone would."""
    codes = []
    for number, last_words in enumerate([*moments(1), []]):
        machine = tmp_path / str(number)
        machine.mkdir()
        ended = small(machine, kind, *last_words, KEEPFIT_STORE=f"{bucket}/{kind}")
        codes.append(ended.code)
    assert codes == [-signal.SIGKILL] * len(moments(1)) + [0], ended.err
    assert result(machine) == uninterrupted(kind)
    name = bucket.removeprefix("s3://")
    shown = s3.get_object(Bucket=name, Key=f"{kind}/small/artifacts/log.csv")["Body"].read()
    assert shown == (machine / "log.csv").read_bytes()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 8))
@pytest.mark.parametrize("kind", ["tfdata", "infinite", "numpy", "unknown-length"])
def test_killed_run_equals_uninterrupted_run_wherever_it_was_killed(
    tmp_path, uninterrupted, kind, seed
):
    """The same for other moments."""
    assert survive(tmp_path, seed, kind) == uninterrupted(kind)


@pytest.mark.soak
def test_several_steps_per_execution(tmp_path, uninterrupted):
    """A batch hook that comes every third batch only changes nothing."""
    args = ("tfdata", "--steps-per-execution", "3")
    for moment in ("batch_end:0:8", "validation:1:2", "batch_begin:3:6"):
        assert small(tmp_path, *args, "--kill", moment).code == -signal.SIGKILL
    assert small(tmp_path, *args).code == 0
    assert result(tmp_path) == uninterrupted(*args)


def test_appended_log_of_an_attempt_that_never_saved(tmp_path, uninterrupted):
    """Its rows are cut off before the run begins again: appending to a log is exact, too."""
    args = ("numpy", "--append")
    ended = small(tmp_path, *args, "--kill", "epoch_begin:2:0", save_every="1h")
    assert ended.code == -signal.SIGKILL
    assert not ended.named("checkpoint_saved")
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    assert small(tmp_path, *args).code == 0
    assert result(tmp_path) == uninterrupted(*args)


def variables_of(folder) -> dict[str, str]:
    """A SHA-256 for each model, optimizer and metric variable of the final checkpoint."""
    head = document(folder / "runs/mnist/HEAD.json")
    manifest = document(folder / "runs" / head["checkpoints"][0])
    assert manifest["position"]["finished"]
    found = {}
    for tensor in manifest["tensors"]:
        if not tensor["name"].startswith(("state/", "data/")):
            shard = np.fromfile(folder / "runs" / manifest["shards"][tensor["shard"]]["key"], "u1")
            content = shard[tensor["offset"] : tensor["offset"] + tensor["size"]]
            found[tensor["name"]] = hashlib.sha256(content.tobytes()).hexdigest()
    return found | {"history": manifest["state"]["history"]}


def test_mnist_killed_from_outside(tmp_path):
    """The packaged example on real digits, killed from outside at random batches, is exact."""
    flags = ("--deterministic", "--save-every", "25 batches", MNIST, "--epochs", "4")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    assert run(whole, *flags).code == 0
    draw = random.Random(5)
    for fifth in range(5):
        batch = draw.randrange(fifth * 125, (fifth + 1) * 125)
        with started(broken, *flags) as attempt:
            while attempt.until_event("checkpoint_saved")["step"] < batch:
                pass
            attempt.send(signal.SIGKILL)
            assert attempt.wait().code == -signal.SIGKILL
    last = run(broken, *flags)
    assert last.code == 0, last.err
    assert last.one("resumed")["step"] > 0
    assert variables_of(broken) == variables_of(whole)
    assert (broken / "training.csv").read_bytes() == (whole / "training.csv").read_bytes()
    announced = re.findall(r"Epoch (\d) starts", last.out)
    assert "1" not in announced, "an epoch that was begun before is not announced again"


def test_plain_python_resumes_too(tmp_path, uninterrupted):
    """`keepfit run` adds signals and exit codes; resuming works without it as well."""
    import subprocess
    import sys

    env = {"KEEPFIT_SAVE_EVERY": "3 batches", "PATH": "/usr/bin:/bin", "KEEPFIT_RUN": "plain"}

    def python(*args: str) -> int:
        return subprocess.run(
            [sys.executable, SMALL, "numpy", *args], cwd=tmp_path, env=env, capture_output=True
        ).returncode

    assert python("--kill", "batch_end:2:3") == -signal.SIGKILL
    assert python() == 0
    assert result(tmp_path)["epochs"] == [0, 1, 2, 3, 4]
    assert result(tmp_path)["seen"]["batches"] == EPOCHS * BATCHES
