"""The adapters: for Keras' own callbacks, and for those of the user."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keepfit.callbacks import events
from keepfit.callbacks.adapters.base import (
    Adapter,
    FileAdapter,
    HeldCallback,
    KnownAdapter,
    RecordOnce,
    State,
)
from keepfit.callbacks.adapters.csv_logger import CSVLoggerAdapter
from keepfit.callbacks.adapters.model_checkpoint import ModelCheckpointAdapter
from keepfit.callbacks.adapters.open_files import OpenFilesAdapter
from keepfit.callbacks.adapters.tensorboard import TensorBoardAdapter
from keepfit.callbacks.checkpoint.codec import Array, UnsupportedValue, encode
from keepfit.callbacks.checkpoint.shards import digest
from keepfit.callbacks.checkpoint.snapshot import array_bytes
from keepfit.callbacks.csv_logger import CSVLogger
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.model_checkpoint import ModelCheckpoint
from keepfit.callbacks.remote_monitor import RemoteMonitor
from keepfit.callbacks.tensorboard import TensorBoard

Callback = keras.callbacks.Callback

_INHERITED = frozenset(vars(Callback()))

LARGE_ARRAYS = 1 << 20
"""Bytes of arrays above which Plain asks only whether it is the same array, not its content."""


@dataclass(frozen=True)
class AttributeAdapter:
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


class StateMethodsAdapter:
    """For a callback with `get_state` and `set_state`."""

    def get(self, callback: Any) -> State:
        return {"state": _copy_arrays(callback.get_state())}

    def set(self, callback: Any, state: State) -> None:
        callback.set_state(state["state"])


class ChangedAttributesAdapter:
    """For a callback that we know nothing of: the attributes that training has changed.

    What training does not change is configuration, and stays as the script sets it.
    """

    def __init__(
        self, callback: Any, known: Collection[str] = (), guard: ExactnessGuard | None = None
    ) -> None:
        self._guard = guard or ExactnessGuard()
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
                found[name] = _copy_arrays(value)
            elif mark is None and not callable(value) and name not in self._reported:
                lost.append(name)
        if lost:
            self._reported.update(lost)
            self._guard.report(
                events.STATE_UNKNOWN,
                callback=type(callback).__name__,
                attributes=lost,
                reason="attributes of this kind can't be saved",
                fix="give it get_state() and set_state(state), or these begin anew when resumed",
            )
        return found

    def set(self, callback: Any, state: State) -> None:
        for name, value in state.items():
            setattr(callback, name, _restore_default_factory(getattr(callback, name, None), value))

    def _own(self, callback: Any) -> State:
        """Its attributes, but for those that Keras gives every callback, or that are known."""
        own = {k: v for k, v in vars(callback).items() if k not in self._not_own}
        return {k: dict(v) if isinstance(v, defaultdict) else v for k, v in own.items()}


class RemoteMonitorAdapter:
    """For RemoteMonitor, which reports an epoch again when it is trained again."""

    state = ()
    config = ("root", "path", "field", "headers", "send_as_json")
    handles = ()

    def get(self, callback: Any) -> State:
        return {}

    def set(self, callback: Any, state: State) -> None:
        pass

    def report_once(self, callback: Any, record_once: RecordOnce) -> None:
        target = f"{callback.root}{callback.path}"
        if isinstance(callback, RemoteMonitor):  # which asks from its own thread
            callback.report_once(lambda epoch: record_once(f"{target}-{epoch}"))
            return
        report = type(callback).on_epoch_end

        def once(epoch: int, logs: Any = None) -> None:
            if record_once(f"{target}-{epoch}"):
                report(callback, epoch, logs)

        callback.on_epoch_end = once


_MONITOR = ("monitor", "mode", "min_delta", "monitor_op")

ADAPTERS: Mapping[type, KnownAdapter] = {
    keras.callbacks.EarlyStopping: AttributeAdapter(
        ("wait", "stopped_epoch", "best", "best_weights", "best_epoch"),
        (*_MONITOR, "patience", "verbose", "baseline", "restore_best_weights", "start_from_epoch"),
    ),
    keras.callbacks.ReduceLROnPlateau: AttributeAdapter(
        ("best", "wait", "cooldown_counter"),
        (*_MONITOR, "factor", "min_lr", "patience", "verbose", "cooldown"),
    ),
    keras.callbacks.ModelCheckpoint: ModelCheckpointAdapter(),
    keras.callbacks.TensorBoard: TensorBoardAdapter(),
    keras.callbacks.SwapEMAWeights: AttributeAdapter(
        ("_ema_weights_in_model",), ("swap_on_epoch",)
    ),
    keras.callbacks.RemoteMonitor: RemoteMonitorAdapter(),
    keras.callbacks.History: AttributeAdapter(("history", "epoch")),
    keras.callbacks.CSVLogger: CSVLoggerAdapter(),
    keras.callbacks.LearningRateScheduler: AttributeAdapter(config=("schedule", "verbose")),
    keras.callbacks.TerminateOnNaN: AttributeAdapter(config=("raise_error",)),
}


OWN_ATTRIBUTES: Mapping[type, Sequence[str]] = {
    CSVLogger: ("url", "_uploads"),
    ModelCheckpoint: ("_remote", "_uploads"),
    RemoteMonitor: ("_record_once", "_reports", "_sender", "_over"),
    TensorBoard: ("url", "_uploads", "_sent", "_looked"),
}
"""Our own classes: the handles that they add to Keras' of the same names."""


def adapter_for_object(value: Any, guard: ExactnessGuard) -> Adapter:
    """For an object of the user's: its own methods, or the attributes that training changes."""
    if hasattr(value, "get_state") and hasattr(value, "set_state"):
        return StateMethodsAdapter()
    return ChangedAttributesAdapter(value, guard=guard)


def hold_callback(callback: Any, guard: ExactnessGuard | None = None) -> HeldCallback:
    """The callback with what keeps its state: its own methods, or the nearest known class of Keras.

    To be called before training changes the callback.
    """
    if hasattr(callback, "get_state") and hasattr(callback, "set_state"):
        return HeldCallback(callback, StateMethodsAdapter(), files=OpenFilesAdapter())
    for kind in type(callback).__mro__:
        if adapter := ADAPTERS.get(kind):
            ours = next((c for c in OWN_ATTRIBUTES if isinstance(callback, c)), kind)
            derived = type(callback) not in (kind, ours)
            known = (
                *adapter.state,
                *adapter.config,
                *adapter.handles,
                *OWN_ATTRIBUTES.get(ours, ()),
            )
            files = adapter if isinstance(adapter, FileAdapter) else None
            return HeldCallback(
                callback,
                adapter,
                ChangedAttributesAdapter(callback, known, guard) if derived else None,
                files,
            )
    return HeldCallback(
        callback, ChangedAttributesAdapter(callback, guard=guard), files=OpenFilesAdapter()
    )


def _restore_default_factory(present: Any, value: Any) -> Any:
    """A defaultdict where the script has made one: its factory can't be stored."""
    if isinstance(present, defaultdict) and isinstance(value, dict):
        return defaultdict(present.default_factory, value)
    return value


def _fingerprint(value: Any) -> str | None:
    """Equal for equal values; None for what can't be stored."""
    arrays: dict[str, Array] = {}
    try:
        text = json.dumps(encode(value, "", arrays))
    except (UnsupportedValue, RecursionError):
        return None
    if sum(array.nbytes for array in arrays.values()) > LARGE_ARRAYS:
        return text + str([id(array) for array in arrays.values()])
    return text + digest([array_bytes(array) for array in arrays.values()])


def _copy_arrays(value: Any) -> Any:
    """A copy of the arrays in a nest, since a callback may change its own in place."""
    match value:
        case np.ndarray():
            return value.copy()
        case Counter() | OrderedDict():
            return type(value)({key: _copy_arrays(item) for key, item in value.items()})
        case dict():
            return {key: _copy_arrays(item) for key, item in value.items()}
        case list():
            return [_copy_arrays(item) for item in value]
        case tuple():
            return tuple(_copy_arrays(item) for item in value)
    return value
