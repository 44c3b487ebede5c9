"""A server that forks a process per training of one row, so that TensorFlow is imported once.

    python -m tests.e2e.forge

It reads requests, one JSON object per line: {"row": …, "folder": …, "kill": a number of batches or
null, "plain": true without Resumable}. The forked process trains in the folder, and is killed with
SIGKILL after that number of its own batches. The answer is {"code": …}: the exit code, or the
negative number of the signal.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keepfit import Resumable
from keepfit.callbacks.training import variables
from tests.e2e import rows

SAVE_EVERY = "2 batches"


class Killer(keras.callbacks.Callback):
    """A callback that sends SIGKILL after `batches`, like a power cut. It keeps no state."""

    def __init__(self, batches: int):
        super().__init__()
        self._left = batches

    def get_state(self) -> None:
        return None

    def set_state(self, state: None) -> None:
        pass

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._left -= 1
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)


def train(name: str, kill: int | None, plain: bool) -> None:
    """Run the row's script, and write its results to result.json."""
    row = rows.ALL[name]
    row.before()
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(7)
    models = []
    killer = [Killer(kill)] if kill else []

    def fit(model: keras.Model, held: list[Any], **arguments: Any) -> Any:
        models.append(model)
        callbacks = held if plain else [Resumable([*held, *killer])]
        return model.fit(callbacks=callbacks, **arguments)

    histories = (row.script or rows.once)(row, fit)
    result = {
        "variables": [digests(model) for model in models],
        "histories": [[h.epoch, h.history, h.params] for h in histories],
        "draws": [float(np.random.random()), float(tf.random.normal([]))],
    }
    Path("result.json").write_text(json.dumps(result, indent=1))


def digests(model: keras.Model) -> dict[str, str]:
    """Return a SHA-256 of each variable, by name."""
    return {
        named.spec.name: hashlib.sha256(named.variable.numpy().tobytes()).hexdigest()
        for named in variables.find_variables(model)
    }


def child(request: dict[str, Any]) -> None:
    """Train as the forked process, and exit."""
    code = 1
    try:
        os.chdir(request["folder"])
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ |= {"KEEPFIT_SAVE_EVERY": SAVE_EVERY, "KEEPFIT_RUN": "row"}
        train(request["row"], request["kill"], request["plain"])
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        from keepfit.callbacks.engine import session

        session.current().close()
        sys.stdout.flush()
        os._exit(code)


def main() -> None:
    """Run one process per request, one after another."""
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            child(json.loads(line))
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
