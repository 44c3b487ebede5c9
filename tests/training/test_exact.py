"""--exact: what an interruption could change is refused before it is trained, and only then."""

from __future__ import annotations

import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from keepfit.callbacks import events
from keepfit.callbacks.errors import Refused
from tests.training.trainings import (
    BATCH,
    ROWS,
    Training,
    arrays,
    assert_same,
    attempt,
    endless,
    from_arrays,
    generated,
    preempted,
    shuffled,
    small,
    whole,
)


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """As `keepfit run --exact` sets it."""
    monkeypatch.setenv("KEEPFIT_EXACT", "1")


def by_hand():
    """A Python generator."""

    def batches():
        x, y = arrays()
        while True:
            for start in range(0, ROWS, BATCH):
                yield x[start : start + BATCH], y[start : start + BATCH]

    return {"x": batches(), "steps_per_epoch": ROWS // BATCH}


def noisy():
    """A random map, whose state TensorFlow can't save."""
    return shuffled().map(lambda x, y: (x + tf.random.normal([]), y))


def joined():
    """Two shuffles that come one after the other."""
    rows = tf.data.Dataset.from_tensor_slices(arrays())
    return rows.shuffle(9, seed=1).concatenate(rows.shuffle(9, seed=2)).batch(BATCH)


class Items(keras.utils.PyDataset):
    """Batches by their number."""

    def __len__(self):
        return ROWS // BATCH

    def __getitem__(self, index):
        x, y = arrays()
        rows = slice(index * BATCH, (index + 1) * BATCH)
        return x[rows], y[rows]


class Locked(keras.callbacks.Callback):
    """Keeps something that nobody can save."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class Unstorable(keras.callbacks.Callback):
    """Its get_state gives what is no plain value."""

    def get_state(self):
        return {"lock": threading.Lock()}

    def set_state(self, state):
        pass


REFUSED = {
    "generator": (Training(data=by_hand), events.DATA_UNSAVABLE, 0),
    "from_generator": (Training(data=generated), events.DATA_UNSAVABLE, 0),
    "random map": (Training(data=noisy), events.DATA_UNSAVABLE, 0),
    "concatenated shuffles": (Training(data=joined), events.DATA_ORDER_UNSAVABLE, 1),
    "attribute": (Training(held=lambda: [Locked()]), events.STATE_UNKNOWN, 1),
    "get_state": (Training(held=lambda: [Unstorable()]), events.STATE_LOST, 1),
}


class Steps(keras.callbacks.Callback):
    """Counts the batches that are trained."""

    seen = 0

    def get_state(self):
        return None

    def set_state(self, state):
        pass

    def on_train_batch_end(self, batch, logs=None):
        type(self).seen += 1


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name, monkeypatch):
    """It ends with 78 after a batch at most, and one line says what, why, and the way out."""
    training, doubt, most = REFUSED[name]
    monkeypatch.setattr(Steps, "seen", 0)
    logs = []
    monkeypatch.setattr(
        "keepfit.callbacks.exactness.log.error", lambda event, **more: logs.append(more)
    )
    with pytest.raises(Refused) as caught:
        attempt(training, tmp_path, Steps())
    assert caught.value.code == 78
    assert Steps.seen <= most
    (said,) = logs
    assert said["doubt"] == doubt
    assert said["reason"].startswith("--exact: ")
    assert said["fix"].endswith("; or run it without --exact")


@pytest.mark.parametrize("name", REFUSED)
def test_said_once_without_it(tmp_path, name, monkeypatch):
    """Otherwise the log says it once, and training goes on."""
    monkeypatch.delenv("KEEPFIT_EXACT")
    training, doubt, _ = REFUSED[name]
    done = attempt(training, tmp_path)
    assert len(done.epochs) == 3
    said = done.named(doubt)
    assert said
    assert all(entry["fix"] and entry["reason"] for entry in said)
    if doubt != events.STATE_LOST:
        assert len(said) == 1


@pytest.mark.parametrize("data", [shuffled, endless, from_arrays, lambda: {"x": Items()}])
def test_exact_input_is_not_refused(tmp_path, data):
    """What is saved, or asked for by number, is trained, and is exact."""
    fit = {"epochs": 3, "steps_per_epoch": 5} if data is endless else {"epochs": 3}
    training = Training(data=data, fit=fit)
    expected = whole(training)
    preempted(training, tmp_path, "on_train_batch_end", 8)
    assert_same(attempt(training, tmp_path), expected)


class LateLock(keras.callbacks.Callback):
    """Can be saved when training begins, and later not any more."""

    def on_epoch_end(self, epoch, logs=None):
        self.lock = threading.Lock()


def test_too_late_to_refuse(tmp_path):
    """What turns up during training is said; hours of work are not thrown away."""
    done = attempt(Training(held=lambda: [LateLock()]), tmp_path)
    assert len(done.epochs) == 3
    assert done.named(events.STATE_UNKNOWN)


def test_each_fit_is_looked_at(tmp_path):
    """The second fit of a script is refused as the first would have been."""
    from tests.training.trainings import process, resumable

    with process():
        model, kept = small(), resumable(tmp_path, [])
        model.fit(*arrays(), batch_size=BATCH, verbose=0, callbacks=[kept])
        with pytest.raises(Refused):
            model.fit(**by_hand(), verbose=0, callbacks=[kept])
    assert np.isfinite(model.get_weights()[0]).all()
