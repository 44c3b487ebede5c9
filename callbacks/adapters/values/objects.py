"""Objects of the script's own classes inside a callback: their fields are state like attributes.

A field has the name `attribute.field` in a state. It is only ever set on the script's own object;
no object is made by the name of its class.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from typing import Any

import keras
import numpy as np

from keepfit.callbacks.adapters.values.functions import is_code
from keepfit.callbacks.adapters.values.generators import describe_generator
from keepfit.callbacks.adapters.values.variables import OWNERS
from keepfit.callbacks.checkpoint.format.codec import Tagged
from keepfit.callbacks.checkpoint.format.state_schema import InvalidState

OBJECT, ALIAS = "object", "alias"

INHERITED = frozenset(vars(keras.callbacks.Callback()))
"""Attributes that Keras gives every callback."""

MAX_OBJECTS = 200
"""Objects below one attribute from which it counts as one that can't be stored."""

_OWN_PICKLING = ("__reduce__", "__reduce_ex__", "__getstate__")
"""Methods of `object`. A class with others has state elsewhere than in its fields."""

_LEAVES = (str, bytes, int, float, complex, list, tuple, Set, Mapping, deque, np.ndarray)


class TooManyObjects:
    """Stands for the objects of an attribute that has too many of them; it can't be stored."""


def flatten(
    attributes: Mapping[str, Any], owner: object, skip: Collection[str] = ()
) -> Iterator[tuple[str, Any]]:
    """Yield the attributes, each plain object as a tag, and its fields after it.

    Args:
        owner: the object that has these attributes.
        skip: names of attributes whose objects are known to be unstorable.
    """
    for name, value in attributes.items():
        seen = {id(owner): ""}
        if name in skip and fields_of(value) is not None:
            yield name, TooManyObjects()
        else:
            yield from _flatten(name, value, seen)


def _flatten(name: str, value: Any, seen: dict[int, str]) -> Iterator[tuple[str, Any]]:
    fields = fields_of(value)
    if fields is None:
        yield name, value
    elif id(value) in seen:
        yield name, Tagged(ALIAS, seen[id(value)])
    elif len(seen) > MAX_OBJECTS:
        yield name, TooManyObjects()
    else:
        seen[id(value)] = name
        yield name, Tagged(OBJECT, type(value).__qualname__)
        for field, item in fields.items():
            yield from _flatten(f"{name}.{field}", item, seen)


def fields_of(value: object) -> Mapping[str, Any] | None:
    """Return the fields of an object that has no other state; None for any other value."""
    if value is None or isinstance(value, (*_LEAVES, *OWNERS)) or is_code(value):
        return None
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
        present = {name: getattr(value, name) for name in names if hasattr(value, name)}
        return {**getattr(value, "__dict__", {}), **present}
    if isinstance(value, keras.losses.Loss):  # Keras saves it in a way of its own
        return dict(vars(value))
    if any(getattr(kind, name) is not getattr(object, name) for name in _OWN_PICKLING):
        return None
    if hasattr(kind, "__getnewargs__") or hasattr(kind, "__getnewargs_ex__"):
        return None
    if describe_generator(value):
        return None
    fields = _fields_of_object(value)
    if fields is not None and isinstance(value, keras.callbacks.Callback):
        return {name: item for name, item in fields.items() if name not in INHERITED}
    return fields


def _fields_of_object(value: object) -> dict[str, Any] | None:
    """Return the content of `__dict__` and `__slots__`; None if the object has state in C.

    Python finds that out where it prepares a copy of the object.
    """
    try:
        reduced: Any = object.__reduce_ex__(value, 2)
    except TypeError:
        return None
    state = reduced[2]
    own, slots = state if isinstance(state, tuple) else (state, None)
    return {**(own or {}), **(slots or {})}


class OwnObjects:
    """The objects of the script below one callback, by name, to restore their fields."""

    def __init__(self, root: Any) -> None:
        self._objects = {"": root}
        self._replaced: list[tuple[Any, str, Any]] = []

    def add(self, name: str, tag: Tagged) -> None:
        """Find the object of this name. Raises InvalidState if it is of another class."""
        owner, field = self.owner(name)
        present = getattr(owner, field, None)
        if fields_of(present) is None or type(present).__qualname__ != tag.content:
            raise InvalidState(
                f"{name} is a {type(present).__name__} now, and was a {tag.content} in the "
                "checkpoint"
            )
        if _is_frozen(present):  # training has replaced it, others may have it too
            present = copy.copy(present)
            self._replaced.append((owner, field, present))
        self._objects[name] = present

    def owner(self, name: str) -> tuple[Any, str]:
        """Return the object that has a field, and the field's own name. Raises InvalidState."""
        parent, _, field = name.rpartition(".")
        if parent not in self._objects:
            raise InvalidState(f"{parent[:80]} is not in this state")
        return self._objects[parent], field

    def replace(self) -> None:
        """Put the copies of frozen objects in their places."""
        for owner, field, value in self._replaced:
            set_field(owner, field, value)


def set_field(owner: Any, field: str, value: Any) -> None:
    """Set a field, without the checks and hooks of the owner's class unless it is a callback's."""
    if isinstance(owner, keras.callbacks.Callback):
        setattr(owner, field, value)
    else:
        object.__setattr__(owner, field, value)


def prefixes(name: str) -> Sequence[str]:
    """Return the names of the objects in which a field is, from the outside."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _is_frozen(value: Any) -> bool:
    parameters = getattr(type(value), "__dataclass_params__", None)
    return bool(parameters and parameters.frozen)
