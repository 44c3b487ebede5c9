"""Short scripts that train 24 batches, and processes that stop in the middle of them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any

from tests.e2e.process import Ended, Process, document, run, started

STEPS = 24
OFTEN = ("--deterministic", "--save-every", "2 batches")
RARELY = ("--deterministic", "--save-every", "1h")
SOON = 20
"""Seconds within which a process ends that has nothing left to do, on a loaded machine."""

PRELUDE = '''
import contextlib, hashlib, json, os, signal, sys, threading, time
from pathlib import Path
import keras, numpy as np, tensorflow as tf
from keepfit import Resumable

STOP_AT = int(os.environ.get("STOP_AT", "0"))
keras.utils.set_random_seed(1)
x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")


class Stateless(keras.callbacks.Callback):
    def get_state(self):
        return None

    def set_state(self, state):
        pass


class Stop(Stateless):
    """Prints `moment` after STOP_AT batches of this process, and waits for a byte in `go`."""

    def __init__(self):
        super().__init__()
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        if self.batches == STOP_AT:
            go = os.open("go", os.O_RDONLY)
            print("moment", flush=True)
            os.read(go, 1)
            os.close(go)


def build(units=3):
    layers = [keras.layers.Dense(units), keras.layers.Dropout(0.3), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("adam", "mse")
    return model


def fit(model, *held, **options):
    callbacks = [Resumable([*held, Stop()], **options)]
    return model.fit(x, x.sum(1), batch_size=8, epochs=3, verbose=0, callbacks=callbacks)


def result(model, history, **more):
    digest = hashlib.sha256()
    for variable in [*model.variables, *model.optimizer.variables]:
        digest.update(variable.numpy().tobytes())
    found = {"variables": digest.hexdigest(), "history": history and history.history, **more}
    Path("result.json").write_text(json.dumps(found))

'''
PLAIN = """
model = build()
result(model, fit(model))
"""


@dataclass(frozen=True)
class Stopped:
    """A process that waits after some batch."""

    process: Process
    go: int

    def go_on(self, readers: int = 1) -> None:
        """Let the script continue, in so many threads."""
        os.write(self.go, b"x" * readers)

    def until_all(self, *parts: str) -> None:
        """Wait for lines of output with these parts, in any order."""
        missing = set(parts)

        def all_found(line: str) -> bool:
            missing.difference_update([part for part in missing if part in line])
            return not missing

        self.process.until(all_found)

    def end(self, number: signal.Signals, readers: int = 1) -> Ended:
        """Send a signal, let the script continue when it is noticed, and wait for the end."""
        self.process.send(number)
        self.process.until_event("notice")
        self.go_on(readers)
        return self.process.wait(SOON)

    def kill(self) -> None:
        """Send SIGKILL, and wait for the end."""
        self.process.send(signal.SIGKILL)
        assert self.process.wait().code == -signal.SIGKILL


def give_spot_notice(watched: Path) -> None:
    """Give a notice like EC2's, 100 seconds ahead, in a watched file, which appears whole."""
    at = datetime.now(UTC) + timedelta(seconds=100)
    new = watched.with_name("notice.new")
    new.write_text(json.dumps({"time": f"{at:%Y-%m-%dT%H:%M:%SZ}", "action": "leave"}))
    new.replace(watched)


def write(folder: Path, script: str) -> Path:
    """Write the script as train.py into the folder, which is created. Return the folder."""
    folder.mkdir(exist_ok=True)
    (folder / "train.py").write_text(PRELUDE + dedent(script))
    return folder


@contextmanager
def stopping(
    folder: Path, *args: str | Path, at: int = STEPS // 2, **env: str
) -> Iterator[Stopped]:
    """Start train.py, which stops after `at` batches if it trains so many."""
    if not (folder / "go").exists():
        os.mkfifo(folder / "go")
    go = os.open(folder / "go", os.O_RDWR)  # with a writer, the script's reads wait
    try:
        with started(folder, *args, "train.py", STOP_AT=str(at), **env) as process:
            yield Stopped(process, go)
    finally:
        os.close(go)


@contextmanager
def stopped(folder: Path, *args: str | Path, at: int = STEPS // 2, **env: str) -> Iterator[Stopped]:
    """Start train.py, and yield it when it has stopped after `at` batches."""
    with stopping(folder, *args, at=at, **env) as attempt:
        attempt.until_all("moment\n")
        yield attempt


def kill_after_save(folder: Path, **options: Any) -> None:
    """Start train.py, and kill it in the second epoch after a save, whether that succeeded or not.

    The save comes after the first epoch, so that it contains its row of a log.
    """
    flags = ("--deterministic", "--save-every", "9 batches")
    with stopping(folder, *flags, at=11, **options) as attempt:
        attempt.until_all("moment\n", '"step": 9,')
        attempt.kill()


def finish(folder: Path, *args: str | Path, **env: str) -> dict:
    """Run train.py to its end. Return its result."""
    ended = run(folder, *(args or OFTEN), "train.py", **env)
    assert ended.code == 0, ended.err
    return json.loads((folder / "result.json").read_text())


def committed(folder: Path, name: str = "train") -> int:
    """Return the number of batches in the newest committed checkpoint of a run."""
    head = document(folder / f"runs/{name}/HEAD.json")
    return document(folder / "runs" / head["checkpoints"][0])["position"]["step"]


def stored(folder: Path) -> dict[str, bytes]:
    """Return the objects of the store in a folder, with their contents."""
    paths = [path for path in (folder / "runs").rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in paths if not path.name.startswith(".")}


def check_preempted(ended: Ended) -> None:
    """Check the exit code of a preemption that loses nothing, and its log line."""
    assert ended.code == 75, ended.err
    line = ended.one("preempted")
    assert (line["saved"], line["lost"]) == (True, 0)
