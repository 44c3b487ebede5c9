"""Inputs of every kind, and their digests, printed by a process of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from keepfit.callbacks.training.identity.inputs import FitInput, InputContent, input_content

Arguments = dict[str, Any]


class Given(keras.callbacks.Callback):
    """A callback that keeps the input of its fit, and ends the fit before its first batch."""

    class End(Exception):
        """Ends the fit."""

    def on_train_begin(self, logs=None):
        self.given = FitInput.current(self.model)
        raise self.End


def given(strategy: Any = None, **arguments: Any) -> FitInput:
    """Return the input of a fit with these arguments."""
    with (strategy or tf.distribute.get_strategy()).scope():
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    callback = Given()
    try:
        model.fit(**arguments, verbose=0, callbacks=[callback])
    except Given.End:
        return callback.given
    raise AssertionError("fit has not called on_train_begin")


def content(**arguments: Any) -> InputContent:
    """Return the digest of the input of a fit with these arguments."""
    return input_content(given(**arguments))


def xy(change: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return features and labels; `change` is added to one number."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(24, 4)).astype("float32"), rng.integers(0, 3, 24)
    x[5, 2] += change
    return x, y


def rows(change: float = 0.0) -> tf.data.Dataset:
    """Return the same as a dataset."""
    return tf.data.Dataset.from_tensor_slices(xy(change))


class Indexed(keras.utils.PyDataset):
    """A PyDataset as in Keras' documentation: files, an order that is shuffled, and a counter."""

    def __init__(self, change: float = 0.0):
        super().__init__()
        self.x, self.y = xy(change)
        self.files = ["a.png", "b.png"]
        self.order = np.arange(24)
        self.epoch = 0
        self.rng = np.random.default_rng()

    def __len__(self):
        return 3

    def __getitem__(self, index):
        chosen = self.order[index * 8 : index * 8 + 8]
        return self.x[chosen], self.y[chosen]

    def on_epoch_end(self):
        self.epoch += 1
        self._reorder()

    def _reorder(self):
        self.rng.shuffle(self.order)


def _python_map(change: float) -> tf.data.Dataset:
    def function(x, y):
        return tf.ensure_shape(tf.numpy_function(np.negative, [x], tf.float32), (4,)), y

    return rows(change).map(function).batch(8)


def _lookup(change: float) -> tf.data.Dataset:
    layer = keras.layers.StringLookup(vocabulary=["a", str(change)])
    words = tf.data.Dataset.from_tensor_slices(["a", "b", "c"]).map(layer)
    return words.map(lambda word: (word[None], word)).batch(2)


def _factor(change: float) -> tf.data.Dataset:
    return rows().map(lambda x, y: (x * (1 + change), y)).batch(8)


def _captured(change: float) -> tf.data.Dataset:
    x, _ = xy(change)
    table = tf.constant(x)
    return tf.data.Dataset.range(24).map(lambda i: (table[i], i)).batch(8)


def _nested(change: float) -> tf.data.Dataset:
    def part(i):
        return tf.data.Dataset.range(8).map(lambda k: tf.cast(k + i, tf.float32) + change)

    return tf.data.Dataset.range(3).interleave(part).map(lambda x: (x[None], x)).batch(8)


KINDS: dict[str, Callable[[float], Arguments]] = {
    "arrays": lambda c: dict(zip("xy", xy(c), strict=True)),
    "columns in another order in memory": lambda c: {
        "x": np.asfortranarray(xy(c)[0]),
        "y": xy()[1],
    },
    "tensors": lambda c: {"x": tf.constant(xy(c)[0]), "y": tf.constant(xy()[1])},
    "ragged": lambda c: {
        "x": tf.RaggedTensor.from_row_lengths(xy(c)[0].ravel(), [4] * 24),
        "y": xy()[1],
    },
    "pandas": lambda c: {
        "x": pd.DataFrame(xy(c)[0], columns=list("abcd")),
        "y": pd.Series(xy()[1]),
    },
    "sample weights": lambda c: {
        "x": xy()[0],
        "y": xy()[1],
        "sample_weight": xy(c)[0][:, 2],
    },
    "class weights": lambda c: {"x": xy()[0], "y": xy()[1], "class_weight": {0: 1.0, 1: 2.0 + c}},
    "validation arrays": lambda c: {"x": xy()[0], "y": xy()[1], "validation_data": xy(c)},
    "validation dataset": lambda c: {
        "x": rows().batch(8),
        "validation_data": rows(c).batch(8),
    },
    "a shuffled dataset": lambda c: {"x": rows(c).shuffle(9).batch(8).prefetch(2)},
    "a dataset and class weights": lambda c: {
        "x": rows().batch(8),
        "class_weight": {0: 1.0, 1: 2.0 + c},
    },
    "a constant in a map": lambda c: {"x": _factor(c)},
    "an array in a map": lambda c: {"x": _captured(c)},
    "a nested dataset": lambda c: {"x": _nested(c)},
    "below a Python function": lambda c: {"x": _python_map(c)},
    "names of files": lambda c: {
        "x": tf.data.TextLineDataset([f"{c}.txt"]).map(
            lambda line: (tf.strings.length(line)[None], 0)
        ),
        "steps_per_epoch": 1,
    },
    "a PyDataset": lambda c: {"x": Indexed(c)},
}
"""Arguments of fit, with and without a change of one number or name."""

UNKNOWN: dict[str, Callable[[float], Arguments]] = {"a vocabulary": lambda c: {"x": _lookup(c)}}
"""Arguments of which the digest is equal, but leaves out what `unknown` names."""


def main() -> None:
    """Print the digests of all kinds, after as many other datasets as the argument says."""
    for _ in range(int(sys.argv[1])):
        tf.data.Dataset.range(3).shuffle(2).map(lambda i: i + 1)
    print(
        json.dumps(
            {kind: content(**make(0.0)).digest for kind, make in {**KINDS, **UNKNOWN}.items()}
        )
    )


if __name__ == "__main__":
    main()
