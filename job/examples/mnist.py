"""The Keras tutorial on MNIST, with one line added. Stop it at any time and run it again.

    keepfit run job/examples/mnist.py            # 6,000 real digits, packaged
    keepfit run job/examples/mnist.py --full     # all 60,000, downloaded by Keras
    keepfit run job/examples/mnist.py --full mnist.npz

mnist.npz in the same folder contains the first 6,000 training and 1,000 test images of MNIST
(LeCun, Cortes, Burges; CC BY-SA 3.0), in the layout of keras.datasets.mnist.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keepfit import Resumable

SEED = 20


class Announcer(keras.callbacks.Callback):
    """Prints when an epoch starts and ends: each once, however often the job is interrupted."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        print(f"\nEpoch {epoch + 1} starts", flush=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        accuracy = (logs or {}).get("val_accuracy", float("nan"))
        print(f"\nEpoch {epoch + 1} ends: {accuracy:.1%} of the test digits recognised", flush=True)


def load(full: str | None) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return images as floats in [0, 1], shape (n, 28, 28), and labels, shape (n,)."""
    if full == "":
        train, test = keras.datasets.mnist.load_data()
    else:
        path = Path(full) if full else Path(__file__).resolve().with_name("mnist.npz")
        with np.load(path) as data:
            train = data["x_train"], data["y_train"]
            test = data["x_test"], data["y_test"]
    return (train[0] / np.float32(255), train[1]), (test[0] / np.float32(255), test[1])


def build() -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(256, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(10),
        ]
    )
    model.compile(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train on MNIST, resumable after interruptions.")
    parser.add_argument("--full", nargs="?", const="", metavar="NPZ", help="all 60,000 digits")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--patience", type=int, default=3, help="epochs without improvement")
    options = parser.parse_args(argv)

    keras.utils.set_random_seed(SEED)
    (x_train, y_train), test = load(options.full)
    train = tf.data.Dataset.from_tensor_slices((x_train, y_train))
    train = train.shuffle(len(x_train), seed=SEED).batch(32).prefetch(2)

    model = build()
    model.fit(
        train,
        epochs=options.epochs,
        shuffle=False,  # the dataset shuffles itself
        validation_data=tf.data.Dataset.from_tensor_slices(test).batch(256),
        callbacks=[
            Resumable(
                [
                    keras.callbacks.EarlyStopping(
                        patience=options.patience, restore_best_weights=True
                    ),
                    keras.callbacks.ReduceLROnPlateau(patience=2, verbose=1),
                    keras.callbacks.CSVLogger("training.csv"),
                    Announcer(),
                ]
            )
        ],
    )
    loss, accuracy = model.evaluate(*test, batch_size=256, verbose=0)
    print(f"\nTest loss {loss:.4f}, {accuracy:.1%} of the digits recognised")


if __name__ == "__main__":
    main()
