"""MirroredStrategy on two and four devices: an interrupted fit reads and trains the same.

The cases run in one process of their own (mirrored.py), which configures its devices.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest
import tensorflow as tf

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.training.data import seeds
from keepfit.callbacks.training.data.position import DataChanged
from keepfit.callbacks.training.data.tracker import DataTracker
from tests.e2e.process import ROOT
from tests.training.mirrored import CASES

LIMIT = 3600


def todays(kind: str, number: int) -> list[str]:
    """Return some cases of a kind, other ones each day."""
    cases = [case for case in CASES if case.startswith(kind)]
    first = datetime.now(UTC).toordinal() * number
    return [cases[(first + i) * 37 % len(cases)] for i in range(number)]


def errors_of(cases: list[str]) -> dict[str, str]:
    """Run the cases in one process; return the traceback of each that failed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.mirrored", *cases],
        cwd=ROOT,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["case"] for answer in answers] == cases
    return {answer["case"]: answer["error"] for answer in answers if answer["error"]}


def assert_passing(cases: list[str]) -> None:
    failed = errors_of(cases)
    assert not failed, "\n".join(f"{case}:\n{error}" for case, error in failed.items())


def test_some_cases():
    """An input, interrupted and resumed, and one that is named; other ones each day."""
    assert_passing([*todays("reading", 1), *todays("reported", 1)])


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["reading-2", "reading-4", "reported", "fit-2", "fit-4"])
def test_all_cases(kind):
    """Every input, and every fit at every moment; fits of other replicas in another process."""
    assert_passing([case for case in CASES if case.startswith(kind)])


def distributed(dataset):
    """Return the dataset as a strategy of one device distributes it."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    return strategy.experimental_distribute_dataset(dataset)


def rows(seed=3):
    return tf.data.Dataset.range(40).shuffle(9, seed=seed)


def test_a_generator_of_seeds_is_read_and_set():
    """Reading leaves it where it is, and setting it repeats the order from there."""
    data = rows()
    assert [seeds.numbers_drawn(data) for _ in range(3)] == [0, 0, 0]
    orders = [[int(row) for row in data] for _ in range(3)]
    assert orders[0] != orders[1] != orders[2]
    third = seeds.numbers_drawn(data)
    seeds.set_numbers_drawn(data, third // 3)
    assert [[int(row) for row in data] for _ in range(2)] == orders[1:]
    assert seeds.numbers_drawn(data) == third


def saved_position(dataset, epochs=2):
    tracker, data = DataTracker(), distributed(dataset)
    for _ in range(epochs):
        iterator = iter(data)
        tracker.observe(iterator)
        next(iterator)
        tracker.advance()
    return tracker.position().plain()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (lambda: rows().shuffle(4, seed=1).batch(4), "it has 2 shuffles, the checkpoint's 1"),
        (lambda: tf.data.Dataset.range(40).batch(4), "it has 0 shuffles, the checkpoint's 1"),
    ],
)
def test_other_shuffles(changed, reason):
    """An input with other shuffles than the checkpoint's is refused."""
    saved = saved_position(rows().batch(4))
    tracker = DataTracker()
    tracker.observe(iter(distributed(changed())))
    with pytest.raises(DataChanged, match=reason):
        tracker.restore({}, saved, 1)


def test_too_few_seeds():
    """A checkpoint cannot say that the present iterator was created without drawing."""
    saved = saved_position(rows().batch(4)) | {"seeds": {"first": [0], "current": [0], "passed": 0}}
    tracker = DataTracker()
    tracker.observe(iter(distributed(rows().batch(4))))
    with pytest.raises(DataChanged, match="those of other shuffles"):
        tracker.restore({}, saved, 1)


def test_checkpoint_without_seeds():
    """A checkpoint of an older keepfit is read again from its start, which a warning says."""
    saved = saved_position(rows().batch(4))
    del saved["seeds"]
    tracker = DataTracker()
    tracker.observe(iter(distributed(rows().batch(4))))
    with capture_logs() as logs:
        tracker.restore({}, saved, 1)
    assert [log["event"] for log in logs] == [events.DATA_UNSAVABLE, events.DATA_REPLAYED]
    assert "an older keepfit" in logs[0]["reason"]


def test_states_of_an_unknown_format(monkeypatch):
    """If TensorFlow writes states in another way, the input is named, and read from its start."""
    monkeypatch.setattr(seeds, "KEY", b"another key")
    with capture_logs() as logs:
        saved = saved_position(rows().batch(4))
    assert [log["event"] for log in logs] == [events.DATA_UNSAVABLE]
    assert "its seeds can't be read: it has no another key" in logs[0]["reason"]
    assert saved["calls"] == 1
    assert "seeds" not in saved
