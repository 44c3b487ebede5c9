"""A search by keras-tuner with a tiny model. It is killed after each few batches, if asked.

The environment has the KIND of the tuner, OVERWRITE for the project, and NEW_MACHINE to begin
without the tuner's folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import keras
import keras_tuner
import numpy as np
from killing import killer

from keepfit import Resumable

EPOCHS, ROWS, BATCH = 2, 32, 8


def build(hp):
    """Return a model of the searched size."""
    keras.utils.set_random_seed(3)
    units = hp.Choice("units", [2, 3, 4])
    rate = hp.Choice("rate", [0.1, 0.01])
    layers = [keras.layers.Dense(units), keras.layers.Dropout(0.3), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def make_tuner():
    """Return the tuner that the environment names."""
    options = {
        "hypermodel": build,
        "objective": "val_loss",
        "directory": "search",
        "overwrite": os.environ["OVERWRITE"] == "1",
    }
    match os.environ["KIND"]:
        case "random":
            return keras_tuner.RandomSearch(max_trials=3, executions_per_trial=2, seed=5, **options)
        case "grid":
            return keras_tuner.GridSearch(max_trials=4, seed=5, **options)
        case "hyperband":
            return keras_tuner.Hyperband(max_epochs=3, factor=3, seed=5, **options)


def main():
    """Search, and write down what was found."""
    if os.environ.get("NEW_MACHINE") == "1":
        shutil.rmtree("search", ignore_errors=True)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 4)).astype("float32")
    y = x.sum(1) + rng.normal(size=ROWS).astype("float32")
    tuner = make_tuner()
    stopping = keras.callbacks.EarlyStopping("val_loss", patience=1)
    tuner.search(
        x,
        y,
        epochs=EPOCHS,
        batch_size=BATCH,
        validation_data=(x[:8], y[:8]),
        verbose=0,
        callbacks=[stopping, Resumable([killer()])],
    )
    (best,) = tuner.get_best_models(1)
    digest = hashlib.sha256()
    for variable in best.variables:
        digest.update(variable.numpy().tobytes())
    trials = tuner.oracle.trials.values()
    found = {
        "best": tuner.get_best_hyperparameters()[0].values,
        "weights": digest.hexdigest(),
        "scores": {trial.trial_id: trial.score for trial in trials},
        "trials": {trial.trial_id: trial.hyperparameters.values for trial in trials},
        "best_steps": {trial.trial_id: trial.best_step for trial in trials},
    }
    Path("found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
