"""A PyDataset with random generators of its own, and callbacks that hold objects with state."""

from __future__ import annotations

import random

import keras
import numpy as np
import pytest

from keepfit.callbacks import events
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.training.data.py_dataset import PyDatasetState, report_drawing_workers
from tests.training.trainings import (
    BATCH,
    BATCHES,
    ROWS,
    Training,
    arrays,
    assert_same,
    attempt,
    preempted,
    small,
    whole,
)


class Drawing(keras.utils.PyDataset):
    """A PyDataset that draws its order between epochs, and noise for each batch."""

    def __init__(self, **options):
        super().__init__(**options)
        self.x, self.y = arrays()
        self.rng = np.random.default_rng(7)
        self.legacy = np.random.RandomState(8)
        self.python = random.Random(9)
        self.order = np.arange(ROWS)

    def __len__(self):
        return BATCHES

    def __getitem__(self, index):
        chosen = self.order[index * BATCH : (index + 1) * BATCH]
        return self.x[chosen] + self._noise(), self.y[chosen]

    def _noise(self):
        return self.legacy.normal(size=(BATCH, 4)) * [self.python.random() for _ in range(4)]

    def on_epoch_end(self):
        self.rng.shuffle(self.order)


class Averaging(keras.callbacks.Callback):
    """A callback with an average of the model, a metric, a generator and an object of its own."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(1)
        self.mean = keras.metrics.Mean()
        self.average = small()
        self.drawn = []

    def on_train_batch_end(self, batch, logs=None):
        self.mean.update_state(logs["loss"])
        for mine, its in zip(self.average.variables, self.model.variables, strict=True):
            mine.assign(its if mine.dtype == "uint32" else 0.9 * mine + 0.1 * its)
        weights = self.average.get_weights()[0]
        self.drawn.append([self.rng.random(), float(self.mean.result()), float(weights.sum())])


def test_an_interrupted_training(tmp_path):
    """Input, and all that the callback has computed, are those of an uninterrupted run."""
    training = Training(held=lambda: [Averaging()], data=Drawing, validated=False)
    expected = whole(training)
    preempted(training, tmp_path, "on_train_batch_end", 7)
    preempted(training, tmp_path, "on_epoch_end", 1)
    resumed = attempt(training, tmp_path)
    assert_same(resumed, expected)
    assert resumed.named(events.STATE_UNKNOWN) == []


def test_a_state_between_epochs():
    """What `on_epoch_end` draws is in the state of the next epoch; the state is checked."""
    first, second = Drawing(), Drawing()
    before, after = (PyDatasetState(d, ExactnessGuard()) for d in (first, second))
    first.on_epoch_end()
    before.epoch_begins()
    saved = {
        "randomness": before.epoch()["randomness"],
        "own": {name: value.decoded() for name, value in before.epoch()["own"].items()},
    }
    order = first.order.copy()
    first.on_epoch_end()
    after.check(saved)
    after.restore(saved)
    assert second.order.tolist() == order.tolist()
    second.on_epoch_end()
    assert second.order.tolist() == first.order.tolist()


def test_a_dataset_that_holds_the_model():
    """The model's variables are not those of the epoch's beginning after an interruption."""
    dataset, model = Drawing(), small()
    dataset.model = model
    state = PyDatasetState(dataset, ExactnessGuard(), model)
    model.set_weights([w + 1 for w in model.get_weights()])
    state.epoch_begins()
    assert "model" not in state.epoch()["own"]


class Quiet(Drawing):
    """A PyDataset whose workers don't draw."""

    def _noise(self):
        return np.zeros((BATCH, 4))


@pytest.mark.parametrize(
    ("dataset", "named"),
    [
        (Drawing(), []),
        (Drawing(workers=2), ["legacy", "python"]),
        (Drawing(workers=1, use_multiprocessing=True), ["legacy", "python"]),
        (Quiet(workers=2), []),
    ],
)
def test_workers_that_draw(dataset, named):
    """They draw in an order of their own; --exact refuses that."""
    with capture_logs() as logs:
        report_drawing_workers(dataset, ExactnessGuard())
    assert [log["attributes"] for log in logs] == ([named] if named else [])
    assert all(log["event"] == events.DATA_UNSAVABLE for log in logs)
    if named:
        with pytest.raises(Refused):
            report_drawing_workers(dataset, ExactnessGuard(exact=True))
