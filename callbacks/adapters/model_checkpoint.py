"""ModelCheckpoint: what it has seen, and the files that it has written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import keras

from keepfit.callbacks.adapters.base import State
from keepfit.callbacks.adapters.paths import matches_template


class ModelCheckpointAdapter:
    """For ModelCheckpoint, which forgets what the best was, and when it saved last."""

    state = ("best", "_batches_seen_since_last_saving", "_last_batch_seen", "_current_epoch")
    handles = ()
    config = (
        "monitor",
        "mode",
        "min_delta",
        "monitor_op",
        "filepath",
        "verbose",
        "save_best_only",
        "save_weights_only",
        "save_freq",
    )

    def get(self, callback: Any) -> State:
        found = {name: getattr(callback, name) for name in self.state if hasattr(callback, name)}
        return {"values": found, "files": list(_recorded_paths(callback))}

    def set(self, callback: Any, state: State) -> None:
        for name, value in state["values"].items():
            setattr(callback, name, value)

    def append_only(self, callback: Any) -> Mapping[str, int]:
        return {}

    def replaced(self, callback: Any) -> Sequence[str]:
        return [path for path in _recorded_paths(callback) if Path(path).is_file()]

    def may_write(self, callback: Any, path: str) -> bool:
        return matches_template(callback.filepath, path)

    def baseline(self, callback: Any) -> Mapping[str, int]:
        return {}

    @contextmanager
    def starting(self, callback: Any, baseline: Mapping[str, int]) -> Iterator[None]:
        _record_paths(callback, [])
        yield

    @contextmanager
    def resuming(self, callback: Any, state: State, sizes: Mapping[str, int]) -> Iterator[None]:
        _record_paths(callback, state["files"])
        yield


class RedirectedModelCheckpoint(keras.callbacks.ModelCheckpoint):
    """Keras' ModelCheckpoint, which saves to the path that a derived class chooses.

    Keras decides when to save and what; `local_path` and `saved` are for the derived class.
    """

    def local_path(self, path: str) -> str:
        """Return the path to save to in place of `path`, which Keras has made of the template."""
        return path

    def saved(self, local_path: str, path: str, epoch: int) -> None:
        """Act on the file that has just been saved to `local_path`."""

    def _save_model(self, epoch: int, batch: int | None, logs: Any) -> None:
        path = self._get_file_path(epoch, batch, logs)
        local = self.local_path(path)
        if local == path:
            super()._save_model(epoch, batch, logs)
            return
        with _fixed_path(self, local):
            super()._save_model(epoch, batch, logs)
        if os.path.exists(local):  # Keras may have decided that this model is not better
            self.saved(local, path, epoch)


@contextmanager
def _fixed_path(callback: Any, path: str) -> Iterator[None]:
    """Have the callback save to `path`, whatever its template says, until the block ends."""
    recording = vars(callback).get("_get_file_path")
    callback._get_file_path = lambda *_, **__: path
    try:
        yield
    finally:
        del callback._get_file_path
        if recording:
            callback._get_file_path = recording


class RecordingPathFunction:
    """Makes a path as ModelCheckpoint does, and remembers it: a template can become anything.

    Attributes:
        used: the paths, in the order of their first use.
    """

    def __init__(self, make: Callable[..., str], used: Sequence[str]) -> None:
        self._make = make
        self.used = list(used)

    def __call__(self, *args: Any, **named: Any) -> str:
        path = self._make(*args, **named)
        if path not in self.used:
            self.used.append(path)
        return path


def _record_paths(callback: Any, used: Sequence[str]) -> None:
    make = type(callback)._get_file_path
    callback._get_file_path = RecordingPathFunction(partial(make, callback), used)


def _recorded_paths(callback: Any) -> Sequence[str]:
    watched = callback._get_file_path
    return watched.used if isinstance(watched, RecordingPathFunction) else ()
