"""The adapters: for Keras' own callbacks, and for those of the user."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from callbacks import events
from callbacks.checkpoint.codec import Array, Unstorable, encode
from callbacks.checkpoint.shards import digest
from callbacks.checkpoint.snapshot import array_bytes
from callbacks.csv_logger import CSVLogger
from callbacks.doubts import Doubts
from callbacks.model_checkpoint import ModelCheckpoint
from callbacks.remote_monitor import RemoteMonitor
from callbacks.state.base import Adapter, FirstTime, Held, KeepsFiles, Known, State
from callbacks.state.event_files import EventFiles
from callbacks.state.logs import CsvLog
from callbacks.state.model_files import ModelFiles
from callbacks.state.open_files import OpenFiles
from callbacks.tensorboard import TensorBoard

Callback = keras.callbacks.Callback

_INHERITED = frozenset(vars(Callback()))

LARGE = 1 << 20
"""Bytes of arrays above which Plain asks only whether it is the same array, not its content."""


@dataclass(frozen=True)
class Attributes:
    """For callbacks whose state is a few attributes.

    Attributes:
        state, config, handles: see Known.
    """

    state: Sequence[str] = ()
    config: Sequence[str] = ()
    handles: Sequence[str] = ()

    def get(self, callback: Any) -> State:
        return {name: getattr(callback, name) for name in self.state if hasattr(callback, name)}

    def set(self, callback: Any, state: State) -> None:
        for name, value in state.items():
            setattr(callback, name, value)


class OfItself:
    """For a callback with `get_state` and `set_state`."""

    def get(self, callback: Any) -> State:
        return {"state": _copied(callback.get_state())}

    def set(self, callback: Any, state: State) -> None:
        callback.set_state(state["state"])


class Plain:
    """For a callback that we know nothing of: the attributes that training has changed.

    What training does not change is configuration, and stays as the script sets it.
    """

    def __init__(
        self, callback: Any, known: Collection[str] = (), doubts: Doubts | None = None
    ) -> None:
        self._doubts = doubts or Doubts()
        self._not_own = {*_INHERITED, *known}
        self._first = self._own(callback)
        self._marks = {name: _fingerprint(value) for name, value in self._first.items()}
        self._reported: set[str] = set()

    def get(self, callback: Any) -> State:
        found: State = {}
        lost = []
        for name, value in self._own(callback).items():
            mark = _fingerprint(value)
            if mark is not None and mark != self._marks.get(name):
                found[name] = _copied(value)
            elif mark is None and not callable(value) and name not in self._reported:
                lost.append(name)
        if lost:
            self._reported.update(lost)
            self._doubts.raise_(
                events.STATE_UNKNOWN,
                callback=type(callback).__name__,
                attributes=lost,
                reason="attributes of this kind can't be saved",
                fix="give it get_state() and set_state(state), or these begin anew when resumed",
            )
        return found

    def set(self, callback: Any, state: State) -> None:
        for name, value in state.items():
            setattr(callback, name, _like(getattr(callback, name, None), value))

    def _own(self, callback: Any) -> State:
        """Its attributes, but for those that Keras gives every callback, or that are known."""
        own = {k: v for k, v in vars(callback).items() if k not in self._not_own}
        return {k: dict(v) if isinstance(v, defaultdict) else v for k, v in own.items()}


class Remote:
    """For RemoteMonitor, which reports an epoch again when it is trained again."""

    state = ()
    config = ("root", "path", "field", "headers", "send_as_json")
    handles = ()

    def get(self, callback: Any) -> State:
        return {}

    def set(self, callback: Any, state: State) -> None:
        pass

    def report_once(self, callback: Any, first_time: FirstTime) -> None:
        target = f"{callback.root}{callback.path}"
        if isinstance(callback, RemoteMonitor):  # which asks from its own thread
            callback.report_once(lambda epoch: first_time(f"{target}-{epoch}"))
            return
        report = type(callback).on_epoch_end

        def once(epoch: int, logs: Any = None) -> None:
            if first_time(f"{target}-{epoch}"):
                report(callback, epoch, logs)

        callback.on_epoch_end = once


_MONITOR = ("monitor", "mode", "min_delta", "monitor_op")

ADAPTERS: Mapping[type, Known] = {
    keras.callbacks.EarlyStopping: Attributes(
        ("wait", "stopped_epoch", "best", "best_weights", "best_epoch"),
        (*_MONITOR, "patience", "verbose", "baseline", "restore_best_weights", "start_from_epoch"),
    ),
    keras.callbacks.ReduceLROnPlateau: Attributes(
        ("best", "wait", "cooldown_counter"),
        (*_MONITOR, "factor", "min_lr", "patience", "verbose", "cooldown"),
    ),
    keras.callbacks.ModelCheckpoint: ModelFiles(),
    keras.callbacks.TensorBoard: EventFiles(),
    keras.callbacks.SwapEMAWeights: Attributes(("_ema_weights_in_model",), ("swap_on_epoch",)),
    keras.callbacks.RemoteMonitor: Remote(),
    keras.callbacks.History: Attributes(("history", "epoch")),
    keras.callbacks.CSVLogger: CsvLog(),
    keras.callbacks.LearningRateScheduler: Attributes(config=("schedule", "verbose")),
    keras.callbacks.TerminateOnNaN: Attributes(config=("raise_error",)),
}


OURS: Mapping[type, Sequence[str]] = {
    CSVLogger: ("url", "_uploads"),
    ModelCheckpoint: ("_remote", "_uploads"),
    RemoteMonitor: ("_first_time", "_reports", "_sender", "_over"),
    TensorBoard: ("url", "_uploads", "_sent", "_looked"),
}
"""Our own classes: the handles that they add to Keras' of the same names."""


def of_object(value: Any, doubts: Doubts) -> Adapter:
    """For an object of the user's: its own methods, or the attributes that training changes."""
    if hasattr(value, "get_state") and hasattr(value, "set_state"):
        return OfItself()
    return Plain(value, doubts=doubts)


def held(callback: Any, doubts: Doubts | None = None) -> Held:
    """The callback with what keeps its state: its own methods, or the nearest known class of Keras.

    To be called before training changes the callback.
    """
    if hasattr(callback, "get_state") and hasattr(callback, "set_state"):
        return Held(callback, OfItself(), files=OpenFiles())
    for kind in type(callback).__mro__:
        if adapter := ADAPTERS.get(kind):
            ours = next((c for c in OURS if isinstance(callback, c)), kind)
            derived = type(callback) not in (kind, ours)
            known = (*adapter.state, *adapter.config, *adapter.handles, *OURS.get(ours, ()))
            files = adapter if isinstance(adapter, KeepsFiles) else None
            return Held(
                callback, adapter, Plain(callback, known, doubts) if derived else None, files
            )
    return Held(callback, Plain(callback, doubts=doubts), files=OpenFiles())


def _like(present: Any, value: Any) -> Any:
    """A defaultdict where the script has made one: its factory can't be stored."""
    if isinstance(present, defaultdict) and isinstance(value, dict):
        return defaultdict(present.default_factory, value)
    return value


def _fingerprint(value: Any) -> str | None:
    """Equal for equal values; None for what can't be stored."""
    arrays: dict[str, Array] = {}
    try:
        text = json.dumps(encode(value, "", arrays))
    except (Unstorable, RecursionError):
        return None
    if sum(array.nbytes for array in arrays.values()) > LARGE:
        return text + str([id(array) for array in arrays.values()])
    return text + digest([array_bytes(array) for array in arrays.values()])


def _copied(value: Any) -> Any:
    """A copy of the arrays in a nest, since a callback may change its own in place."""
    match value:
        case np.ndarray():
            return value.copy()
        case Counter() | OrderedDict():
            return type(value)({key: _copied(item) for key, item in value.items()})
        case dict():
            return {key: _copied(item) for key, item in value.items()}
        case list():
            return [_copied(item) for item in value]
        case tuple():
            return tuple(_copied(item) for item in value)
    return value
