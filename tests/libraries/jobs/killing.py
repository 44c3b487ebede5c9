"""A callback for the scripts beside this file: it kills their process after KILL_AFTER batches."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import keras

KILL_AFTER = int(os.environ.get("KILL_AFTER", "0"))
HEAD = Path("runs", Path(sys.argv[0]).stem, "HEAD.json")


def checkpoints():
    """Return the keys of the committed checkpoints, the newest first."""
    return json.loads(HEAD.read_bytes())["document"]["checkpoints"] if HEAD.exists() else []


AT_START = checkpoints()
trained = []


def count_and_kill(batch, logs):
    """Kill this process after some batches, when it has committed a checkpoint of its own."""
    trained.append(batch)
    if len(trained) == KILL_AFTER:
        while checkpoints()[:1] == AT_START[:1]:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)


def killer():
    """Return the callback, for which all fits of this process are one."""
    return keras.callbacks.LambdaCallback(on_train_batch_end=count_and_kill)
