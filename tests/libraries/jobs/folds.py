"""Cross validation with scikit-learn's wrapper. It is killed after each few batches, if asked."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
from killing import killer
from sklearn.model_selection import KFold, cross_validate

from keepfit import Resumable

FOLDS, ROWS, BATCH, EPOCHS = 3, 48, 8, 2


def build(X, y):
    """Return the model of each fold."""
    layers = [keras.layers.Dense(4), keras.layers.Dropout(0.3), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Softmax()])
    model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
    return model


def main():
    """Train all folds, and write down their scores."""
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 4)).astype("float32")
    y = (x.sum(1) > 0).astype("int64")
    options = {
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "verbose": 0,
        "callbacks": [keras.callbacks.EarlyStopping("loss"), Resumable([killer()])],
    }
    classifier = keras.wrappers.SKLearnClassifier(build)
    folds = cross_validate(
        classifier,
        x,
        y,
        cv=KFold(FOLDS),
        params=options,
        return_estimator=True,
        error_score="raise",
    )
    found = {
        "scores": folds["test_score"].tolist(),
        "weights": [[w.tolist() for w in e.model_.get_weights()] for e in folds["estimator"]],
        "histories": [e.history_.history for e in folds["estimator"]],
    }
    Path("found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
