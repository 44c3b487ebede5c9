"""keras-tuner's callbacks, which it adds to those of the script."""

from __future__ import annotations

from pathlib import Path

import keras_tuner
from keras_tuner.src.engine.tuner_utils import SaveBestEpoch, TunerCallback

from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.adapters.registry import hold_callback
from tests.adapters.kept import stored, transferred

OBJECTIVE = keras_tuner.Objective("val_loss", "min")


def best_epoch(folder: Path) -> SaveBestEpoch:
    """Return a new checkpoint callback of a trial."""
    return SaveBestEpoch(OBJECTIVE, str(folder / "checkpoint.weights.h5"))


def test_every_attribute_is_known(train, tmp_path):
    """A release that adds or removes an attribute fails here, with the attribute's name."""
    tuner = keras_tuner.RandomSearch(lambda hp: None, OBJECTIVE, directory=tmp_path)
    callbacks = [best_epoch(tmp_path), TunerCallback(tuner, "trial")]
    train(*callbacks)
    for callback in callbacks:
        adapter = hold_callback(callback).adapter
        known = {*adapter.state, *adapter.config, *adapter.handles}
        assert vars(callback).keys() - {"params", "_model"} == known


def test_the_best_epoch_is_kept(train, tmp_path):
    """The best value continues, and the file with its weights belongs to the checkpoint."""
    callback = best_epoch(tmp_path)
    held = HeldCallbacks.hold([callback])
    assert held.replaced_files() == {}
    train(callback)
    assert list(held.replaced_files()) == [callback.filepath]
    (new,) = transferred(held, best_epoch(tmp_path))
    assert new.callback.best_value == callback.best_value < float("inf")
    assert held.may_write(callback.filepath)
    assert not held.may_write(str(tmp_path / "other"))


def test_the_tuner_keeps_its_own_state(logged):
    """A search is not refused or warned of because of its tuner, which saves itself."""
    callback = TunerCallback(object(), object())
    assert stored(HeldCallbacks.hold([callback])) == [{"class": "TunerCallback", "state": {}}]
    assert logged == []
