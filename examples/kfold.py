"""k-fold cross-validation of a regression on a table, and the average of the histories."""

import argparse
import json
from pathlib import Path

import keras
import numpy as np
from keras import layers

FEATURES = 8
FOLDER = Path("results/kfold")


def make_houses(count, rng):
    """Return features of houses, and their prices."""
    houses = rng.normal(size=(count, FEATURES)).astype("float32") * 3 + 5
    prices = houses[:, 0] * 2 + houses[:, 1] * houses[:, 2] / 5 + np.maximum(houses[:, 3], 4)
    return houses, (prices + rng.normal(scale=0.5, size=count)).astype("float32")


def make_model(houses):
    """Return a model that normalizes by the given houses, those of its fold."""
    normalization = layers.Normalization()
    normalization.adapt(houses)
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            normalization,
            layers.Dense(24, activation="relu", kernel_regularizer="l2"),
            layers.AlphaDropout(0.05),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.05), loss="huber", metrics=["mae"])
    return model


def main():
    """Train a model for each fold, and print the mean error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args()
    keras.utils.set_random_seed(29)
    FOLDER.mkdir(parents=True, exist_ok=True)
    houses, prices = make_houses(240, np.random.default_rng(29))
    folds = np.array_split(np.random.permutation(len(houses)), options.folds)

    histories, scores = [], []
    for number, fold in enumerate(folds):
        keras.backend.clear_session()
        rest = np.concatenate(folds[:number] + folds[number + 1 :])
        model = make_model(houses[rest])
        history = model.fit(
            houses[rest],
            prices[rest],
            epochs=options.epochs,
            batch_size=16,
            validation_data=(houses[fold], prices[fold]),
            verbose=0,
            callbacks=[
                keras.callbacks.ReduceLROnPlateau(factor=0.3, patience=1),
                keras.callbacks.CSVLogger(FOLDER / f"fold-{number + 1}.csv"),
            ],
        )
        scores.append(model.evaluate(houses[fold], prices[fold], verbose=0)[1])
        histories.append(history.history)
        print(f"Fold {number + 1} of {options.folds}: mean error {scores[-1]:.5f}", flush=True)

    averages = {
        name: np.mean([history[name] for history in histories], axis=0).tolist()
        for name in histories[0]
    }
    (FOLDER / "averages.json").write_text(json.dumps(averages, indent=1))
    best = int(np.argmin(averages["val_mae"])) + 1
    print(f"Mean error {np.mean(scores):.5f} ± {np.std(scores):.5f}; best epoch {best}")


if __name__ == "__main__":
    main()
