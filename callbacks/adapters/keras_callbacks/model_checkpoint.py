"""The adapter of ModelCheckpoint: its state, and the files that it has written.

Private names of Keras' ModelCheckpoint:
- `_batches_seen_since_last_saving`, `_last_batch_seen`, `_current_epoch`: the position between two
  saves by `save_freq`, which no public name has;
- `_get_file_path`: the only place that knows which paths the template was turned into;
- `_save_model`: called for each save, so that the file can be written elsewhere first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import keras

from keepfit.callbacks.adapters.base import State
from keepfit.callbacks.adapters.state_types import Number, StoredPath
from keepfit.callbacks.checkpoint.format.state_schema import Fields, check_fields
from keepfit.callbacks.files.paths import matches_template
from keepfit.callbacks.files.uploads import is_remote, working_copy


class ModelCheckpointAdapter:
    """Adapter for ModelCheckpoint, which forgets on restart the best value and its last save."""

    state: ClassVar[Fields] = {
        "best": Number | None,
        "_batches_seen_since_last_saving": Number | None,
        "_last_batch_seen": Number | None,
        "_current_epoch": Number | None,
    }
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
        values = {name: getattr(callback, name) for name in self.state if hasattr(callback, name)}
        return {
            "values": values,
            "files": list(_recorded_paths(callback)),
            "copies": dict(_pending_copies(callback)),
        }

    def set(self, callback: Any, state: State) -> None:
        for name, value in state["values"].items():
            setattr(callback, name, value)

    def check(self, callback: Any, state: State) -> None:
        paths = {"files": list[StoredPath]}
        check_fields(state, {"values": dict, **paths}, {"copies": dict[StoredPath, StoredPath]})
        check_fields(state["values"], {}, self.state)

    def append_only(self, callback: Any) -> Mapping[str, int]:
        return {}

    def replaced(self, callback: Any) -> Sequence[str]:
        files = [path for path in _recorded_paths(callback) if Path(path).is_file()]
        return [*files, *_pending_copies(callback).values()]

    def temporary(self, callback: Any) -> Collection[str]:
        return _pending_copies(callback).values()

    def may_write(self, callback: Any, path: str) -> bool:
        return matches_template(callback.filepath, path) or _is_copy(callback, path)

    def baseline(self, callback: Any) -> Mapping[str, int]:
        return {}

    @contextmanager
    def starting(self, callback: Any, baseline: Mapping[str, int]) -> Iterator[None]:
        _record_paths(callback, [])
        yield
        _send_again(callback, {})

    @contextmanager
    def resuming(self, callback: Any, state: State, sizes: Mapping[str, int]) -> Iterator[None]:
        # The script names what is read for upload; a checkpoint may only say which of it.
        named = [path for path in state["files"] if matches_template(callback.filepath, path)]
        _record_paths(callback, named)
        yield
        _send_again(callback, state.get("copies", {}))


class RedirectedModelCheckpoint(keras.callbacks.ModelCheckpoint):
    """Keras' ModelCheckpoint, saving to a path that a derived class chooses.

    Keras decides when to save and what; a derived class overrides the first four methods.
    """

    def local_path(self, path: str) -> str:
        """Return the path to save to in place of `path`, which Keras has made from the template."""
        return path

    def saved(self, local_path: str, path: str, epoch: int) -> None:
        """Act on the file that has just been saved to `local_path`."""

    def pending_copies(self) -> Mapping[str, str]:
        """Return the files that have been saved and not been sent yet, by the path of each."""
        return {}

    def send_again(self, copies: Mapping[str, str]) -> None:
        """Send the files that a checkpoint names as not sent; remove those of a killed attempt."""

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
    """Make the callback save to `path` until the block ends, whatever its template is."""
    recording_function = vars(callback).get("_get_file_path")
    callback._get_file_path = lambda *_, **__: path
    try:
        yield
    finally:
        del callback._get_file_path
        if recording_function:
            callback._get_file_path = recording_function


class RecordingPathFunction:
    """A function that makes paths as ModelCheckpoint does, and records them.

    The template alone does not tell which paths it was turned into.

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


def _pending_copies(callback: Any) -> Mapping[str, str]:
    redirected = isinstance(callback, RedirectedModelCheckpoint)
    return callback.pending_copies() if redirected else {}


def _is_copy(callback: Any, path: str) -> bool:
    """Return whether this may be the path of a copy for an upload, made from the template."""
    return (
        is_remote(callback.filepath)
        and ".." not in Path(path).parts
        and matches_template(working_copy(callback.filepath), path)
    )


def _send_again(callback: Any, copies: Mapping[str, str]) -> None:
    if isinstance(callback, RedirectedModelCheckpoint):
        # The script names what may be read and written; a checkpoint may only say which of it.
        callback.send_again(
            {
                path: copy
                for path, copy in copies.items()
                if _is_copy(callback, copy)
                and ".." not in path.split("/")
                and matches_template(callback.filepath, path)
            }
        )


def _recorded_paths(callback: Any) -> Sequence[str]:
    function = callback._get_file_path
    return function.used if isinstance(function, RecordingPathFunction) else ()
