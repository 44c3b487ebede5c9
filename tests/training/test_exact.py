"""--exact: a training that an interruption could change is refused before its first batch."""

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
    """Set the variable that `keepfit run --exact` sets."""
    monkeypatch.setenv("KEEPFIT_EXACT", "1")


def python_generator():
    """Batches of an endless Python generator."""

    def batches():
        x, y = arrays()
        while True:
            for start in range(0, ROWS, BATCH):
                yield x[start : start + BATCH], y[start : start + BATCH]

    return {"x": batches(), "steps_per_epoch": ROWS // BATCH}


def noisy():
    """A dataset with a random map, whose state TensorFlow can't save."""
    return shuffled().map(lambda x, y: (x + tf.random.normal([]), y))


def concatenated():
    """Two concatenated shuffles."""
    rows = tf.data.Dataset.from_tensor_slices(arrays())
    return rows.shuffle(9, seed=1).concatenate(rows.shuffle(9, seed=2)).batch(BATCH)


class Items(keras.utils.PyDataset):
    """A PyDataset: batches by index."""

    def __len__(self):
        return ROWS // BATCH

    def __getitem__(self, index):
        x, y = arrays()
        rows = slice(index * BATCH, (index + 1) * BATCH)
        return x[rows], y[rows]


class Locked(keras.callbacks.Callback):
    """A callback with an attribute that can't be saved."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class WithUnsupportedState(keras.callbacks.Callback):
    """A callback whose get_state returns a value that can't be stored."""

    def get_state(self):
        return {"lock": threading.Lock()}

    def set_state(self, state):
        pass


REFUSED = {
    "generator": (Training(data=python_generator), events.DATA_UNSAVABLE, 0),
    "from_generator": (Training(data=generated), events.DATA_UNSAVABLE, 0),
    "random map": (Training(data=noisy), events.DATA_UNSAVABLE, 0),
    "concatenated shuffles": (Training(data=concatenated), events.DATA_ORDER_UNSAVABLE, 1),
    "attribute": (Training(held=lambda: [Locked()]), events.STATE_UNKNOWN, 1),
    "get_state": (Training(held=lambda: [WithUnsupportedState()]), events.STATE_LOST, 1),
}


class Steps(keras.callbacks.Callback):
    """A counter of the trained batches. It keeps no state."""

    seen = 0

    def get_state(self):
        return None

    def set_state(self, state):
        pass

    def on_train_batch_end(self, batch, logs=None):
        type(self).seen += 1


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tmp_path, name, monkeypatch):
    """The fit ends with 78 after one batch at most; one line names the event, reason and fix."""
    training, event, max_batches = REFUSED[name]
    monkeypatch.setattr(Steps, "seen", 0)
    logs = []
    monkeypatch.setattr(
        "keepfit.callbacks.exactness.log.error", lambda event, **more: logs.append(more)
    )
    with pytest.raises(Refused) as caught:
        attempt(training, tmp_path, Steps())
    assert caught.value.code == 78
    assert Steps.seen <= max_batches
    (entry,) = logs
    assert entry["warning"] == event
    assert entry["reason"].startswith("--exact: ")
    assert entry["fix"].endswith("; or run it without --exact")


@pytest.mark.parametrize("name", REFUSED)
def test_logged_once_without_exact(tmp_path, name, monkeypatch):
    """Without --exact, the warning is logged once, and training continues."""
    monkeypatch.delenv("KEEPFIT_EXACT")
    training, event, _ = REFUSED[name]
    done = attempt(training, tmp_path)
    assert len(done.epochs) == 3
    entries = done.named(event)
    assert entries
    assert all(entry["fix"] and entry["reason"] for entry in entries)
    if event != events.STATE_LOST:
        assert len(entries) == 1


@pytest.mark.parametrize("data", [shuffled, endless, from_arrays, lambda: {"x": Items()}])
def test_exact_input_is_not_refused(tmp_path, data):
    """Input that can be saved, or that is indexed by batch, is accepted, and resumes exactly."""
    fit = {"epochs": 3, "steps_per_epoch": 5} if data is endless else {"epochs": 3}
    training = Training(data=data, fit=fit)
    expected = whole(training)
    preempted(training, tmp_path, "on_train_batch_end", 8)
    assert_same(attempt(training, tmp_path), expected)


def cached_tutorial():
    """The input of TensorFlow's image tutorials: shuffled, cached, and shuffled as a whole."""
    rows = tf.data.Dataset.from_tensor_slices(arrays()).shuffle(ROWS)
    return rows.batch(BATCH).cache().shuffle(1000).prefetch(2)


@pytest.mark.parametrize("batch", [3, 8, 13])
def test_cached_shuffle_is_not_refused(tmp_path, batch):
    """A shuffle below a filled cache has no later order: nothing is lost in any of three epochs."""
    training = Training(data=cached_tutorial)
    expected = whole(training)
    preempted(training, tmp_path, "on_train_batch_end", batch)
    assert_same(attempt(training, tmp_path), expected)


class LateLock(keras.callbacks.Callback):
    """A callback that can be saved when training starts, and can't any more after an epoch."""

    def on_epoch_end(self, epoch, logs=None):
        self.lock = threading.Lock()


def test_too_late_to_refuse(tmp_path):
    """A problem that arises during training is only logged: hours of work are not discarded."""
    done = attempt(Training(held=lambda: [LateLock()]), tmp_path)
    assert len(done.epochs) == 3
    assert done.named(events.STATE_UNKNOWN)


def test_each_fit_is_checked(tmp_path):
    """The second fit of a script is refused as the first one would have been."""
    from tests.training.trainings import process, resumable

    with process():
        model, callback = small(), resumable(tmp_path, [])
        model.fit(*arrays(), batch_size=BATCH, verbose=0, callbacks=[callback])
        with pytest.raises(Refused):
            model.fit(**python_generator(), verbose=0, callbacks=[callback])
    assert np.isfinite(model.get_weights()[0]).all()
