"""A small training with everything that an interruption can affect, for tests that kill it often.

    keepfit run --deterministic small.py INPUT [--kill HOOK:EPOCH:BATCH]

At its end it writes `result.json`: a SHA-256 of all variables, the history, the CSV file's text.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import threading
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from botocore.httpsession import URLLib3Session

from keepfit import Resumable
from keepfit.callbacks.storage.file_operations import FileOperations

ROWS, BATCH, EPOCHS = 640, 32, 5


class Killer(keras.callbacks.Callback):
    """A callback that sends this process a signal at one moment; SIGKILL is like a power cut."""

    def __init__(self, moment: str):
        super().__init__()
        hook, epoch, batch, *name = moment.split(":")
        self.moment = (hook, int(epoch), int(batch))
        self.signal = signal.Signals[name[0] if name else "SIGKILL"]
        self.epoch = 0

    def reach(self, hook, batch=0):
        if self.moment == (hook, self.epoch, batch):
            os.kill(os.getpid(), self.signal)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.reach("epoch_begin")

    def on_train_batch_begin(self, batch, logs=None):
        self.reach("batch_begin", batch)

    def on_train_batch_end(self, batch, logs=None):
        self.reach("batch_end", batch)

    def on_test_batch_end(self, batch, logs=None):
        self.reach("validation", batch)

    def on_epoch_end(self, epoch, logs=None):
        self.reach("epoch_end")


class Stuck(keras.callbacks.Callback):
    """A callback whose batch does not end: the first one, or the one at EPOCH:BATCH."""

    def __init__(self, moment: str = ""):
        super().__init__()
        self.moment = moment
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.moment in ("", f"{self.epoch}:{batch}"):
            print("stuck", flush=True)
            threading.Event().wait()


class Slow(keras.callbacks.Callback):
    """A callback that makes batches as slow as those of a larger model."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_train_batch_end(self, batch, logs=None):
        threading.Event().wait(self.seconds)


class Failing(keras.callbacks.Callback):
    """A callback that raises an error at the end of one epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise ValueError("an error of the script")


class Counter(keras.callbacks.Callback):
    """A callback of the user's own, which counts epochs and batches and stores random numbers."""

    def __init__(self):
        super().__init__()
        self.seen = {"epochs": 0, "batches": 0, "draws": []}

    def get_state(self):
        return self.seen

    def set_state(self, state):
        self.seen = state

    def on_epoch_begin(self, epoch, logs=None):
        self.seen["epochs"] += 1
        self.seen["draws"].append(float(np.random.random()))
        self.seen["draws"].append(float(tf.random.normal([])))
        self.seen["draws"].append(float(keras.random.normal([])))

    def on_train_batch_end(self, batch, logs=None):
        self.seen["batches"] += 1


def kill_in_save(number: int) -> None:
    """Kill this process at its `number`-th file operation or request, counted over all saves."""
    counted = iter(range(1, number + 1))

    def dying(operation):
        def run(*args):
            if next(counted) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args)

        return run

    for name in ("write", "sync", "rename", "remove", "make_folder"):
        setattr(FileOperations, name, dying(getattr(FileOperations, name)))
    URLLib3Session.send = dying(URLLib3Session.send)


def data(kind: str) -> dict:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 20)).astype("float32")
    y = rng.integers(0, 3, ROWS)
    rows = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(200, seed=3)
    match kind:
        case "tfdata":
            noise = tf.random.stateless_normal([20], [1, 2])
            rows = rows.map(lambda a, b: (a + noise, b), num_parallel_calls=2)
            return {"x": rows.batch(BATCH).prefetch(2)}
        case "unknown-length":
            return {"x": rows.filter(lambda a, b: b < 3).batch(BATCH).prefetch(2)}
        case "infinite":
            return {"x": rows.repeat().batch(BATCH).prefetch(2), "steps_per_epoch": 20}
        case "numpy":
            return {"x": x, "y": y, "batch_size": BATCH}
    raise ValueError(kind)


def build(units: int, steps: int = 1) -> keras.Model:
    model = keras.Sequential(
        [
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(3),
        ]
    )
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(1e-2, 10, 0.9)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=steps,
    )
    return model


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("input")
    parser.add_argument("--kill")
    parser.add_argument("--kill-in-save", type=int)
    parser.add_argument("--stuck", action="store_true")
    parser.add_argument("--stuck-in")
    parser.add_argument("--batch-seconds", type=float)
    parser.add_argument("--fail-in", type=int)
    parser.add_argument("--steps-per-execution", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--append", action="store_true")
    parser.add_argument("--patience", type=int, default=4)
    parser.add_argument("--units", type=int, default=32)
    return parser.parse_args()


def main() -> None:
    options = arguments()
    keras.utils.set_random_seed(7)
    model = build(options.units, options.steps_per_execution)
    rng = np.random.default_rng(1)
    validation = rng.normal(size=(100, 20)).astype("float32"), rng.integers(0, 3, 100)
    counter = Counter()
    early = keras.callbacks.EarlyStopping(
        "val_accuracy", patience=options.patience, restore_best_weights=True
    )
    held = [early, keras.callbacks.CSVLogger("log.csv", append=options.append), counter]
    if options.kill:
        held.append(Killer(options.kill))
    if options.kill_in_save:
        kill_in_save(options.kill_in_save)
    if options.stuck:
        held.append(Stuck())
    if options.stuck_in:
        held.append(Stuck(options.stuck_in))
    if options.batch_seconds:
        held.append(Slow(options.batch_seconds))
    if options.fail_in is not None:
        held.append(Failing(options.fail_in))
    history = model.fit(
        **data(options.input),
        epochs=options.epochs,
        verbose=0,
        validation_data=validation,
        callbacks=[Resumable(held)],
    )
    variables = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    digest = hashlib.sha256()
    for variable in variables:
        digest.update(variable.numpy().tobytes())
    result = {
        "variables": digest.hexdigest(),
        "count": len(variables),
        "history": history.history,
        "epochs": history.epoch,
        "csv": Path("log.csv").read_text(),
        "seen": counter.seen,
        "early": [early.wait, early.best, early.best_epoch, early.stopped_epoch],
        "draws": [float(np.random.random()), float(tf.random.normal([]))],
    }
    Path("result.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
