"""Adapters for callbacks of classes that keepfit does not know: the user's own.

Training waits only for a frozen copy of the state. What training has changed is found on the
writer's thread. The exception are arrays that are too large to be copied each time: these are read
where they are, before training goes on, so that a save never contains a value that was half changed
or changed back. Once found changed, they are copied like the others.
"""

from __future__ import annotations

import inspect
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from types import FunctionType
from typing import Any

import keras

from keepfit.callbacks import events
from keepfit.callbacks.adapters.base import Adapter, FrozenState, State
from keepfit.callbacks.adapters.fingerprints import MAX_READ_SIZE, fingerprint
from keepfit.callbacks.adapters.frozen import copy_array, freeze, may_change
from keepfit.callbacks.adapters.machine_values import Begin, Reading, belongs_to_attempt
from keepfit.callbacks.checkpoint.format.codec import Encoded, UnsupportedValue
from keepfit.callbacks.checkpoint.format.key_names import shorten
from keepfit.callbacks.checkpoint.format.state_schema import InvalidState, check_fields
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.protocols import StatefulCallback

log = get_logger()

_INHERITED = frozenset(vars(keras.callbacks.Callback()))

MAX_COPY_SIZE = 64 << 20
"""Bytes of arrays of one callback that are copied at each save, changed or not: 10 ms."""

SLOW_SECONDS = 0.1
"""Time from which the log says that training waits for the comparison of large arrays."""

_BEGIN = "keepfit.begin"
"""Key of a state, no name of an attribute: what its attempt had from its own machine."""

_METHODS = (FunctionType, classmethod, staticmethod, property)
"""Kinds of class attributes that a restored attribute must not shadow."""

_CONTAINS_ITSELF = object()
"""Stands for a value that contains itself; like any plain object, it can't be stored."""


class StateMethodsAdapter:
    """Adapter for a callback with `get_state` and `set_state`."""

    def get(self, callback: Any) -> State:
        return {"state": freeze(callback.get_state(), copy_array)}

    def capture(self, callback: Any) -> FrozenState:
        """Freeze what `get_state` returns: it may share arrays that the callback changes."""
        state = self.get(callback)
        return lambda: state

    def check(self, callback: Any, state: State) -> None:
        check_fields(state, {"state": Any})

    def set(self, callback: Any, state: State) -> None:
        callback.set_state(state["state"])


class ChangedAttributesAdapter:
    """Adapter for a callback of an unknown class: its state is what training has changed.

    Attributes that training does not change are configuration, and stay as the script sets them.
    Numbers that `on_train_begin` takes from the machine stay as it sets them in each attempt.
    """

    def __init__(
        self, callback: Any, known: Collection[str] = (), guard: ExactnessGuard | None = None
    ) -> None:
        self._guard = guard or ExactnessGuard()
        self._not_own = {*_INHERITED, *known}
        self._initial = {
            name: fingerprint(encoded)
            for name, value in self._own(callback).items()
            if (encoded := _encoded(value))
        }
        self._changing: set[str] = set()
        self._reported: set[str] = set()
        self._slow_reported = False
        self._begin: Begin | None = None

    def get(self, callback: Any) -> State:
        return {name: value.decoded() for name, value in self.capture(callback)().items()}

    def capture(self, callback: Any) -> FrozenState:
        """Freeze all attributes but those that are too large to copy and are unchanged.

        The state is found when it is asked for. That can be more than once.
        """
        kind = type(callback).__name__
        copier = _ArrayCopier(MAX_COPY_SIZE)
        frozen: State = {}
        shared: State = {}
        for name, value in self._own(callback).items():
            try:
                frozen[name] = freeze(value, copy_array if name in self._changing else copier)
            except RecursionError:
                frozen[name] = _CONTAINS_ITSELF
            if copier.left_out():
                shared[name] = value
        if shared:
            self._compare_now(kind, frozen, shared)
        return cache(partial(self._changed, kind, frozen, self._begin))

    @contextmanager
    def beginning(self, callback: Any) -> Iterator[None]:
        started = time.perf_counter()
        yield
        reading = Reading.now()
        numbers = {n: v for n, v in self._own(callback).items() if type(v) in (int, float)}
        self._begin = Begin(numbers, time.perf_counter() - started, reading)

    def _compare_now(self, kind: str, frozen: State, shared: State) -> None:
        """Compare attributes that share large arrays with training, which waits meanwhile.

        Args:
            kind: name of the callback's class.
            frozen: all attributes. The unchanged ones of `shared` are removed, the others copied.
            shared: these attributes themselves.
        """
        started = time.perf_counter()
        unread = []
        for name, value in shared.items():
            if (encoded := _encoded(frozen[name])) is None:
                continue
            now = fingerprint(encoded)
            if now == self._initial.get(name):
                del frozen[name]
                unread += [name] if now.unread else []
            else:
                self._changing.add(name)
                frozen[name] = freeze(value, copy_array)
        self._report_unread(kind, unread)
        seconds = time.perf_counter() - started
        if seconds > SLOW_SECONDS and not self._slow_reported:
            self._slow_reported = True
            log.info(
                events.STATE_LARGE,
                callback=kind,
                attributes=[*shared],
                seconds=round(seconds, 3),
                reason=f"arrays of more than {MAX_COPY_SIZE >> 20} MiB are compared at each save, "
                "while training waits",
                fix="if training does not change them, say so by array.flags.writeable = False",
            )

    def check(self, callback: Any, state: State) -> None:
        """Check the names: those of attributes that training can have set.

        Their values are whatever the callback once had; keepfit knows nothing of their meaning.
        """
        check_fields(state, {}, dict.fromkeys(state, Any))
        for name in state.keys() - {_BEGIN}:
            if not _may_be_state(type(callback), name, self._not_own):
                raise InvalidState(
                    f"{shorten(repr(name), 80)} is not an attribute that training sets"
                )
        if _BEGIN in state:
            Begin.check(state[_BEGIN], state)

    def set(self, callback: Any, state: State) -> None:
        values = {name: value for name, value in state.items() if name != _BEGIN}
        saved = Begin.from_plain(state[_BEGIN], values) if _BEGIN in state else None
        for name, value in values.items():
            if saved and self._begin and belongs_to_attempt(name, saved, self._begin):
                continue
            setattr(callback, name, _restore_default_factory(getattr(callback, name, None), value))

    def _changed(self, kind: str, frozen: State, begin: Begin | None) -> State:
        """Return the attributes that training has changed, encoded; report those that are lost."""
        changed: State = {}
        lost = []
        for name, value in frozen.items():
            encoded = _encoded(value)
            if encoded is None:
                known = callable(value) or name in self._reported
                lost += [] if known or (begin and begin.holds_date(value)) else [name]
            elif fingerprint(encoded) != self._initial.get(name):
                changed[name] = encoded
        if lost:
            self._guard.report(
                events.STATE_UNKNOWN,
                callback=kind,
                attributes=lost,
                reason="attributes of this kind can't be saved",
                fix="give it get_state() and set_state(state); otherwise these attributes are "
                "reset when the run is resumed",
            )
            self._reported.update(lost)
        unchanged = begin.unchanged({name: frozen[name] for name in changed}) if begin else []
        if begin and unchanged:
            changed[_BEGIN] = Encoded.of(begin.plain(unchanged))
        return changed

    def _report_unread(self, kind: str, names: Collection[str]) -> None:
        """Report attributes whose content is too large to be compared at each save."""
        new = [name for name in names if name not in self._reported]
        if not new:
            return
        self._guard.report(
            events.STATE_UNKNOWN,
            callback=kind,
            attributes=new,
            reason=f"arrays of more than {MAX_READ_SIZE >> 20} MiB are saved when they are "
            "replaced, but not when they are changed in place",
            fix="if training does not change them, say so by array.flags.writeable = False; "
            "otherwise give it get_state() and set_state(state)",
        )
        self._reported.update(new)

    def _own(self, callback: Any) -> Mapping[str, Any]:
        """Return its attributes, except known ones and those that Keras gives every callback."""
        return {k: v for k, v in vars(callback).items() if k not in self._not_own}


def _may_be_state(kind: type, name: object, not_own: Collection[str]) -> bool:
    """Return whether an instance may have an attribute of this name that training has set.

    It is none of Keras' own, and hides no method or property of the class.
    """
    if not isinstance(name, str) or name in not_own or name.startswith("__"):
        return False
    return not isinstance(inspect.getattr_static(kind, name, None), _METHODS)


class _ArrayCopier:
    """Copies arrays up to a limit, and shares those above it."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._left_out = False

    def left_out(self) -> bool:
        """Return True if an array has been shared since the last call."""
        left_out, self._left_out = self._left_out, False
        return left_out

    def __call__(self, leaf: Any) -> Any:
        if not may_change(leaf):
            return leaf
        if leaf.nbytes > self._left:
            self._left_out = True
            return leaf
        self._left -= leaf.nbytes
        return leaf.copy()


def _encoded(value: Any) -> Encoded | None:
    """Return the value encoded; None if it can't be stored."""
    try:
        return Encoded.of(value)
    except (UnsupportedValue, RecursionError):
        return None


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
