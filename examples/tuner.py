"""A search for hyperparameters with keras-tuner (pip install keras-tuner)."""

import argparse

import keras
import keras_tuner
import numpy as np
from keras import layers


def make_moons(count, rng):
    """Return points of two interleaved half circles, and the number of each point's moon."""
    angle = rng.uniform(0, np.pi, count)
    moon = rng.integers(2, size=count)
    x = np.where(moon, 1 - np.cos(angle), np.cos(angle))
    y = np.where(moon, 0.5 - np.sin(angle), np.sin(angle))
    points = np.stack([x, y], axis=1) + rng.normal(0, 0.15, (count, 2))
    return points.astype("float32"), moon


def build(hp):
    """Return the model of a trial; its weights depend on no trial before it."""
    keras.utils.set_random_seed(31)
    model = keras.Sequential([keras.Input((2,))])
    for _ in range(hp.Int("depth", 1, 2)):
        model.add(
            layers.Dense(
                hp.Choice("units", [8, 16, 32]),
                activation=hp.Choice("activation", ["relu", "tanh"]),
            )
        )
        if hp.Boolean("dropout"):
            model.add(layers.Dropout(0.1))
    model.add(layers.Dense(1, activation="sigmoid"))
    rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")
    model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"])
    return model


def main():
    """Search, and evaluate the best model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4)
    options = parser.parse_args()
    rng = np.random.default_rng(31)
    points, moons = make_moons(600, rng)
    validation, test = make_moons(200, rng), make_moons(200, rng)

    tuner = keras_tuner.RandomSearch(
        build,
        objective="val_accuracy",
        max_trials=options.trials,
        seed=31,
        directory="results",
        project_name="tuner",
    )
    tuner.search(
        points,
        moons,
        epochs=options.epochs,
        batch_size=32,
        validation_data=validation,
        verbose=0,
        callbacks=[keras.callbacks.EarlyStopping("val_loss", patience=2)],
    )
    found = tuner.get_best_hyperparameters()[0].values
    model = tuner.get_best_models()[0]
    loss, accuracy = model.evaluate(*test, verbose=0)
    print("Best hyperparameters:", dict(sorted(found.items())))
    print(f"Best model: loss {loss:.5f}, accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
