"""Adapters for callbacks of classes that keepfit does not know: the user's own.

Training waits only for a frozen copy of the state. What training has changed is found on the
writer's thread. The exception are arrays that are too large to be copied each time: these are read
where they are, before training goes on, so that a save never contains a value that was half changed
or changed back. Once found changed, they are copied like the others.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from types import FunctionType
from typing import Any

import keras

from keepfit.callbacks.adapters.base import Adapter, FrozenState, State
from keepfit.callbacks.adapters.fingerprints import Fingerprint, fingerprint
from keepfit.callbacks.adapters.frozen import Leaf, copy_array, freeze, may_change, share
from keepfit.callbacks.adapters.machine_values import MOMENTS, Begin, Reading, belongs_to_attempt
from keepfit.callbacks.adapters.open_files import is_kept_file
from keepfit.callbacks.adapters.values.captured import (
    MAX_COPY_SIZE,
    FrozenAttributes,
    ScriptParts,
    StateReport,
    encoded_or_none,
)
from keepfit.callbacks.adapters.values.kinds import (
    CODE,
    MOVABLE,
    Describing,
    Restoring,
    check_value,
    describe_movable,
)
from keepfit.callbacks.adapters.values.objects import (
    INHERITED,
    OBJECT,
    OwnObjects,
    flatten,
    prefixes,
    set_field,
)
from keepfit.callbacks.adapters.values.variables import TrainedVariables
from keepfit.callbacks.checkpoint.format.codec import Encoded, Tagged
from keepfit.callbacks.checkpoint.format.key_names import shorten
from keepfit.callbacks.checkpoint.format.state_schema import InvalidState, check_fields
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.protocols import StatefulCallback

_BEGIN = "keepfit.begin"
"""Key of a state, no name of an attribute: what its attempt had from its own machine."""

_METHODS = (FunctionType, classmethod, staticmethod, property)
"""Kinds of class attributes that a restored attribute must not shadow."""


class StateMethodsAdapter:
    """Adapter for a callback with `get_state` and `set_state`."""

    def get(self, callback: Any) -> State:
        return {"state": freeze(callback.get_state(), describe_movable)}

    def capture(self, callback: Any) -> FrozenState:
        """Freeze what `get_state` returns: it may share arrays that the callback changes."""
        state = self.get(callback)
        return lambda: state

    def check(self, callback: Any, state: State) -> None:
        check_fields(state, {"state": Any})
        check_value(state["state"], MOVABLE)

    def set(self, callback: Any, state: State) -> None:
        callback.set_state(Restoring().value(state["state"], None))


class ChangedAttributesAdapter:
    """Adapter for a callback of an unknown class: its state is what training has changed.

    Attributes that training does not change are configuration, and stay as the script sets them.
    Numbers that `on_train_begin` takes from the machine stay as it sets them in each attempt.
    """

    def __init__(
        self,
        callback: Any,
        known: Collection[str] = (),
        guard: ExactnessGuard | None = None,
        model: Any = None,
    ) -> None:
        """Remember the state before training.

        Args:
            callback: the callback, or another object of the script.
            known: names of attributes that another adapter keeps.
            guard: receives the exactness warnings.
            model: the model that is trained; None if only the callback knows it, later.
        """
        self._not_own = {*INHERITED, *known}
        self._model = model
        self._report = StateReport(type(callback).__name__, guard or ExactnessGuard())
        self._initial: dict[str, Fingerprint] = {}
        self._owners: dict[str, list[Any]] = {}
        self._changing: set[str] = set()
        self._begin: Begin | None = None
        frozen = self._freeze(callback, lambda _: share)
        self._script_has = ScriptParts.of(frozen)
        for name, value in frozen.values.items():
            if name in frozen.owners and model is None:
                self._owners[name] = frozen.owners[name]
            elif encoded := encoded_or_none(value):
                self._initial[name] = fingerprint(encoded, read_all=name in frozen.owners)

    def get(self, callback: Any) -> State:
        return {name: value.decoded() for name, value in self.capture(callback)().items()}

    def capture(self, callback: Any) -> FrozenState:
        """Freeze all attributes but those that are too large to copy and are unchanged.

        The state is found when it is asked for. That can be more than once.
        """
        copier = _ArrayCopier(MAX_COPY_SIZE)
        frozen = self._freeze(
            callback, lambda name: copy_array if name in self._changing else copier, copier
        )
        if frozen.shared:
            self._compare_now(callback, frozen)
        return cache(partial(self._changed, frozen, self._begin))

    @contextmanager
    def beginning(self, callback: Any) -> Iterator[None]:
        if self._owners:
            self._note_variables(callback)
        started = time.perf_counter()
        yield
        reading = Reading.now()
        seconds = time.perf_counter() - started
        frozen = self._freeze(callback, lambda _: share)
        numbers = {n: v for n, v in frozen.values.items() if type(v) in MOMENTS}
        self._begin = Begin(numbers, seconds, reading)
        self._script_has = ScriptParts.of(frozen)

    def check(self, callback: Any, state: State) -> None:
        """Check the names: those of attributes that training can have set.

        Of their values, keepfit knows only the kinds.
        """
        check_fields(state, {}, dict.fromkeys(state, Any))
        values = {name: value for name, value in state.items() if name != _BEGIN}
        for name, value in values.items():
            if not _may_be_state(callback, name, values, self._not_own):
                raise InvalidState(
                    f"{shorten(repr(name), 80)} is not an attribute that training sets"
                )
            check_value(value)
        if _BEGIN in state:
            Begin.check(state[_BEGIN], state)

    def set(self, callback: Any, state: State) -> None:
        """Restore the state, all of it or nothing. Raises InvalidState if the script differs."""
        values = {name: value for name, value in state.items() if name != _BEGIN}
        saved = Begin.from_plain(state[_BEGIN], values) if _BEGIN in state else None
        objects = OwnObjects(callback)
        restoring = Restoring(self._trained(callback))
        new: list[tuple[Any, str, Any]] = []
        for name, value in sorted(values.items()):
            if isinstance(value, Tagged) and value.kind == OBJECT:
                objects.add(name, value)
                continue
            if saved and self._begin and belongs_to_attempt(name, saved, self._begin):
                continue
            owner, field = objects.owner(name)
            new.append((owner, field, restoring.value(value, getattr(owner, field, None))))
            self._owners.pop(name, None)  # restored variables are not those of the script
        restoring.apply()
        objects.replace()
        for owner, field, value in new:
            set_field(owner, field, value)

    def _trained(self, callback: Any) -> TrainedVariables:
        known = self._model is not None
        return TrainedVariables(self._model if known else vars(callback).get("_model"))

    def _freeze(
        self, callback: Any, leaf: Callable[[str], Leaf], copier: _ArrayCopier | None = None
    ) -> FrozenAttributes:
        """Freeze all attributes, and the fields of the script's objects among them.

        Args:
            leaf: returns the function for the leaves of an attribute.
            copier: the one that leaves large arrays out.
        """
        frozen = FrozenAttributes()
        trained = self._trained(callback)
        for name, value in flatten(self._own(callback), callback, self._report.lost):
            describing = Describing(leaf(name), trained)
            frozen.add(name, value, describing)
            if copier and copier.left_out():
                frozen.shared[name] = value
        return frozen

    def _note_variables(self, callback: Any) -> None:
        """Remember the first content of variables, now that the trained model is known.

        Only of objects that the callback had from the start: what `set_model` has made is state.
        """
        frozen = self._freeze(callback, lambda _: share)
        for name, owners in self._owners.items():
            present = frozen.owners.get(name, ())
            if [*map(id, present)] != [*map(id, owners)]:
                continue
            if encoded := encoded_or_none(frozen.values[name]):
                self._initial[name] = fingerprint(encoded, read_all=True)
        self._owners = {}

    def _compare_now(self, callback: Any, frozen: FrozenAttributes) -> None:
        """Compare attributes that share large arrays with training, which waits meanwhile.

        Unchanged ones are removed, the others copied.
        """
        started = time.perf_counter()
        unread = []
        for name, value in frozen.shared.items():
            if (encoded := encoded_or_none(frozen.values[name])) is None:
                continue
            now = fingerprint(encoded)
            if now == self._initial.get(name):
                del frozen.values[name]
                unread += [name] if now.unread else []
            else:
                self._changing.add(name)
                frozen.add(name, value, Describing(copy_array, self._trained(callback)))
        self._report.unread(unread)
        self._report.slow([*frozen.shared], time.perf_counter() - started)

    def _changed(self, frozen: FrozenAttributes, begin: Begin | None) -> State:
        """Return the attributes that training has changed, encoded; report those that are lost."""
        changed: State = {}
        lost: dict[str, Any] = {}
        late: set[str] = set()
        for name, value in frozen.values.items():
            encoded = encoded_or_none(value)
            if encoded is None and not is_kept_file(name, value):
                lost[name] = value
            elif encoded is None or value is CODE or self._is_initial(name, encoded, frozen):
                continue
            elif not self._script_has.suffice(name, frozen):
                lost[name] = value
                late.add(name)
            else:
                changed[name] = encoded
        self._report.lose(lost, late)
        gone = {name.partition(".")[0] for name in lost}
        changed = {n: v for n, v in changed.items() if n.partition(".")[0] not in gone}
        for name in [*changed]:
            for prefix in prefixes(name):
                changed[prefix] = Encoded.of(frozen.values[prefix])
        numbers = {name: frozen.values[name] for name in changed}
        unchanged = begin.unchanged(numbers) if begin else []
        if begin and unchanged:
            changed[_BEGIN] = Encoded.of(begin.plain(unchanged))
        return changed

    def _is_initial(self, name: str, encoded: Encoded, frozen: FrozenAttributes) -> bool:
        initial = self._initial.get(name)
        return fingerprint(encoded, read_all=name in frozen.owners) == initial

    def _own(self, callback: Any) -> Mapping[str, Any]:
        """Return its attributes, except known ones and those that Keras gives every callback."""
        return {k: v for k, v in vars(callback).items() if k not in self._not_own}


def _may_be_state(
    callback: Any, name: object, state: Collection[str], not_own: Collection[str]
) -> bool:
    """Return whether training can have set an attribute, or a field of an object in one.

    Args:
        name: a name from a store, of which nothing is known.
        state: the values of the state by name; it names each object in which a field is.
        not_own: names of attributes that no state of the callback has.
    """
    if not isinstance(name, str):
        return False
    owner, inside = callback, not_own
    *parents, last = name.split(".")
    for prefix, part in zip(prefixes(name), parents, strict=True):
        tag = state[prefix] if isinstance(state, Mapping) and prefix in state else None
        if not isinstance(tag, Tagged) or tag.kind != OBJECT:
            return False
        if not _may_be_attribute(type(owner), part, inside):
            return False
        owner = getattr(owner, part, None)
        inside = INHERITED if isinstance(owner, keras.callbacks.Callback) else ()
    return _may_be_attribute(type(owner), last, inside)


def _may_be_attribute(kind: type, name: str, not_own: Collection[str]) -> bool:
    """Return whether an instance may have an attribute of this name that training has set.

    It is none of Keras' own, and hides no method or property of the class.
    """
    if not name or name in not_own or name.startswith("__"):
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


def adapter_for_object(value: Any, guard: ExactnessGuard, model: Any) -> Adapter:
    """Return an adapter for a user's object: its own methods, or what training changes.

    Args:
        model: the model that is trained.
    """
    if isinstance(value, StatefulCallback):
        return StateMethodsAdapter()
    return ChangedAttributesAdapter(value, guard=guard, model=model)
