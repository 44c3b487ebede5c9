"""Keras' own callbacks: which of their attributes are state and which are configuration."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keepfit
from keepfit.callbacks import events
from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.adapters.registry import ADAPTERS, hold_callback
from keepfit.callbacks.exactness import ExactnessGuard
from tests.adapters.kept import stored, transferred

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
    """A new adapter requires a line in MAKERS."""
    assert MAKERS.keys() == ADAPTERS.keys()


NEW_IN = {
    (keras.callbacks.ModelCheckpoint, "min_delta"): (3, 12),
    (keras.callbacks.ModelCheckpoint, "mode"): (3, 12),
    (keras.callbacks.TerminateOnNaN, "raise_error"): (3, 13),
}
"""Attributes that older supported versions of Keras do not have, with the first version."""


@pytest.mark.parametrize("kind", ADAPTERS, ids=lambda kind: kind.__name__)
def test_every_attribute_is_known(kind, train, tmp_path):
    """A Keras release that adds or removes an attribute fails here, with the attribute's name."""
    callback = MAKERS[kind](tmp_path)
    train(callback)
    adapter = ADAPTERS[kind]
    parts = (adapter.state, adapter.config, adapter.handles)
    known = {name for part in parts for name in part}
    present = set(vars(callback)) - OF_EVERY_CALLBACK
    assert present - known == set(), f"{kind.__name__} has attributes that keepfit does not know"
    version = tuple(map(int, keras.__version__.split(".")[:2]))
    known -= {name for (owner, name), new in NEW_IN.items() if owner is kind and version < new}
    assert known - present == set(), f"{kind.__name__} has lost attributes that keepfit knows"
    names = [name for part in parts for name in part]
    assert len(names) == len(set(names)), "each attribute belongs to one of the three"


OUR_MAKERS = {
    keepfit.CSVLogger: lambda folder: keepfit.CSVLogger(folder / "log.csv"),
    keepfit.ModelCheckpoint: lambda folder: keepfit.ModelCheckpoint(
        folder / "model.keras", "loss", save_best_only=True
    ),
    keepfit.RemoteMonitor: lambda folder: keepfit.RemoteMonitor("http://127.0.0.1:1"),
    keepfit.TensorBoard: lambda folder: keepfit.TensorBoard(folder, write_steps_per_second=True),
}


@pytest.mark.parametrize("kind", OUR_MAKERS, ids=lambda kind: kind.__name__)
def test_our_classes_have_the_state_of_keras(kind, train, tmp_path, logged, monkeypatch):
    """Attributes that our classes add are handles of the process, and none is reported as lost."""
    monkeypatch.setattr("keepfit.callbacks.files.report_sender.CLOSE_TIMEOUT", 0.1)
    keras_kind = next(base for base in kind.__mro__ if base in MAKERS)
    callback, original = OUR_MAKERS[kind](tmp_path), MAKERS[keras_kind](tmp_path)
    held = HeldCallbacks.hold([callback])
    train(callback)
    train(original)
    stored(held)
    assert [entry for entry in logged if entry["event"] != events.REPORT_FAILED] == []
    assert set(vars(callback)) - set(vars(original)) == set(kind.keepfit_handles)
    (only,) = held
    assert only.adapter is ADAPTERS[keras_kind]
    assert only.own is None


def test_attributes_of_every_callback():
    """Keras sets the model and the parameters of fit on each callback; they are not state."""
    assert {"params", "_model"} == OF_EVERY_CALLBACK


@pytest.mark.parametrize("kind", ADAPTERS, ids=lambda kind: kind.__name__)
def test_state_can_be_stored(kind, train, tmp_path, logged):
    """The adapter's state can be stored in a checkpoint before and after training."""
    callback = MAKERS[kind](tmp_path)
    held = HeldCallbacks.hold([callback])
    stored(held)
    train(callback)
    stored(held)
    assert logged == []


@pytest.mark.parametrize("kind", ADAPTERS, ids=lambda kind: kind.__name__)
def test_state_is_restored(kind, train, tmp_path):
    """A new callback gets the state of the old one, and nothing else."""
    old = MAKERS[kind](tmp_path)
    held = HeldCallbacks.hold([old])
    train(old)
    (new,) = transferred(held, MAKERS[kind](tmp_path))
    if kind is keras.callbacks.CSVLogger:
        assert new.callback.keys == old.keys
        return
    for name in ADAPTERS[kind].state:
        actual, expected = getattr(new.callback, name), getattr(old, name)
        if name == "best_weights":
            assert all(np.array_equal(a, b) for a, b in zip(actual, expected, strict=True))
        else:
            assert actual == expected


def early(**arguments):
    """Return an EarlyStopping that monitors the loss."""
    return keras.callbacks.EarlyStopping("loss", **arguments)


def test_min_delta_keeps_its_sign(train):
    """It is made negative once per process, whether or not the callback is restored."""
    old = early(min_delta=0.5)
    held = HeldCallbacks.hold([old])
    train(old)
    assert old.min_delta == -0.5
    (new,) = transferred(held, early(min_delta=0.5))
    assert new.callback.min_delta == 0.5
    train(new.callback)
    assert new.callback.min_delta == -0.5


def test_configuration_is_not_restored(train):
    """A patience, monitor or baseline that was changed since stays changed."""
    old = early(patience=1, baseline=5.0, min_delta=0.5)
    held = HeldCallbacks.hold([old])
    train(old)
    (new,) = transferred(held, early(patience=7, baseline=6.0, start_from_epoch=2, mode="min"))
    callback = new.callback
    assert (callback.patience, callback.baseline, callback.min_delta) == (7, 6.0, 0)
    assert (callback.start_from_epoch, callback.mode) == (2, "min")
    assert callback.wait == old.wait
    plateau = keras.callbacks.ReduceLROnPlateau
    held = HeldCallbacks.hold([old := plateau("loss", factor=0.5, patience=2)])
    train(old)
    (new,) = transferred(held, plateau("loss", factor=0.2, patience=9, cooldown=3, min_lr=0.1))
    assert (new.callback.factor, new.callback.patience, new.callback.min_lr) == (0.2, 9, 0.1)
    assert new.callback.best == old.best


def test_best_weights_are_not_copied():
    """The snapshot shares them: EarlyStopping replaces its arrays and never changes them."""
    callback = early(restore_best_weights=True)
    callback.best_weights = [np.ones(3)]
    arrays = {}
    HeldCallbacks.hold([callback]).capture().encode(arrays, ExactnessGuard())
    assert any(array is callback.best_weights[0] for array in arrays.values())


def test_state_before_training():
    """History has no epochs before its on_train_begin, EarlyStopping no best epoch."""
    (saved,) = stored(HeldCallbacks.hold([keras.callbacks.History()]))
    assert saved["state"] == {"history": {}}
    (saved,) = stored(HeldCallbacks.hold([early()]))
    assert "best_epoch" not in saved["state"]


class Derived(keras.callbacks.EarlyStopping):
    """A user's class that is derived from a Keras callback."""


def test_derived_class():
    """A derived class has the adapter of its nearest known base class."""
    assert hold_callback(Derived()).adapter is ADAPTERS[keras.callbacks.EarlyStopping]


class DerivedWithState(keras.callbacks.EarlyStopping):
    """A user's class that is derived from a Keras callback and has state of its own."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.epochs = 0

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        self.epochs += 1


def test_derived_class_with_state_of_its_own(train):
    """The added state is kept beside the inherited one."""
    old = DerivedWithState("loss", patience=9)
    held = HeldCallbacks.hold([old])
    train(old)
    (new,) = transferred(held, DerivedWithState("loss", patience=9))
    assert new.callback.best == old.best
    assert new.callback.epochs == old.epochs == 3
