"""Adapters for callbacks of classes that keepfit does not know: the user's own."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Collection
from typing import Any

import keras
import numpy as np

from keepfit.callbacks import events
from keepfit.callbacks.adapters.base import Adapter, State
from keepfit.callbacks.checkpoint.codec import Array, UnsupportedValue, encode
from keepfit.callbacks.checkpoint.shards import digest
from keepfit.callbacks.checkpoint.snapshot import array_bytes
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.protocols import StatefulCallback

_INHERITED = frozenset(vars(keras.callbacks.Callback()))

LARGE_ARRAYS = 1 << 20
"""Bytes of arrays above which ChangedAttributesAdapter compares identities, not contents."""


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


def adapter_for_object(value: Any, guard: ExactnessGuard) -> Adapter:
    """Return an adapter for a user's object: its own methods, or what training changes."""
    if isinstance(value, StatefulCallback):
        return StateMethodsAdapter()
    return ChangedAttributesAdapter(value, guard=guard)


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
