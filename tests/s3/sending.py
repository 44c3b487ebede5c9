"""A training whose callbacks send everything that they can to S3 and to a server.

    keepfit run --deterministic sending.py s3://BUCKET/PREFIX [--server URL] [--die BATCHES]

It prints `epoch N` after each epoch. `--fail` raises an error after two epochs, and `--plain` uses
no Resumable.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import time
from pathlib import Path

import keras
import numpy as np

import keepfit

BATCHES = 5


class Die(keras.callbacks.Callback):
    """A callback that kills this process after so many batches, if the second epoch is saved."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_train_batch_end(self, batch, logs=None):
        done, until = int(self.model.optimizer.iterations), time.monotonic() + 1
        # A save is left out while another one is being written; the batches here are very short.
        # The one after this batch comes when all callbacks have seen it.
        while saved_step() < done - 1 and time.monotonic() < until:
            time.sleep(0.01)
        if done >= self.batches and saved_step() > BATCHES:
            os.kill(os.getpid(), signal.SIGKILL)


def saved_step():
    """Return the step of the newest checkpoint."""
    steps = re.findall(r"checkpoints/(\d+)-", Path("runs/sending/HEAD.json").read_text())
    return max(map(int, steps), default=0)


def fail(epoch):
    if epoch == 2:
        raise RuntimeError("an error of the script")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--server", default="")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--die", type=int, default=0)
    parser.add_argument("--fail", action="store_true")
    parser.add_argument("--plain", action="store_true")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8 * BATCHES, 4)).astype("float32")
    layers = [keras.Input((4,), name="x"), keras.layers.Dense(1, name="dense")]
    model = keras.Sequential(layers, name="model")
    model.compile(keras.optimizers.SGD(0.01), "mse")
    weights = {"save_weights_only": True}
    held = [
        keepfit.CSVLogger(f"{args.url}/log.csv"),
        keepfit.ModelCheckpoint(f"{args.url}/{{epoch}}.weights.h5", **weights),
        keepfit.ModelCheckpoint(
            f"{args.url}/best.weights.h5", "loss", save_best_only=True, **weights
        ),
        keepfit.TensorBoard(f"{args.url}/board", write_graph=False, update_freq=1),
    ]
    if args.server:
        held.append(keepfit.RemoteMonitor(args.server))
        held.append(keras.callbacks.RemoteMonitor(args.server, path="/keras/"))
    shown = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: fail(epoch) if args.fail else None,
        on_epoch_end=lambda epoch, logs: print("epoch", epoch, flush=True),
    )
    callbacks = held if args.plain else [keepfit.Resumable(held)]
    model.fit(
        x,
        x.sum(1),
        batch_size=8,
        epochs=args.epochs,
        verbose=0,
        callbacks=[*callbacks, shown, *([Die(args.die)] if args.die else [])],
    )


if __name__ == "__main__":
    main()
