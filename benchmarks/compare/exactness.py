"""Kill a job at random batches: how much is trained again, and is the result the same?

Each attempt is a process, forked from one that has imported TensorFlow but not used it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from compare.method import Job
from compare.methods import METHODS
from keepfit.job.examples import mnist
from models import Training

JOB = Job(epochs=5, steps=40, every=10)
SEED = 2026
BATCH = 128


def compare_killed_job(method: str, kills: int) -> dict[str, Any]:
    """Run the job with kills and without, and compare the results.

    Returns:
        kills, batches: number of kills, and of batches of the job.
        trained: number of batches that all attempts of the killed job have trained.
        same_model, same_history: whether these equal those of the uninterrupted job; None where the
            method has no history.
    """
    total = JOB.epochs * JOB.steps
    batches = sorted(random.Random(SEED).sample(range(total - 1), kills))
    uninterrupted, interrupted = _job(method, [None]), _job(method, [*batches, None])
    history = uninterrupted["history"]
    return {
        "kills": kills,
        "batches": total,
        "trained": interrupted["trained"],
        "same_model": uninterrupted["digest"] == interrupted["digest"],
        "same_history": None if history is None else history == interrupted["history"],
    }


def _job(method: str, kills: Sequence[int | None]) -> dict[str, Any]:
    """Run all attempts of one job and return its result.

    Args:
        method: name in compare/methods.py.
        kills: the batch at which each attempt is killed; None for the last one.
    """
    with tempfile.TemporaryDirectory() as folder:
        saves, result, trained = (Path(folder, name) for name in ("saves", "result", "trained"))
        saves.mkdir()
        for kill in kills:
            pid = os.fork()
            if not pid:
                _attempt(method, saves, kill, trained, result)
            _, status = os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            if code != (0 if kill is None else -signal.SIGKILL):
                sys.exit(f"{method}: an attempt ended with {code}")
        return {**json.loads(result.read_text()), "trained": trained.stat().st_size}


def _attempt(method: str, saves: Path, kill: int | None, trained: Path, result: Path) -> None:
    """Run one attempt in a process of its own, and end the process."""
    try:
        tf.config.experimental.enable_op_determinism()
        # Not a file object: keepfit would take it for a file of the callback and restore its size,
        # so no batch would be counted twice.
        count = os.open(trained, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

        def on_batch(batch: int) -> None:
            os.write(count, b".")
            if batch == kill:
                os.kill(os.getpid(), signal.SIGKILL)

        model, history = METHODS[method]().complete(_training, saves, JOB, on_batch)
        values = [*model.get_weights(), *(np.asarray(v) for v in model.optimizer.variables)]
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(v).tobytes() for v in values))
        result.write_text(json.dumps({"digest": digest.hexdigest(), "history": history}))
        os._exit(0)
    except BaseException:  # noqa: BLE001 the process ends here, whatever the error is
        traceback.print_exc()
        os._exit(1)


def _training() -> Training:
    """Return a training on handwritten digits, shuffled for each epoch, with dropout."""
    keras.utils.set_random_seed(SEED)
    with np.load(Path(mnist.__file__).with_name("mnist.npz")) as arrays:
        images, labels = arrays["x_train"] / np.float32(255), arrays["y_train"].astype("int64")
    model = keras.Sequential(
        [
            keras.Input(images.shape[1:]),
            keras.layers.Reshape((*images.shape[1:], 1)),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dropout(0.3),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    data = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(1000, seed=SEED)
    return model, data.repeat().batch(BATCH, drop_remainder=True).prefetch(2)
