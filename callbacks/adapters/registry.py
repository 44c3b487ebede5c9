"""The choice of an adapter: for Keras' own callbacks, keepfit's, and the user's."""

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
"""Bytes of arrays above which ChangedAttributesAdapter compares identities, not contents."""


@dataclass(frozen=True)
class AttributeAdapter:
    """Adapter for callbacks whose state is a few attributes.

    Attributes:
        state, config, handles: see KnownAdapter.
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
    """Adapter for a callback with `get_state` and `set_state`."""

    def get(self, callback: Any) -> State:
        return {"state": _copy_arrays(callback.get_state())}

    def set(self, callback: Any, state: State) -> None:
        callback.set_state(state["state"])


class ChangedAttributesAdapter:
    """Adapter for a callback of an unknown class: its state is what training has changed.

    Attributes that training does not change are configuration, and stay as the script sets them.
    """

    def __init__(
        self, callback: Any, known: Collection[str] = (), guard: ExactnessGuard | None = None
    ) -> None:
        self._guard = guard or ExactnessGuard()
        self._not_own = {*_INHERITED, *known}
        self._initial = self._own(callback)
        self._fingerprints = {name: _fingerprint(value) for name, value in self._initial.items()}
        self._reported: set[str] = set()

    def get(self, callback: Any) -> State:
        changed: State = {}
        lost = []
        for name, value in self._own(callback).items():
            fingerprint = _fingerprint(value)
            if fingerprint is not None and fingerprint != self._fingerprints.get(name):
                changed[name] = _copy_arrays(value)
            elif fingerprint is None and not callable(value) and name not in self._reported:
                lost.append(name)
        if lost:
            self._reported.update(lost)
            self._guard.report(
                events.STATE_UNKNOWN,
                callback=type(callback).__name__,
                attributes=lost,
                reason="attributes of this kind can't be saved",
                fix="give it get_state() and set_state(state); otherwise these attributes are "
                "reset when the run is resumed",
            )
        return changed

    def set(self, callback: Any, state: State) -> None:
        for name, value in state.items():
            setattr(callback, name, _restore_default_factory(getattr(callback, name, None), value))

    def _own(self, callback: Any) -> State:
        """Return its attributes, except known ones and those that Keras gives every callback."""
        own = {k: v for k, v in vars(callback).items() if k not in self._not_own}
        return {k: dict(v) if isinstance(v, defaultdict) else v for k, v in own.items()}


class RemoteMonitorAdapter:
    """Adapter for RemoteMonitor, which reports an epoch again when it is trained again."""

    state = ()
    config = ("root", "path", "field", "headers", "send_as_json")
    handles = ()

    def get(self, callback: Any) -> State:
        return {}

    def set(self, callback: Any, state: State) -> None:
        pass

    def report_once(self, callback: Any, record_once: RecordOnce) -> None:
        target = f"{callback.root}{callback.path}"
        if isinstance(callback, RemoteMonitor):  # it asks from its own thread
            callback.report_once(lambda epoch: record_once(f"{target}-{epoch}"))
            return
        report = type(callback).on_epoch_end

        def report_new(epoch: int, logs: Any = None) -> None:
            if record_once(f"{target}-{epoch}"):
                report(callback, epoch, logs)

        callback.on_epoch_end = report_new


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
    TensorBoard: ("url", "_uploads", "_sent", "_scanned_at"),
}
"""keepfit's own classes, with the handles that they add to Keras' classes of the same names."""


def adapter_for_object(value: Any, guard: ExactnessGuard) -> Adapter:
    """Return an adapter for a user's object: its own methods, or what training changes."""
    if hasattr(value, "get_state") and hasattr(value, "set_state"):
        return StateMethodsAdapter()
    return ChangedAttributesAdapter(value, guard=guard)


def hold_callback(callback: Any, guard: ExactnessGuard | None = None) -> HeldCallback:
    """Return the callback with the adapters that keep its state.

    These are its own methods if it has them, else the adapter of the nearest known class of Keras,
    else one for the attributes that training changes. Call this before training changes any.
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
    """Return a defaultdict if the script has made one: its factory can't be stored."""
    if isinstance(present, defaultdict) and isinstance(value, dict):
        return defaultdict(present.default_factory, value)
    return value


def _fingerprint(value: Any) -> str | None:
    """Return a text that is equal for equal values; None for a value that can't be stored."""
    arrays: dict[str, Array] = {}
    try:
        text = json.dumps(encode(value, "", arrays))
    except (UnsupportedValue, RecursionError):
        return None
    if sum(array.nbytes for array in arrays.values()) > LARGE_ARRAYS:
        return text + str([id(array) for array in arrays.values()])
    return text + digest([array_bytes(array) for array in arrays.values()])


def _copy_arrays(value: Any) -> Any:
    """Copy a nest with its arrays, since a callback may change its own in place."""
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
