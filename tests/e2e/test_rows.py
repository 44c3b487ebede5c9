"""Every kind of input, option and callback, killed at random batches: the result is the same."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys

import pytest

from tests.adapters.test_files import assert_same_events, events_in, models_in
from tests.e2e import rows
from tests.e2e.process import ROOT
from tests.rotation import rotating

LIMIT = 100


class Forge:
    """A client of forge.py, which starts processes that have imported TensorFlow."""

    def __init__(self):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("KEEPFIT_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.forge"],
            cwd=ROOT,
            env=environment | {"TF_CPP_MIN_LOG_LEVEL": "2"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, row, folder, kill=None, plain=False):
        """Train in one process. Return its exit code."""
        folder.mkdir(exist_ok=True)
        request = {"row": row, "folder": str(folder), "kill": kill, "plain": plain}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "forge.py has died"
        return json.loads(answer)["code"]

    def close(self):
        self._process.stdin.close()
        self._process.wait(LIMIT)


@pytest.fixture(scope="module")
def forge():
    started = Forge()
    yield started
    started.close()


def result(folder):
    return json.loads((folder / "result.json").read_text())


def run_with_kills(forge, row, folder, seed, kills):
    """Run the row uninterrupted and with kills. Return the folders of both runs."""
    draw = random.Random(f"{row} {seed}")
    whole, killed = folder / "whole", folder / "killed"
    assert forge.run(row, whole, plain=True) == 0, (whole / "log.txt").read_text()
    for number in range(kills):
        most = rows.ALL[row].most
        least = 1 if number else most // 3  # the first kill is after the first epoch
        code = forge.run(row, killed, kill=draw.randrange(least, most))
        assert code == -signal.SIGKILL or (number and code == 0), (killed / "log.txt").read_text()
    assert forge.run(row, killed) == 0, (killed / "log.txt").read_text()
    return whole, killed


def assert_same(whole, killed):
    """Assert that every variable, the history and every file are equal."""
    expected, actual = result(whole), result(killed)
    for digests, wanted in zip(actual["variables"], expected["variables"], strict=True):
        assert [name for name in wanted if digests.get(name) != wanted[name]] == []
    assert actual == expected
    for name in ("log.csv", "loss.json"):
        if (whole / name).exists():
            assert (killed / name).read_bytes() == (whole / name).read_bytes()
    if (whole / "board").exists():
        assert_same_events(events_in(killed / "board"), events_in(whole / "board"))
    if (whole / "models").exists():
        assert models_in(killed / "models") == models_in(whole / "models")


SOAK_ONLY = {
    "callbacks-schedule",
    "class_weight",
    "ema",
    "finite",
    "gradient_accumulation",
    "infinite",
    "initial_epoch",
    "interleaved",
    "jit_compile",
    "lookups",
    "numpy",
    "pandas",
    "pydataset-threads",
    "rebatched",
    "run_eagerly",
    "sample_weight",
    "shuffle-off",
    "steps_per_execution",
    "tensors",
    "train_step",
    "unbuilt",
    "unknown_length",
    "validation_batch_size",
    "validation_freq",
    "validation_split",
}
"""Rows for soak tests only: other rows cover everything that is difficult in them."""


@pytest.mark.parametrize(
    "row",
    [
        *rotating(row for row in rows.ALL if row not in SOAK_ONLY),
        *(pytest.param(row, marks=pytest.mark.soak) for row in rows.ALL if row in SOAK_ONLY),
    ],
)
def test_killed_run_equals_uninterrupted_run(forge, tmp_path, row):
    """A killed process and the next one together do what an uninterrupted one does."""
    assert_same(*run_with_kills(forge, row, tmp_path, seed=0, kills=1))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("row", rows.ALL)
def test_repeatedly_killed_run(forge, tmp_path, row, seed):
    """With three kills at other moments, the result is the same, too."""
    assert_same(*run_with_kills(forge, row, tmp_path, seed, kills=3))
