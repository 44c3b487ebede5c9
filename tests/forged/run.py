"""A real run with every kind of state, in a folder of which each test forges a copy."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.checkpoint.samples import document_at, write_document
from tests.training.trainings import Counter, Outcome, Training, attempt, preempted, shuffled

Json = Any


class Collector(keras.callbacks.Callback):
    """A callback of the user's own: its state is what training has changed of it."""

    limit = 3

    def __init__(self) -> None:
        super().__init__()
        self.path = "own.txt"
        self.losses: list[float] = []
        self.started = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self.started = 1.5

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.losses.append(logs["loss"])
        self.total = np.float32(sum(self.losses))


class Keeper(keras.callbacks.Callback):
    """A callback that keeps its own state, and takes only what it has returned."""

    seen = 0

    def get_state(self) -> dict[str, int]:
        return {"seen": self.seen}

    def set_state(self, state: dict[str, int]) -> None:
        self.seen = state["seen"] + 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen += 1


def callbacks() -> list[Any]:
    """Return one callback of each kind of state."""
    return [
        keras.callbacks.CSVLogger("log.csv"),
        keras.callbacks.ModelCheckpoint("ck/{epoch:02d}.weights.h5", save_weights_only=True),
        keras.callbacks.EarlyStopping("loss", patience=9, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("loss", patience=9),
        keras.callbacks.TensorBoard("board", write_graph=False),
        Counter(),
        Collector(),
        Keeper(),
    ]


TRAINING = Training(held=callbacks, data=shuffled, validated=False, fit={"epochs": 3})
"""Three epochs of five batches."""

STOPPED_AFTER = 8
RUN = "run"


def save(folder: Path) -> None:
    """Train in a new process's place until a notice, with a save after each batch.

    Two checkpoints are kept: each document is read many times.
    """
    with chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEEPFIT_KEEP", "2")
        preempted(TRAINING, "runs", "on_train_batch_end", STOPPED_AFTER, save_every="1 batches")


def resume(folder: Path) -> Outcome:
    """Make another attempt in the folder."""
    with chdir(folder):
        return attempt(TRAINING, "runs")


@dataclass
class ForgedRun:
    """The documents of a run in a folder, to be changed and sealed.

    Attributes:
        folder: the working directory of the training; the store is `runs` in it.
        head: the fields of HEAD.
        key: key of the newest manifest.
        manifest: the fields of the newest manifest.
    """

    folder: Path
    head: Json
    key: str
    manifest: Json

    @classmethod
    def of(cls, folder: Path) -> ForgedRun:
        """Read the documents of the run in a folder."""
        head = document_at(folder / "runs" / RUN / "HEAD.json")
        key = head["checkpoints"][0]
        return cls(folder, head, key, document_at(folder / "runs" / key))

    def seal(self) -> None:
        """Write both documents with right digests, each at once: an error leaves the old one."""
        store = self.folder / "runs"
        for key, fields in ((self.key, self.manifest), (f"{RUN}/HEAD.json", self.head)):
            write_document(self.folder / "new.json", fields)
            (self.folder / "new.json").replace(store / key)

    def state_of(self, name: str) -> Json:
        """Return the stored state of the first callback of a class."""
        found = (c for c in self.manifest["state"]["callbacks"] if c["class"] == name)
        return next(found)["state"]

    def add_object(self, key: str, content: bytes) -> dict[str, Any]:
        """Put an object into the store; return how a manifest names it as a part of a file."""
        place = self.folder / "runs" / key
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return {"key": key, "digest": hashlib.sha256(content).hexdigest(), "size": len(content)}


@contextmanager
def copy_of(base: Path, target: Path) -> Iterator[ForgedRun]:
    """Copy a run's folder; yield its documents, and seal them after the block."""
    shutil.copytree(base, target)
    forged = ForgedRun.of(target)
    yield forged
    forged.seal()


def content_of(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder by their paths."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


Forge = Callable[[ForgedRun], None]


def setting(*path: str | int, value: Json) -> Forge:
    """Return a forgery that sets a field: of "head" or "manifest", and then below it."""

    def forge(run: ForgedRun) -> None:
        document, *above, last = path
        place = getattr(run, str(document))
        for step in above:
            place = place[step]
        place[last] = json.loads(json.dumps(value))

    return forge
