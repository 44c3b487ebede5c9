"""ModelCheckpoint: what it has seen, and the files that it has written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from callbacks.state.base import State
from callbacks.state.paths import made_from


class ModelFiles:
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
        return {"values": found, "files": list(_written(callback))}

    def set(self, callback: Any, state: State) -> None:
        for name, value in state["values"].items():
            setattr(callback, name, value)

    def logs(self, callback: Any) -> Mapping[str, int]:
        return {}

    def whole(self, callback: Any) -> Sequence[str]:
        return [path for path in _written(callback) if Path(path).is_file()]

    def may_write(self, callback: Any, path: str) -> bool:
        return made_from(callback.filepath, path)

    def first(self, callback: Any) -> Mapping[str, int]:
        return {}

    @contextmanager
    def beginning(self, callback: Any, first: Mapping[str, int]) -> Iterator[None]:
        _watch(callback, [])
        yield

    @contextmanager
    def reopening(self, callback: Any, state: State, sizes: Mapping[str, int]) -> Iterator[None]:
        _watch(callback, state["files"])
        yield


class UsedPaths:
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


def _watch(callback: Any, used: Sequence[str]) -> None:
    make = type(callback)._get_file_path
    callback._get_file_path = UsedPaths(partial(make, callback), used)


def _written(callback: Any) -> Sequence[str]:
    watched = callback._get_file_path
    return watched.used if isinstance(watched, UsedPaths) else ()
