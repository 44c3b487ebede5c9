"""Scripts with every kind of input, option and callback of fit, or with several fits: the rows.

A row is run in a process of its own (forge.py), which may be killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

ROWS, BATCH, FEATURES, CLASSES = 48, 8, 6, 3
BATCHES = ROWS // BATCH
EPOCHS = 3

READS_GRAIN = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 12)
"""Older versions of Keras have no adapter for Grain's datasets."""

Fit = Callable[..., Any]


def numbers(seed: int = 0, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, FEATURES)).astype("float32")
    return x, rng.integers(0, CLASSES, rows)


def dataset(seed: int = 0) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(numbers(seed)).shuffle(20, seed=3)


def layers(units: int = 8) -> list[Any]:
    return [
        keras.layers.Dense(units, activation="relu"),
        keras.layers.Dropout(0.3),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(CLASSES, dtype="float32"),
    ]


def loss() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def classifier(optimizer: Any = "adam", **options: Any) -> keras.Model:
    model = keras.Sequential(layers())
    model.compile(optimizer, loss(), metrics=["accuracy"], **options)
    return model


def validation() -> dict[str, Any]:
    return {"validation_data": numbers(1, 20)}


def arrays() -> dict[str, Any]:
    x, y = numbers()
    return {"x": x, "y": y, "batch_size": BATCH}


# Inputs


def finite() -> dict[str, Any]:
    return {"x": dataset().map(lambda x, y: (x * 2, y), num_parallel_calls=2).batch(BATCH)}


def infinite() -> dict[str, Any]:
    return {"x": dataset().repeat().batch(BATCH).prefetch(2), "steps_per_epoch": BATCHES}


def unknown_length() -> dict[str, Any]:
    return {"x": dataset().filter(lambda x, y: y < CLASSES).batch(BATCH)}


def interleaved() -> dict[str, Any]:
    """Return rows of TFRecord files, interleaved by several threads."""
    paths = [f"part-{number}.tfrecord" for number in range(3)]
    for number, path in enumerate(paths):
        x, y = numbers(number, ROWS // 3)
        with tf.io.TFRecordWriter(path) as writer:
            for row, label in zip(x, y, strict=True):
                writer.write(np.append(row, label).astype("float32").tobytes())

    def parsed(record: Any) -> Any:
        row = tf.io.decode_raw(record, tf.float32)
        return tf.ensure_shape(row[:FEATURES], [FEATURES]), tf.cast(row[FEATURES], tf.int64)

    files = tf.data.Dataset.from_tensor_slices(paths).shuffle(3, seed=1)
    records = files.interleave(tf.data.TFRecordDataset, cycle_length=3, num_parallel_calls=2)
    return {"x": records.map(parsed).shuffle(10, seed=2).batch(BATCH)}


def rebatched() -> dict[str, Any]:
    return {"x": dataset().batch(6, drop_remainder=True).rebatch(BATCH)}


def generated() -> dict[str, Any]:
    """Return a dataset of a generator, which TensorFlow can't save."""

    def rows() -> Iterator[Any]:
        yield from zip(*numbers(), strict=True)

    spec = (tf.TensorSpec((FEATURES,), tf.float32), tf.TensorSpec((), tf.int64))
    return {"x": tf.data.Dataset.from_generator(rows, output_signature=spec).batch(BATCH)}


def tensors() -> dict[str, Any]:
    return {**arrays(), "x": tf.constant(numbers()[0])}


def frames() -> dict[str, Any]:
    import pandas as pd

    x, y = numbers()
    columns = [f"column {i}" for i in range(FEATURES)]
    return {
        "x": pd.DataFrame(x, columns=columns),
        "y": pd.Series(y),
        "batch_size": BATCH,
    }


class Sequence(keras.utils.PyDataset):
    """A PyDataset that shuffles its rows after each epoch; Keras shuffles the batches."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.x, self.y = numbers()
        self.rows = np.arange(ROWS)

    def on_epoch_end(self) -> None:
        np.random.shuffle(self.rows)

    def __len__(self) -> int:
        return BATCHES

    def __getitem__(self, index: int) -> Any:
        batch = self.rows[index * BATCH : (index + 1) * BATCH]
        return self.x[batch], self.y[batch]


def sequence(**options: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"x": Sequence(**options), "shuffle": True}


def endless_generator() -> dict[str, Any]:
    def batches() -> Iterator[Any]:
        x, y = numbers()
        while True:
            for start in range(0, ROWS, BATCH):
                yield x[start : start + BATCH], y[start : start + BATCH]

    return {"x": batches(), "steps_per_epoch": BATCHES}


def grains() -> dict[str, Any]:
    import grain

    x, y = numbers()
    source = grain.MapDataset.source(list(zip(x, y, strict=True)))
    return {"x": source.shuffle(seed=5).to_iter_dataset().batch(BATCH)}


# Models and options of compile


class Unbuilt(keras.Model):
    """A model that learns its input's shape from the first batch."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = layers()

    def call(self, x: Any, training: bool = False) -> Any:
        for part in self.parts:
            x = part(x, training=training) if hasattr(part, "seed") else part(x)
        return x


def unbuilt() -> keras.Model:
    model = Unbuilt()
    model.compile("adam", loss())
    return model


class OwnStep(keras.Model):
    """A model with its own train step, metric and counter."""

    def __init__(self) -> None:
        super().__init__()
        self.body = keras.Sequential(layers())
        self.mean = keras.metrics.Mean(name="own")
        self.steps = self.add_weight(shape=(), dtype="int32", trainable=False, name="steps")

    @property
    def metrics(self) -> list[Any]:
        return [self.mean]

    def call(self, x: Any, training: bool = False) -> Any:
        return self.body(x, training=training)

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            value = loss()(y, self(x, training=True))
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))
        self.mean.update_state(value)
        self.steps.assign_add(1)
        return {"own": self.mean.result()}

    def test_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        self.mean.update_state(loss()(y, self(x)))
        return {"own": self.mean.result()}


def own_step() -> keras.Model:
    model = OwnStep()
    model.compile("adam")
    return model


def mixed() -> keras.Model:
    """Return a half-precision model, with a loss scale that rises and falls."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    scaled = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(1e-2), initial_scale=2.0**17, dynamic_growth_steps=4
    )
    return classifier(scaled)


def mirrored() -> keras.Model:
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        return classifier()


def two_devices() -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    parts = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, parts)


WORDS = ["red", "green", "blue", "grey"]


def lookups() -> keras.Model:
    """Return a model with lookups of strings and integers, two inputs and two outputs."""
    word = keras.Input((1,), dtype="string", name="word")
    number = keras.Input((1,), dtype="int64", name="number")
    by_word = keras.layers.StringLookup(vocabulary=WORDS, output_mode="one_hot")
    by_number = keras.layers.IntegerLookup(output_mode="one_hot")
    by_number.adapt(np.arange(5))
    both = keras.layers.Concatenate()([by_word(word), by_number(number)])
    hidden = keras.layers.Dropout(0.2)(keras.layers.Dense(8, activation="relu")(both))
    outputs = {
        "kind": keras.layers.Dense(CLASSES, name="kind")(hidden),
        "size": keras.layers.Dense(1, name="size")(hidden),
    }
    model = keras.Model({"word": word, "number": number}, outputs)
    model.compile("adam", {"kind": loss(), "size": "mse"}, metrics={"size": ["mae"]})
    return model


def words() -> dict[str, Any]:
    x, y = numbers()
    rng = np.random.default_rng(5)
    inputs = {
        "word": tf.constant(rng.choice(WORDS, (ROWS, 1))),
        "number": rng.integers(0, 5, (ROWS, 1)),
    }
    rows = tf.data.Dataset.from_tensor_slices((inputs, {"kind": y, "size": x[:, :1]}))
    return {"x": rows.shuffle(20, seed=4).batch(BATCH)}


@dataclass(frozen=True)
class Row:
    """A script.

    Attributes:
        data: creates the input, as arguments of fit.
        model: creates the model.
        fit: more arguments of fit.
        held: creates the callbacks inside Resumable.
        most: the number of calls of the train function; kills come before the last one.
        before: called before TensorFlow starts.
        script: calls fit once or several times, and returns the histories.
    """

    data: Callable[[], dict[str, Any]] = arrays
    model: Callable[[], keras.Model] = classifier
    fit: dict[str, Any] = field(default_factory=dict)
    held: Callable[[], list[Any]] = list
    most: int = BATCHES * EPOCHS
    before: Callable[[], None] = lambda: None
    script: Callable[[Row, Fit], list[Any]] | None = None


def once(row: Row, fit: Fit) -> list[Any]:
    """Run a script with one fit."""
    model = row.model()
    arguments = {"epochs": EPOCHS, "verbose": 0, **row.data(), **row.fit}
    if "validation_split" not in arguments and model.__class__ is not OwnStep:
        arguments |= {} if row.data is words else validation()
    return [fit(model, row.held(), **arguments)]


def fine_tuned(row: Row, fit: Fit) -> list[Any]:
    """Train and evaluate a head, and then the whole model with another optimizer."""
    base = keras.Sequential([keras.layers.Dense(8, activation="relu"), keras.layers.Dropout(0.3)])
    base.trainable = False
    model = keras.Sequential([keras.Input((FEATURES,)), base, keras.layers.Dense(CLASSES)])
    model.compile("adam", loss())
    first = fit(model, [], **arrays(), epochs=2, verbose=0)
    model.evaluate(*numbers(1, 20), verbose=0)
    base.trainable = True
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), loss())
    second = fit(model, [], **finite(), epochs=2, verbose=0, **validation())
    model.predict(numbers(1, 20)[0], verbose=0)
    return [first, second]


def three_models(row: Row, fit: Fit) -> list[Any]:
    """Train three models in sequence; the last one learns from the others' predictions."""
    first, second = classifier(), classifier("sgd")
    one = fit(first, [], **arrays(), epochs=1, verbose=0)
    two = fit(second, [], **finite(), epochs=2, verbose=0)
    x, _ = numbers()
    labels = np.argmax(first.predict(x, verbose=0) + second.predict(x, verbose=0), axis=1)
    third = classifier()
    return [one, two, fit(third, [], x=x, y=labels, batch_size=BATCH, epochs=1, verbose=0)]


def weights() -> dict[str, Any]:
    return {**arrays(), "sample_weight": np.linspace(0.1, 2, ROWS).astype("float32")}


def of_adam(**options: Any) -> Callable[[], keras.Model]:
    return lambda: classifier(keras.optimizers.Adam(1e-2, **options))


ALL: dict[str, Row] = {
    "finite": Row(finite),
    "infinite": Row(infinite),
    "unknown_length": Row(unknown_length),
    "interleaved": Row(interleaved),
    "rebatched": Row(rebatched),
    "from_generator": Row(generated),
    "numpy": Row(arrays),
    "tensors": Row(tensors),
    "pandas": Row(frames),
    "pydataset": Row(sequence()),
    "pydataset-threads": Row(sequence(workers=2, max_queue_size=4)),
    "pydataset-processes": Row(sequence(workers=2, use_multiprocessing=True)),
    "generator": Row(endless_generator),
    **({"grain": Row(grains)} if READS_GRAIN else {}),
    "class_weight": Row(fit={"class_weight": {0: 1.0, 1: 2.0, 2: 0.5}}),
    "sample_weight": Row(weights),
    "validation_split": Row(fit={"validation_split": 0.25}, most=15),
    "validation_freq": Row(finite, fit={"validation_freq": 2}),
    "validation_batch_size": Row(fit={"validation_batch_size": 7, "validation_steps": 2}),
    "shuffle-batch": Row(fit={"shuffle": "batch"}),
    "shuffle-off": Row(fit={"shuffle": False}),
    "initial_epoch": Row(finite, fit={"initial_epoch": 1, "epochs": 4}),
    "steps_per_execution": Row(finite, lambda: classifier(steps_per_execution=4), most=6),
    "run_eagerly": Row(finite, lambda: classifier(run_eagerly=True)),
    "jit_compile": Row(finite, lambda: classifier(jit_compile=True)),
    "mixed_precision": Row(finite, mixed),
    "gradient_accumulation": Row(finite, of_adam(gradient_accumulation_steps=4)),
    "ema": Row(
        finite,
        of_adam(use_ema=True, ema_overwrite_frequency=5),
        held=lambda: [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)],
    ),
    "mirrored": Row(finite, mirrored, before=two_devices),
    "unbuilt": Row(finite, unbuilt),
    "train_step": Row(finite, own_step),
    "lookups": Row(words, lookups),
    "fine_tuned": Row(script=fine_tuned),
    "three_models": Row(script=three_models),
}


def files() -> list[Any]:
    """Return every callback that writes files."""
    Path("models").mkdir(exist_ok=True)
    name = "models/{epoch:02d}-{val_loss:.2f}"
    json_log = open("loss.json", "w", buffering=1)  # noqa: SIM115
    return [
        keras.callbacks.CSVLogger("log.csv"),
        keras.callbacks.TensorBoard("board", histogram_freq=1, update_freq=2),
        keras.callbacks.ModelCheckpoint(f"{name}.weights.h5", save_weights_only=True),
        keras.callbacks.ModelCheckpoint("models/best.keras", save_best_only=True, save_freq=4),
        keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: json_log.write(f"{epoch} {logs['loss']}\n"),
            on_train_end=lambda logs: json_log.close(),
        ),
    ]


def decisions() -> list[Any]:
    """Return every callback that changes the training."""
    return [
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, cooldown=1),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True),
        keras.callbacks.EarlyStopping("accuracy", patience=3, start_from_epoch=1),
        keras.callbacks.TerminateOnNaN(),
    ]


ALL |= {
    "callbacks-files": Row(finite, held=files),
    "callbacks-decisions": Row(finite, held=decisions, fit={"epochs": 6}),
    "callbacks-schedule": Row(
        finite,
        of_adam(),
        held=lambda: [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)],
    ),
}
