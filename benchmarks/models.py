"""The models that are trained: one of any size with Adam, a tiny one, one with many variables."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from states import MAIN, State

Training = tuple[keras.Model, tf.data.Dataset]


def dense(state: State = MAIN, batch_size: int = 64) -> Training:
    """Return an autoencoder; every trained variable changes with every batch, as is usual."""
    layers = [
        keras.layers.Dense(state.width, activation="relu", use_bias=False)
        for _ in range(state.layers - 1)
    ]
    layers.append(keras.layers.Dense(state.width, use_bias=False))
    for layer in layers[: state.frozen]:
        layer.trainable = False
    model = keras.Sequential([keras.Input((state.width,)), *layers])
    model.compile(optimizer=keras.optimizers.Adam(1e-4), loss="mse")
    rows = np.random.default_rng(0).normal(size=(1024, state.width)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices(rows).shuffle(256).repeat()
    return model, data.map(lambda row: (row, row)).batch(batch_size).prefetch(2)


def tiny() -> Training:
    """Return a model so small that a batch costs little more than Keras' own work around it."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    rows = np.ones((8, 4), "float32")
    return model, tf.data.Dataset.from_tensors((rows, rows[:, :1])).repeat()


class _Holder(keras.layers.Layer):
    """A layer with variables that no batch changes: they are saved all the same."""

    def __init__(self, variables: int) -> None:
        super().__init__()
        for _ in range(variables):
            self.add_weight(shape=(8,), trainable=False, name="held")

    def call(self, inputs: Any) -> Any:
        return inputs


def many(variables: int) -> Training:
    """Return the tiny model with `variables` additional variables."""
    _, data = tiny()
    model = keras.Sequential([keras.Input((4,)), _Holder(variables), keras.layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse")
    return model, data


def shuffled(rows: int) -> tf.data.Dataset:
    """Return batches from a buffer of `rows` rows of 4 KiB, which the iterator's state contains."""
    values = np.random.default_rng(0).normal(size=(max(rows, 1000), 1024)).astype("float32")
    data = tf.data.Dataset.from_tensor_slices(values).repeat()
    return (data.shuffle(rows) if rows else data).batch(32)
