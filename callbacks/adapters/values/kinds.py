"""Freeze, check and restore values that JSON and arrays alone can't express.

A frozen value contains a `Tagged` in place of each of them. Generators and tensors can be built
anew from it. Others can only be found again in the script's own value: code, variables, members of
an enumeration and named tuples. Nothing is ever imported or called by a name from a store.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, Flag
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from keepfit.callbacks.adapters.frozen import Leaf, copy_array, freeze
from keepfit.callbacks.adapters.values.functions import is_code
from keepfit.callbacks.adapters.values.generators import (
    BITS,
    LEGACY,
    NUMPY,
    PYTHON,
    check_generator,
    describe_generator,
    is_same_kind,
    new_generator,
    set_generator,
)
from keepfit.callbacks.adapters.values.objects import ALIAS, OBJECT
from keepfit.callbacks.adapters.values.variables import (
    OWNERS,
    VARIABLES,
    TrainedVariables,
    as_array,
    check_variables,
    describe_variables,
    pairs_to_assign,
)
from keepfit.callbacks.checkpoint.format.codec import Lazy, PackedFloats, Tagged
from keepfit.callbacks.checkpoint.format.dtypes import NUMPY_DTYPES
from keepfit.callbacks.checkpoint.format.state_schema import InvalidState

CODE = Tagged("code", None)
ENUM, FLAG, NAMED_TUPLE, TENSOR = "enum", "flag", "namedtuple", "tensor"
MOVABLE = (NUMPY, LEGACY, BITS, PYTHON, TENSOR)
"""Kinds that can be built anew without a value of the script."""


_UNITERABLE = (str, bytes, int, float, type(None), PackedFloats, Lazy)

Path = tuple[str | int, ...]
Fixed = tuple[Any, ...]
"""A part of a value that only the script's own value can supply when it is restored."""


@dataclass
class Describing:
    """A leaf function for `freeze` that tags what it knows, and passes on the rest.

    Attributes:
        leaf: the function for all other leaves.
        trained: the variables that are kept elsewhere.
        owners: the owners of variables that it has met.
        tagged: it has tagged a value.
    """

    leaf: Leaf
    trained: TrainedVariables = field(default_factory=TrainedVariables)
    owners: list[Any] = field(default_factory=list)
    tagged: bool = False

    def __call__(self, value: Any) -> Any:
        described = self._describe(value)
        self.tagged = self.tagged or isinstance(described, Tagged)
        return described

    def _describe(self, value: Any) -> Any:
        if isinstance(value, Enum):
            return _describe_member(value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            items = tuple(freeze(item, self) for item in value)
            return Tagged(NAMED_TUPLE, (type(value).__qualname__, items))
        if isinstance(value, OWNERS):
            self.owners.append(value)
            if self.trained.are_all_of(value):
                return CODE
            tagged = describe_variables(value, self.trained)
            return value if tagged is None else tagged
        if isinstance(value, tf.Tensor):
            return _describe_tensor(value)
        if is_code(value):
            return CODE
        return describe_generator(value) or self.leaf(value)


def describe_movable(value: Any) -> Any:
    """Return a leaf as a copy that can be built anew without a value of the script."""
    if isinstance(value, tf.Tensor) and hasattr(value, "numpy"):
        return _describe_tensor(value)
    return describe_generator(value) or copy_array(value)


def _describe_member(value: Enum) -> Tagged:
    kind = type(value).__qualname__
    if isinstance(value, Flag):
        return Tagged(FLAG, (kind, value.value))
    return Tagged(ENUM, (kind, value.name))


def _describe_tensor(value: tf.Tensor) -> Any:
    """Return a tensor with its value, which never changes; one of a graph is code."""
    if not hasattr(value, "numpy"):
        return CODE
    if value.dtype.name not in NUMPY_DTYPES:
        return value
    return Tagged(TENSOR, Lazy(partial(as_array, value)))


def fixed_parts(value: Any, path: Path = ()) -> Iterator[Fixed]:
    """Yield what the script's own value has to have so that a frozen value can be restored."""
    match value:
        case Tagged(kind="enum" | "flag" | "namedtuple" as kind, content=(name, content)):
            yield kind, name
            yield from fixed_parts(content, path)
        case Tagged(kind="variables", content={"specs": specs}):
            yield path, VARIABLES, tuple(specs)
        case Tagged(kind="code" | "object" | "alias" as kind, content=content):
            yield path, kind, content
        case Tagged():
            return
        case Mapping():
            for key, item in value.items():
                yield from fixed_parts(key)
                yield from fixed_parts(item, (*path, repr(key)))
        case list() | tuple() | set() | frozenset() | deque():
            if not _are_plain(value):
                for i, item in enumerate(value):
                    yield from fixed_parts(item, (*path, i))


def _are_plain(items: Iterable[Any]) -> bool:
    return all(isinstance(item, _UNITERABLE) for item in items)


def check_value(value: Any, kinds: Iterable[str] | None = None) -> None:
    """Check each tagged value in a value from a store. Raises InvalidState.

    Args:
        kinds: the kinds that may occur; None for all.
    """
    match value:
        case Tagged():
            if value.kind not in _CHECKS or (kinds is not None and value.kind not in kinds):
                raise InvalidState(
                    f"a value of the kind {value.kind[:40]!r} can't be restored here"
                )
            _CHECKS[value.kind](value)
        case Mapping():
            for key, item in value.items():
                check_value(key, kinds)
                check_value(item, kinds)
        case list() | tuple() | set() | frozenset() | deque():
            if not _are_plain(value):
                for item in value:
                    check_value(item, kinds)


def _check_text(tagged: Tagged) -> None:
    if not isinstance(tagged.content, str):
        raise InvalidState(f"the {tagged.kind} has no name")


def _check_code(tagged: Tagged) -> None:
    if tagged != CODE:
        raise InvalidState("code has no state")


def _check_pair(tagged: Tagged) -> None:
    """Check the pair of a class and a member's name, number, or items."""
    content, kind = tagged.content, {ENUM: str, FLAG: int, NAMED_TUPLE: tuple}[tagged.kind]
    if not isinstance(content, tuple) or len(content) != 2:  # a pair
        raise InvalidState(f"a {tagged.kind} consists of two parts")
    if not isinstance(content[0], str) or type(content[1]) is not kind:
        raise InvalidState(f"a {tagged.kind} has parts of other types")
    check_value(content[1])


def _check_tensor(tagged: Tagged) -> None:
    if not isinstance(tagged.content, np.ndarray):
        raise InvalidState("a tensor has no array")


_CHECKS: Mapping[str, Callable[[Tagged], None]] = {
    **dict.fromkeys((NUMPY, LEGACY, BITS, PYTHON), check_generator),
    **dict.fromkeys((ENUM, FLAG, NAMED_TUPLE), _check_pair),
    **dict.fromkeys((OBJECT, ALIAS), _check_text),
    VARIABLES: check_variables,
    TENSOR: _check_tensor,
    CODE.kind: _check_code,
}


@dataclass
class Restoring:
    """Builds checked values of a state, and collects what has to be done to the script's objects.

    Nothing is changed before `apply`, so a value that does not fit leaves all as it is.
    """

    trained: TrainedVariables = field(default_factory=TrainedVariables)
    _actions: list[Callable[[], object]] = field(default_factory=list)

    def value(self, stored: Any, present: Any) -> Any:
        """Return a stored value as the script has it.

        Args:
            present: the script's own value in this place.

        Raises:
            InvalidState: the script's own value is of another kind now.
        """
        return self._value(stored, present, _classes_in(present))

    def apply(self) -> None:
        """Set generators and variables of the script."""
        for action in self._actions:
            action()

    def _value(self, stored: Any, present: Any, classes: Mapping[str, Any]) -> Any:
        def item_at(key: Any) -> Any:
            try:
                return present[key]
            except (TypeError, LookupError):
                return None

        def items(values: Iterable[Any]) -> Iterator[Any]:
            return (self._value(item, item_at(i), classes) for i, item in enumerate(values))

        match stored:
            case Tagged():
                return self._tagged(stored, present, classes)
            case list() | tuple() if _are_plain(stored):
                return stored
            case list() | tuple() | set() | frozenset():
                return type(stored)(items(stored))
            case deque():
                maxlen = present.maxlen if isinstance(present, deque) else stored.maxlen
                return deque(items(stored), maxlen)
            case dict():
                pairs = {
                    self._value(key, None, classes): self._value(item, item_at(key), classes)
                    for key, item in stored.items()
                }
                return _as_mapping(pairs, stored, present)
        return stored

    def _tagged(self, stored: Tagged, present: Any, classes: Mapping[str, Any]) -> Any:
        match stored.kind:
            case "variables":
                for variable, array in pairs_to_assign(present, stored, self.trained):
                    self._actions.append(partial(variable.assign, array))
                return present
            case "tensor":
                return tf.constant(stored.content)
            case "enum" | "flag" | "namedtuple":
                return self._of_class(stored, present, classes)
            case "code" if not isinstance(present, OWNERS) and not is_code(present):
                raise InvalidState(f"code is missing, in place of it is a {type(present).__name__}")
            case "code" | "object" | "alias":
                return present
        if not is_same_kind(present, stored):
            return new_generator(stored)
        self._actions.append(partial(set_generator, present, stored))
        return present

    def _of_class(self, stored: Tagged, present: Any, classes: Mapping[str, Any]) -> Any:
        """Return a member of an enumeration, or a named tuple, of the script's own class."""
        name, content = stored.content
        kind = classes.get(name)
        if kind is None:
            raise InvalidState(f"there is no {name[:80]} in the script's own value")
        try:
            if stored.kind == ENUM:
                return kind.__members__[content]
            if stored.kind == FLAG:
                return kind(content)
            inner = present if isinstance(present, tuple) else ()
            return kind._make(self._value(content, inner, classes))
        except (KeyError, ValueError, TypeError) as error:
            raise InvalidState(f"{name[:80]} has no value {str(content)[:80]}") from error


def _classes_in(value: Any) -> dict[str, Any]:
    """Return the enumerations and named tuples in the script's own value, by name."""
    match value:
        case Enum():
            return {type(value).__qualname__: type(value)}
        case Mapping():
            items: list[Any] = [*value.keys(), *value.values()]
        case list() | tuple() | set() | frozenset() | deque():
            items = list(value)
        case _:
            return {}
    named = isinstance(value, tuple) and hasattr(value, "_make")
    found = {type(value).__qualname__: type(value)} if named else {}
    if not _are_plain(items):
        for item in items:
            found |= _classes_in(item)
    return found


def _as_mapping(pairs: dict[Any, Any], stored: dict[Any, Any], present: Any) -> Any:
    """Return a mapping of the stored kind; a defaultdict has a factory only in the script."""
    if isinstance(present, defaultdict) and type(stored) is dict:
        return defaultdict(present.default_factory, pairs)
    if isinstance(stored, Counter | OrderedDict):
        return type(stored)(pairs)
    return pairs
