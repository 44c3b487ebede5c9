"""A job that is killed at random batches: what is trained again, and whether it ends as it should.

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


def killed(method: str, kills: int) -> dict[str, Any]:
    """The job with kills, beside the same without.

    Returns:
        kills, batches: of the job.
        trained: by all attempts of the job that was killed.
        same_model, same_history: as without kills; None where it has no history.
    """
    total = JOB.epochs * JOB.steps
    at = sorted(random.Random(SEED).sample(range(total - 1), kills))
    plain, interrupted = _job(method, [None]), _job(method, [*at, None])
    history = plain["history"]
    return {
        "kills": kills,
        "batches": total,
        "trained": interrupted["trained"],
        "same_model": plain["digest"] == interrupted["digest"],
        "same_history": None if history is None else history == interrupted["history"],
    }


def _job(method: str, kills: Sequence[int | None]) -> dict[str, Any]:
    """All attempts of one job; the last is not killed."""
    with tempfile.TemporaryDirectory() as folder:
        kept, result, trained = (Path(folder, name) for name in ("kept", "result", "trained"))
        kept.mkdir()
        for kill in kills:
            pid = os.fork()
            if not pid:
                _attempt(method, kept, kill, trained, result)
            _, status = os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            if code != (0 if kill is None else -signal.SIGKILL):
                sys.exit(f"{method}: an attempt ended with {code}")
        return {**json.loads(result.read_text()), "trained": trained.stat().st_size}


def _attempt(method: str, kept: Path, kill: int | None, trained: Path, result: Path) -> None:
    """In a process of its own, which it ends."""
    try:
        tf.config.experimental.enable_op_determinism()
        # Not a file object: keepfit would take it for a callback's log, and count nothing twice.
        count = os.open(trained, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

        def then(batch: int) -> None:
            os.write(count, b".")
            if batch == kill:
                os.kill(os.getpid(), signal.SIGKILL)

        model, history = METHODS[method]().complete(_training, kept, JOB, then)
        values = [*model.get_weights(), *(np.asarray(v) for v in model.optimizer.variables)]
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(v).tobytes() for v in values))
        result.write_text(json.dumps({"digest": digest.hexdigest(), "history": history}))
        os._exit(0)
    except BaseException:  # noqa: BLE001 the process ends here, whatever it is
        traceback.print_exc()
        os._exit(1)


def _training() -> Training:
    """Handwritten digits, shuffled anew for each epoch, with dropout."""
    keras.utils.set_random_seed(SEED)
    with np.load(Path(mnist.__file__).with_name("mnist.npz")) as found:
        images, labels = found["x_train"] / np.float32(255), found["y_train"].astype("int64")
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
