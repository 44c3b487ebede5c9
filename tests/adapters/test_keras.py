"""Keras' own callbacks: which of their attributes are state, and which are configuration."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keepfit
from keepfit.callbacks import events
from keepfit.callbacks.adapters import held_callbacks
from keepfit.callbacks.adapters.registry import ADAPTERS, OWN_ATTRIBUTES, hold_callback
from tests.adapters.kept import passed_on, stored

OF_EVERY_CALLBACK = set(vars(keras.callbacks.Callback()))

MAKERS = {
    keras.callbacks.EarlyStopping: lambda folder: keras.callbacks.EarlyStopping(
        "loss", restore_best_weights=True
    ),
    keras.callbacks.ReduceLROnPlateau: lambda folder: keras.callbacks.ReduceLROnPlateau("loss"),
    keras.callbacks.CSVLogger: lambda folder: keras.callbacks.CSVLogger(folder / "log.csv"),
    keras.callbacks.ModelCheckpoint: lambda folder: keras.callbacks.ModelCheckpoint(
        folder / "model.keras", "loss", save_best_only=True
    ),
    keras.callbacks.TensorBoard: lambda folder: keras.callbacks.TensorBoard(
        folder, write_steps_per_second=True
    ),
    keras.callbacks.SwapEMAWeights: lambda folder: keras.callbacks.SwapEMAWeights(),
    keras.callbacks.RemoteMonitor: lambda folder: keras.callbacks.RemoteMonitor(),
    keras.callbacks.History: lambda folder: keras.callbacks.History(),
    keras.callbacks.LearningRateScheduler: lambda folder: keras.callbacks.LearningRateScheduler(
        lambda epoch: 0.1
    ),
    keras.callbacks.TerminateOnNaN: lambda folder: keras.callbacks.TerminateOnNaN(),
}


def test_each_adapter_is_tested():
    """A new adapter asks for a line above."""
    assert MAKERS.keys() == ADAPTERS.keys()


NEW_IN = {
    (keras.callbacks.ModelCheckpoint, "min_delta"): (3, 12),
    (keras.callbacks.ModelCheckpoint, "mode"): (3, 12),
    (keras.callbacks.TerminateOnNaN, "raise_error"): (3, 13),
}
"""Attributes that the older of the supported versions do not have."""


@pytest.mark.parametrize("kind", ADAPTERS, ids=lambda kind: kind.__name__)
def test_every_attribute_is_known(kind, train, tmp_path):
    """A Keras release that adds one, or takes one away, fails here with its name."""
    callback = MAKERS[kind](tmp_path)
    train(callback)
    adapter = ADAPTERS[kind]
    parts = (adapter.state, adapter.config, adapter.handles)
    known = {name for part in parts for name in part}
    there = set(vars(callback)) - OF_EVERY_CALLBACK
    assert there - known == set(), f"{kind.__name__} has attributes that keepfit does not know"
    version = tuple(map(int, keras.__version__.split(".")[:2]))
    known -= {name for (owner, name), new in NEW_IN.items() if owner is kind and version < new}
    assert known - there == set(), f"{kind.__name__} has lost attributes that keepfit knows"
    names = [name for part in parts for name in part]
    assert len(names) == len(set(names)), "each is one of the three"


OUR_MAKERS = {
    keepfit.CSVLogger: lambda folder: keepfit.CSVLogger(folder / "log.csv"),
    keepfit.ModelCheckpoint: lambda folder: keepfit.ModelCheckpoint(
        folder / "model.keras", "loss", save_best_only=True
    ),
    keepfit.RemoteMonitor: lambda folder: keepfit.RemoteMonitor("http://127.0.0.1:1"),
    keepfit.TensorBoard: lambda folder: keepfit.TensorBoard(folder, write_steps_per_second=True),
}


@pytest.mark.parametrize("kind", OWN_ATTRIBUTES, ids=lambda kind: kind.__name__)
def test_our_classes_have_the_state_of_keras(kind, train, tmp_path, logged, monkeypatch):
    """What ours add to Keras' are handles of the process, and none is reported as lost."""
    monkeypatch.setattr("keepfit.callbacks.remote_monitor.CLOSE_TIMEOUT", 0.1)
    theirs_kind = next(base for base in kind.__mro__ if base in MAKERS)
    callback, theirs = OUR_MAKERS[kind](tmp_path), MAKERS[theirs_kind](tmp_path)
    held = held_callbacks.hold_callbacks([callback])
    train(callback)
    train(theirs)
    stored(held)
    assert [entry for entry in logged if entry["event"] != events.REPORT_FAILED] == []
    assert set(vars(callback)) - set(vars(theirs)) == set(OWN_ATTRIBUTES[kind])
    assert held[0].adapter is ADAPTERS[theirs_kind]
    assert held[0].own is None


def test_attributes_of_every_callback():
    """Keras gives each callback the model and the parameters of fit, which are not state."""
    assert {"params", "_model"} == OF_EVERY_CALLBACK


@pytest.mark.parametrize("kind", ADAPTERS, ids=lambda kind: kind.__name__)
def test_state_can_be_stored(kind, train, tmp_path, logged):
    """Before training and after it, all that the adapter gives goes through a checkpoint."""
    callback = MAKERS[kind](tmp_path)
    held = held_callbacks.hold_callbacks([callback])
    stored(held)
    train(callback)
    stored(held)
    assert logged == []


@pytest.mark.parametrize("kind", ADAPTERS, ids=lambda kind: kind.__name__)
def test_state_comes_back(kind, train, tmp_path):
    """A new callback has the state of the old one, and nothing else of it."""
    old = MAKERS[kind](tmp_path)
    held = held_callbacks.hold_callbacks([old])
    train(old)
    (new,) = passed_on(held, MAKERS[kind](tmp_path))
    if kind is keras.callbacks.CSVLogger:
        assert new.callback.keys == old.keys
        return
    for name in ADAPTERS[kind].state:
        ours, theirs = getattr(new.callback, name), getattr(old, name)
        if name == "best_weights":
            assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
        else:
            assert ours == theirs


def early(**arguments):
    return keras.callbacks.EarlyStopping("loss", **arguments)


def test_min_delta_keeps_its_sign(train):
    """It is made negative once in each process, whether the callback is restored or not."""
    old = early(min_delta=0.5)
    held = held_callbacks.hold_callbacks([old])
    train(old)
    assert old.min_delta == -0.5
    (new,) = passed_on(held, early(min_delta=0.5))
    assert new.callback.min_delta == 0.5
    train(new.callback)
    assert new.callback.min_delta == -0.5


def test_configuration_is_the_script_s(train):
    """A patience, monitor or baseline that was changed since stays changed."""
    old = early(patience=1, baseline=5.0, min_delta=0.5)
    held = held_callbacks.hold_callbacks([old])
    train(old)
    (new,) = passed_on(held, early(patience=7, baseline=6.0, start_from_epoch=2, mode="min"))
    callback = new.callback
    assert (callback.patience, callback.baseline, callback.min_delta) == (7, 6.0, 0)
    assert (callback.start_from_epoch, callback.mode) == (2, "min")
    assert callback.wait == old.wait
    plateau = keras.callbacks.ReduceLROnPlateau
    held = held_callbacks.hold_callbacks([old := plateau("loss", factor=0.5, patience=2)])
    train(old)
    (new,) = passed_on(held, plateau("loss", factor=0.2, patience=9, cooldown=3, min_lr=0.1))
    assert (new.callback.factor, new.callback.patience, new.callback.min_lr) == (0.2, 9, 0.1)
    assert new.callback.best == old.best


def test_best_weights_are_not_copied():
    """The snapshot shares them: EarlyStopping replaces its arrays, it doesn't change them."""
    callback = early(restore_best_weights=True)
    callback.best_weights = [np.ones(3)]
    arrays = {}
    held_callbacks.capture(held_callbacks.hold_callbacks([callback]), arrays)
    assert any(array is callback.best_weights[0] for array in arrays.values())


def test_state_that_is_not_there_yet():
    """History has no epochs before its on_train_begin, EarlyStopping no best epoch."""
    (saved,) = stored(held_callbacks.hold_callbacks([keras.callbacks.History()]))
    assert saved["state"] == {"history": {}}
    (saved,) = stored(held_callbacks.hold_callbacks([early()]))
    assert "best_epoch" not in saved["state"]


class Louder(keras.callbacks.EarlyStopping):
    """A user's class, derived from one of Keras'."""


def test_derived_class():
    """It has the adapter of the nearest class that is known."""
    assert hold_callback(Louder()).adapter is ADAPTERS[keras.callbacks.EarlyStopping]


class Thorough(keras.callbacks.EarlyStopping):
    """A user's class, derived from one of Keras', with state of its own."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self.epochs += 1


def test_derived_class_with_state_of_its_own(train):
    """What it adds is kept beside what it inherits."""
    old = Thorough("loss", patience=9)
    held = held_callbacks.hold_callbacks([old])
    train(old)
    (new,) = passed_on(held, Thorough("loss", patience=9))
    assert new.callback.best == old.best
    assert new.callback.epochs == old.epochs == 3
