"""Every kind of input, option and callback: killed at random batches, and yet as if never."""

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

LIMIT = 100


class Forge:
    """Starts processes that have TensorFlow already (forge.py)."""

    def __init__(self):
        ours = {k: v for k, v in os.environ.items() if not k.startswith("KEEPFIT_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.forge"],
            cwd=ROOT,
            env=ours | {"TF_CPP_MIN_LOG_LEVEL": "2"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, row, folder, kill=None, plain=False):
        """The exit code of one process."""
        folder.mkdir(exist_ok=True)
        request = {"row": row, "folder": str(folder), "kill": kill, "plain": plain}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the forge has died"
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


def survive(forge, row, folder, seed, kills):
    """The folder of a run that was killed so often, and its twin that nobody touched."""
    draw = random.Random(f"{row} {seed}")
    alone, killed = folder / "alone", folder / "killed"
    assert forge.run(row, alone, plain=True) == 0, (alone / "log.txt").read_text()
    for number in range(kills):
        most = rows.ALL[row].most
        least = 1 if number else most // 3  # once beyond the first epoch
        code = forge.run(row, killed, kill=draw.randrange(least, most))
        assert code == -signal.SIGKILL or (number and code == 0), (killed / "log.txt").read_text()
    assert forge.run(row, killed) == 0, (killed / "log.txt").read_text()
    return alone, killed


def assert_same(alone, killed):
    """Every variable, the history and every file."""
    expected, found = result(alone), result(killed)
    for ours, theirs in zip(found["variables"], expected["variables"], strict=True):
        assert [name for name in theirs if ours.get(name) != theirs[name]] == []
    assert found == expected
    for name in ("log.csv", "loss.json"):
        if (alone / name).exists():
            assert (killed / name).read_bytes() == (alone / name).read_bytes()
    if (alone / "board").exists():
        assert_same_events(events_in(killed / "board"), events_in(alone / "board"))
    if (alone / "models").exists():
        assert models_in(killed / "models") == models_in(alone / "models")


SELDOM = {
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
"""Left to the long rehearsals: other rows have all that is difficult in them."""


@pytest.mark.parametrize(
    "row",
    [pytest.param(r, marks=[pytest.mark.soak] if r in SELDOM else []) for r in rows.ALL],
)
def test_killed_and_yet_the_same(forge, tmp_path, row):
    """A process that is killed in the middle, and the next one, do what one alone would do."""
    assert_same(*survive(forge, row, tmp_path, seed=0, kills=1))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("row", rows.ALL)
def test_killed_again_and_again(forge, tmp_path, row, seed):
    """The same, with more kills at other moments."""
    assert_same(*survive(forge, row, tmp_path, seed, kills=3))
