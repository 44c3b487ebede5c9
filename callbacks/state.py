"""What each callback must remember over an interruption, and nothing else.

Only state is stored, never configuration: a patience that the user has changed since stays
changed. A callback of your own takes part by having `get_state()`, which returns plain values and
arrays, and `set_state(state)`. Keras' callbacks have neither, so adapters stand in for them.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import keras
import numpy as np
import structlog

from callbacks import events

log = structlog.get_logger("keepfit")

Callback = keras.callbacks.Callback
State = dict[str, Any]


class Adapter(Protocol):
    """Knows where one class of callbacks keeps its state."""

    def get(self, callback: Any) -> State:
        """Its state now. Arrays are shared, so they must not be changed in place later."""

    def set(self, callback: Any, state: State) -> None:
        """Put it back, after `on_train_begin` has reset the callback."""

    def beginning(self, callback: Any, state: State | None) -> AbstractContextManager[None]:
        """Surrounds `on_train_begin`: what it opens goes on from `state`, or starts anew."""

    def log_of(self, callback: Any) -> str | None:
        """The append-only file that the callback writes, if it does."""


@dataclass(frozen=True)
class Attributes:
    """For callbacks whose state is a few attributes. `config` completes the list, for the tests."""

    state: Sequence[str] = ()
    config: Sequence[str] = ()

    def get(self, callback: Any) -> State:
        return {name: getattr(callback, name) for name in self.state if hasattr(callback, name)}

    def set(self, callback: Any, state: State) -> None:
        for name, value in state.items():
            setattr(callback, name, value)

    def beginning(self, callback: Any, state: State | None) -> AbstractContextManager[None]:
        del callback, state
        return nullcontext()

    def log_of(self, callback: Any) -> str | None:
        del callback
        return None


class OfItself:
    """For a callback with `get_state` and `set_state`."""

    def get(self, callback: Any) -> State:
        return {"state": _copied(callback.get_state())}

    def set(self, callback: Any, state: State) -> None:
        callback.set_state(state["state"])

    def beginning(self, callback: Any, state: State | None) -> AbstractContextManager[None]:
        del callback, state
        return nullcontext()

    def log_of(self, callback: Any) -> str | None:
        del callback
        return None


class CsvLog:
    """For CSVLogger: its file is cut to the checkpoint's size, and appended to."""

    config = ("sep", "filename", "append")

    def get(self, callback: Any) -> State:
        if callback.csv_file is not None and not callback.csv_file.closed:
            callback.csv_file.flush()
        return {
            "size": file_size(callback.filename),
            "keys": callback.keys,
            "headed": callback.writer is not None or not callback.append_header,
        }

    def set(self, callback: Any, state: State) -> None:
        callback.keys = state["keys"]
        callback.append_header = not state["headed"]

    @contextmanager
    def beginning(self, callback: Any, state: State | None) -> Iterator[None]:
        if state is None:
            yield
            return
        cut(callback.filename, state["size"])
        append, callback.append = callback.append, True
        try:
            yield
        finally:
            callback.append = append

    def log_of(self, callback: Any) -> str | None:
        return str(callback.filename)


_MONITOR = ("monitor", "mode", "min_delta", "monitor_op")

ADAPTERS: Mapping[type, Adapter] = {
    keras.callbacks.EarlyStopping: Attributes(
        ("wait", "stopped_epoch", "best", "best_weights", "best_epoch"),
        (*_MONITOR, "patience", "verbose", "baseline", "restore_best_weights", "start_from_epoch"),
    ),
    keras.callbacks.ReduceLROnPlateau: Attributes(
        ("best", "wait", "cooldown_counter"),
        (*_MONITOR, "factor", "min_lr", "patience", "verbose", "cooldown"),
    ),
    keras.callbacks.History: Attributes(("history", "epoch")),
    keras.callbacks.CSVLogger: CsvLog(),
    keras.callbacks.LearningRateScheduler: Attributes(config=("schedule", "verbose")),
    keras.callbacks.TerminateOnNaN: Attributes(config=("raise_error",)),
    keras.callbacks.ProgbarLogger: Attributes(),
    keras.callbacks.LambdaCallback: Attributes(),
}


def adapter_for(callback: Any) -> Adapter | None:
    """The callback's own methods first, then the nearest class of Keras' that is known."""
    if hasattr(callback, "get_state") and hasattr(callback, "set_state"):
        return OfItself()
    return next((ADAPTERS[kind] for kind in type(callback).__mro__ if kind in ADAPTERS), None)


def warn_of_unknown(callbacks: Sequence[Any]) -> None:
    """One line for each callback that keeps something in attributes which can't be restored."""
    plain = vars(Callback())
    for callback in callbacks:
        own = sorted(vars(callback).keys() - plain.keys())
        if adapter_for(callback) is None and own:
            log.warning(
                events.STATE_UNKNOWN,
                callback=type(callback).__name__,
                attributes=own,
                fix="give it get_state() and set_state(state), or they begin anew after a restart",
            )


def capture(callbacks: Sequence[Any]) -> list[State]:
    """The state of each callback that has any, with its class."""
    found = []
    for callback in callbacks:
        if adapter := adapter_for(callback):
            found.append({"class": _name(callback), "state": adapter.get(callback)})
    return found


def assign(callbacks: Sequence[Any], saved: Sequence[State]) -> Iterator[tuple[Any, Adapter, State]]:
    """Each callback with its adapter and saved state: matched by class, and by order within it."""
    waiting: dict[str, list[State]] = defaultdict(list)
    for item in saved:
        waiting[item["class"]].append(item["state"])
    for callback in callbacks:
        adapter = adapter_for(callback)
        if adapter and waiting[_name(callback)]:
            yield callback, adapter, waiting[_name(callback)].pop(0)
    for name, left in waiting.items():
        if left:
            log.warning(events.STATE_UNCLAIMED, callback=name, count=len(left))


def log_files(callbacks: Sequence[Any]) -> list[str]:
    """The append-only files that the callbacks write."""
    adapters = ((callback, adapter_for(callback)) for callback in callbacks)
    paths = (adapter.log_of(callback) for callback, adapter in adapters if adapter)
    return [path for path in paths if path is not None]


def file_size(path: str) -> int:
    """In bytes; 0 if there is no such file."""
    return os.path.getsize(path) if os.path.exists(path) else 0


def cut(path: str, size: int) -> None:
    """Bring a log back to the size that it had; what was written since will be written again."""
    found = file_size(path)
    if found < size:
        log.error(
            events.LOG_SHORT,
            file=path,
            bytes=found,
            expected=size,
            fix="put the file of the last attempt back; without it, its first rows are missing",
        )
    elif found > size:
        os.truncate(path, size)


def _name(callback: Any) -> str:
    return type(callback).__name__


def _copied(value: Any) -> Any:
    """A copy of the arrays in a nest, since a callback may change its own in place."""
    match value:
        case np.ndarray():
            return value.copy()
        case dict():
            return {key: _copied(item) for key, item in value.items()}
        case list() | tuple():
            return type(value)(_copied(item) for item in value)
    return value
