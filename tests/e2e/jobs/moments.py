"""Two fits that wait at one moment, so that a test can interrupt the process exactly there.

    AT=FIT:HOOK:EPOCH:BATCH keepfit run moments.py

At the moment it prints `moment`, and waits for a line in the FIFO `go`: `raise` raises an error,
any other line continues. The file `trained` gets one byte for each trained batch. At its end it
writes `result.json`: a SHA-256 of all variables, the histories, and random draws.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import keras
import numpy as np

from keepfit import Resumable

AT = os.environ.get("AT", "")
STORE = Path("runs")
LIMIT = 60
FITS, EPOCHS, BATCHES, BATCH = 2, 2, 4, 8


class ScriptError(RuntimeError):
    """An error of the script."""


def reach(moment: str) -> None:
    """Wait for the test if this is the moment."""
    if moment != AT:
        return
    with open("go") as go:
        try:
            print("moment", flush=True)
            line = go.readline()
        except BaseException:
            go.readline()  # the script cleans up until the test lets it end
            raise
    if line == "raise\n":
        raise ScriptError("an error of the script")


class Moments(keras.callbacks.Callback):
    """A callback that reports trained batches, and reaches the moments within a fit."""

    def __init__(self, fit: int):
        super().__init__()
        self._fit = fit
        self._epoch = 0
        self._locks = ExitStack()

    def get_state(self) -> None:
        """Return no state: the next attempt has another moment."""

    def set_state(self, state: None) -> None:
        pass

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        reach(f"{self._fit}:epoch:{epoch}:0")

    def on_train_batch_begin(self, batch, logs=None):
        if f"{self._fit}:save:{self._epoch}:{batch}" == AT:
            self._locks.enter_context(locked_store())

    def on_train_batch_end(self, batch, logs=None):
        # Not opened to append, or keepfit would cut it back to the checkpoint as a callback's file.
        trained = os.open("trained", os.O_WRONLY | os.O_CREAT, 0o600)
        os.lseek(trained, 0, os.SEEK_END)
        os.write(trained, b".")
        os.close(trained)
        reach(f"{self._fit}:batch:{self._epoch}:{batch}")
        if f"{self._fit}:save:{self._epoch}:{batch - 1}" == AT:
            with self._locks:
                wait_for_write()
                reach(AT)

    def on_test_batch_end(self, batch, logs=None):
        reach(f"{self._fit}:validation:{self._epoch}:{batch}")


@contextmanager
def locked_store() -> Iterator[None]:
    """Hold the store's locks: an object is written, but not put into place until the block ends."""
    with ExitStack() as files:
        locks = list(STORE.rglob(".lock*"))
        assert locks, "the store has no lock"
        for path in locks:
            fcntl.flock(files.enter_context(open(path)), fcntl.LOCK_EX)
        yield


def wait_for_write() -> None:
    """Wait until the writer has begun an object."""
    end = time.monotonic() + LIMIT
    while not any(STORE.rglob(".*.tmp")):
        assert time.monotonic() < end, "no save has begun"
        time.sleep(0.005)


def build() -> keras.Model:
    layers = [keras.layers.Dense(8), keras.layers.Dropout(0.3), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.SGD(1e-2, momentum=0.9), "mse")
    return model


def train(model: keras.Model, fit: int) -> keras.callbacks.History:
    rng = np.random.default_rng(fit)
    x = rng.normal(size=(BATCHES * BATCH, 4)).astype("float32")
    held = [
        keras.callbacks.CSVLogger(f"log-{fit}.csv"),
        keras.callbacks.ModelCheckpoint(
            f"best-{fit}.weights.h5", save_best_only=True, save_weights_only=True
        ),
        keras.callbacks.EarlyStopping(patience=9, restore_best_weights=True),
        Moments(fit),
    ]
    return model.fit(
        x,
        x.sum(1),
        batch_size=BATCH,
        epochs=EPOCHS,
        verbose=0,
        validation_data=(x[:12], x[:12].prod(1)),
        validation_batch_size=6,
        callbacks=[Resumable(held)],
    )


def main() -> None:
    keras.utils.set_random_seed(7)
    model = build()
    first = train(model, 1)
    reach("between fits")
    second = train(model, 2)
    reach("end")
    digest = hashlib.sha256()
    for variable in [*model.variables, *model.optimizer.variables]:
        digest.update(variable.numpy().tobytes())
    result = {
        "variables": digest.hexdigest(),
        "histories": [[h.epoch, h.history] for h in (first, second)],
        "draws": [float(np.random.random()), float(keras.random.normal([]))],
    }
    Path("result.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
