"""Encode Python values as JSON and arrays, and decode them, without pickle.

The content of a bucket therefore never runs code. JSON alone would turn tuples into lists and keys
into strings, and lose NumPy's types. A value that JSON can't express is written as a dict with one
key that begins with `$`. Long lists of numbers become arrays, so that a manifest stays small.
"""

from __future__ import annotations

import itertools
import marshal
import math
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from keepfit.callbacks.checkpoint.format.dtypes import NUMPY_DTYPES
from keepfit.callbacks.checkpoint.format.key_names import shorten
from keepfit.callbacks.checkpoint.format.limits import Json
from keepfit.callbacks.checkpoint.format.plain_values import (
    PLAIN_FORMS,
    decode_plain,
    encode_plain,
    is_unicode,
)

Array = np.ndarray[Any, Any]

MAX_NAME_BYTES = 200
"""Maximum number of bytes of an array's name, which is the array's path within the state."""

LONG_LIST = 64
"""Number of items from which a list of numbers becomes an array."""

_TAGGED_FLOAT = np.dtype([("tag", "S1"), ("value", "<f8")])
_HEADER = 5
"""What `marshal` writes for a float, and the bytes that it writes before the items of a list."""

_NAMING = ("$array", "$scalar", "$bytes", "$floats", "$ints", "$bools", "$scalars")
"""The forms that consist of an array's name."""

_CHUNK = 8192
"""Number of items that become an array at once: NumPy keeps other threads waiting meanwhile."""

_NUMBERS: Mapping[type, tuple[str, str]] = {
    int: ("$ints", "int64"),
    bool: ("$bools", "bool"),
}
"""Forms of long lists by the type of all items but float, each with the dtype of its array."""

_COLLECTIONS: Mapping[str, Callable[[Any], Any]] = {
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
}

_DTYPE_OF_FORM = {"$floats": "float64", **dict(_NUMBERS.values())}


@dataclass(frozen=True)
class Encoded:
    """A value that has been encoded, so that it can be compared first and stored afterwards.

    Attributes:
        tree: the value as JSON.
        arrays: the arrays that the JSON names, by name.
    """

    tree: Json
    arrays: Mapping[str, Array]

    @classmethod
    def of(cls, value: object) -> Self:
        """Encode a value.

        Raises:
            UnsupportedValue: as for encode.
        """
        arrays: dict[str, Array] = {}
        return cls(encode(value, "", arrays), arrays)

    def decoded(self) -> Any:
        """Return the value."""
        return decode(self.tree, self.arrays.__getitem__)


@dataclass(frozen=True)
class PackedFloats:
    """A copy of a long list or tuple of floats.

    `marshal` writes any object of exactly the type float as a `g` and its eight bytes. No other way
    is as fast to find out whether all items are floats. It is never used to read anything.

    Attributes:
        kind: list or tuple.
        chunks: the output of `marshal` for at most _CHUNK floats each.
    """

    kind: type
    chunks: Sequence[bytes]

    @classmethod
    def of(cls, values: list[Any] | tuple[Any, ...]) -> Self | None:
        """Return a copy of the values; None if they are few, or not all of them are floats."""
        if len(values) < LONG_LIST or type(values[0]) is not float:
            return None
        chunks = []
        for start in range(0, len(values), _CHUNK):
            part = values[start : start + _CHUNK]
            try:
                written = marshal.dumps(part, 2)
            except ValueError:
                return None
            if written[_HEADER :: _TAGGED_FLOAT.itemsize] != b"g" * len(part):
                return None
            chunks.append(written)
        return cls(type(values), chunks)

    def array(self) -> Array:
        """Return the floats as an array."""
        return np.concatenate(
            [np.frombuffer(c, _TAGGED_FLOAT, -1, _HEADER)["value"] for c in self.chunks]
        )


@dataclass(frozen=True)
class Tagged:
    """A value that the codec can't build: only its owner, which has another one of its kind.

    Attributes:
        kind: the kind of the value.
        content: its state, of supported types.
    """

    kind: str
    content: Any


@dataclass(frozen=True)
class Lazy:
    """A captured value that is read when it is encoded, on the writer's thread."""

    read: Callable[[], object]


class UnsupportedValue(TypeError):
    """A value of a type that can't be stored; the message contains its path within the state."""


def encode(value: object, name: str, arrays: dict[str, Array]) -> Json:
    """Return `value` as JSON, and add its arrays to `arrays`, under names that begin with `name`.

    Supported are None, bool, int, float, str, bytes, NumPy scalars and arrays of the dtypes in
    NUMPY_DTYPES, dates, times, paths, complex numbers, and of these: lists, tuples (not named
    ones), sets, deques, dicts, ordered dicts and counters. Any other mapping becomes a dict, and a
    class derived from one of these its base. What is encoded already is added as it is.

    Raises:
        UnsupportedValue: `value` is or contains a value of another type.
    """
    match value:
        case None | bool() | int():
            return value
        case float() if not isinstance(value, np.generic):
            return value if math.isfinite(value) else {"$float": repr(value)}
        case str() if is_unicode(value):
            return value
        case list():
            return _encode_all(value, name, arrays)
        case tuple() if type(value) is tuple:
            return {"$tuple": _encode_all(value, name, arrays)}
        case set() | frozenset() | deque():
            return _encode_collection(value, name, arrays)
        case Counter():
            return {"$Counter": _encode_mapping(dict(value), name, arrays)}
        case OrderedDict():
            return {"$OrderedDict": _encode_mapping(dict(value), name, arrays)}
        case Mapping():
            return _encode_mapping(value, name, arrays)
    return _encode_captured(value, name, arrays)


def decode(value: Json, array: Callable[[str], Array]) -> Any:
    """Return the value that `encode` was given.

    Args:
        value: the JSON that `encode` returned.
        array: returns an array by its name.
    """
    match value:
        case list():
            return [decode(item, array) for item in value]
        case {"$float": text}:
            return float(text)
        case dict() if (form := next(iter(value), "")) in _NAMING:
            return _decode_array(form, array(value[form]))
        case {"$tuple": items} | {"$set": items} | {"$frozenset": items}:
            return _COLLECTIONS[next(iter(value))](decode(items, array))
        case {"$deque": [items, maxlen]}:
            return deque(decode(items, array), maxlen)
        case {"$state": [str() as kind, content]}:
            return Tagged(kind, decode(content, array))
        case dict() if (form := next(iter(value), "")) in PLAIN_FORMS:
            return decode_plain(form, value[form])
        case dict():
            return _decode_mapping(value, array)
    return value


def _decode_array(form: str, array: Array) -> Any:
    match form:
        case "$array":
            return array
        case "$scalar":
            return array[()]
        case "$bytes":
            return array.tobytes()
        case "$scalars":
            return list(_row(array))
    return _row(array, _DTYPE_OF_FORM[form]).tolist()


class UnreadableState(ValueError):
    """A stored state is not what `encode` returns; the message is one short line."""


def decode_once(state: Mapping[str, Json], arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Return the decoded state of a manifest.

    `encode` names each array once. What is decoded therefore never needs more memory than a small
    multiple of the arrays, of which the largest is that of a list of bools: 8 bytes for 1.

    Raises:
        UnreadableState: the state is not what `encode` has returned for these arrays.
    """
    unused = dict(arrays)
    try:
        return {name: decode(value, unused.pop) for name, value in state.items()}
    except KeyError as error:
        name = shorten(str(error.args[0]), 80)
        raise UnreadableState(f"it has no array {name!r}, or names it twice") from error
    except (TypeError, ValueError, OverflowError, RecursionError, AttributeError) as error:
        raise UnreadableState(shorten(f"{type(error).__name__}: {error}", 200)) from error


def _decode_mapping(value: dict[str, Any], array: Callable[[str], Array]) -> Mapping[Any, Any]:
    match value:
        case {"$Counter": items}:
            return Counter(_decode_mapping(items, array))
        case {"$OrderedDict": items}:
            return OrderedDict(_decode_mapping(items, array))
        case {"$dict": pairs}:
            return {decode(k, array): decode(v, array) for k, v in pairs}
        case {"$zip": [keys, items]}:
            return dict(zip(decode(keys, array), decode(items, array), strict=True))
    return {key: decode(item, array) for key, item in value.items()}


def _row(array: Array, dtype: str | None = None) -> Array:
    """Return the array of a list's items. Raises ValueError if it can't be one."""
    if array.ndim != 1 or (dtype and array.dtype != dtype):
        raise ValueError(f"a list is stored as {array.dtype} of shape {list(array.shape)}")
    return array


def _encode_captured(value: object, name: str, arrays: dict[str, Array]) -> Json:
    """Encode what stands for a value that was captured before; or an array, or a plain value."""
    match value:
        case PackedFloats():
            floats = {"$floats": _store(value.array(), name, arrays)}
            return {"$tuple": floats} if value.kind is tuple else floats
        case Tagged():
            return {"$state": [value.kind, encode(value.content, f"{name}/{value.kind}", arrays)]}
        case Lazy():
            return encode(value.read(), name, arrays)
        case Encoded():
            stored = {n: _store(a, f"{name}{n}", arrays) for n, a in value.arrays.items()}
            return _rename(value.tree, stored)
    return _encode_array(value, name, arrays)


def _encode_array(value: object, name: str, arrays: dict[str, Array]) -> Json:
    match value:
        case np.ndarray() if is_storable(value):
            return {"$array": _store(value, name, arrays)}
        case np.generic() if value.dtype.name in NUMPY_DTYPES:
            return {"$scalar": _store(np.asarray(value), name, arrays)}
        case bytes():
            return {"$bytes": _store(np.frombuffer(value, np.uint8), name, arrays)}
    if (plain := encode_plain(value)) is not None:
        return plain
    raise UnsupportedValue(f"{name} is a {type(value).__name__}, which can't be stored")


def _rename(tree: Json, names: Mapping[str, str]) -> Json:
    """Return the JSON with other names of the arrays."""
    match tree:
        case list():
            return [_rename(item, names) for item in tree]
        case dict():
            return {
                key: names[item] if key in _NAMING else _rename(item, names)
                for key, item in tree.items()
            }
    return tree


def is_storable(array: Array) -> bool:
    """Return True if the array can be stored. One of a derived class is more than its content."""
    return type(array) in (np.ndarray, np.memmap) and array.dtype.name in NUMPY_DTYPES


def _store(array: Array, name: str, arrays: dict[str, Array]) -> str:
    """Add the array under `name`, shortened or numbered if need be, and return the name used."""
    unused = stem = shorten(name, MAX_NAME_BYTES)
    numbers = itertools.count(2)
    while unused in arrays:
        unused = f"{stem}~{next(numbers)}"
    arrays[unused] = array
    return unused


def _encode_all(values: list[Any] | tuple[Any, ...], name: str, arrays: dict[str, Array]) -> Json:
    """Encode the items of a list: as one array if they are many numbers of one type."""
    if len(values) >= LONG_LIST and (numbers := _as_numbers(values)):
        form, array = numbers
        return {form: _store(array, name, arrays)}
    return [encode(item, f"{name}/{i}", arrays) for i, item in enumerate(values)]


def _as_numbers(values: list[Any] | tuple[Any, ...]) -> tuple[str, Array] | None:
    """Return the form and the array of a list of numbers; None for any other list."""
    if packed := PackedFloats.of(values):
        return "$floats", packed.array()
    kind = type(values[0])
    form, dtype = _NUMBERS.get(kind, ("$scalars", ""))
    if issubclass(kind, np.generic):
        dtype = np.dtype(kind).name
    if dtype not in NUMPY_DTYPES:
        return None
    parts = []
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK]
        if set(map(type, chunk)) != {kind}:
            return None
        try:
            parts.append(np.array(chunk, kind if form == "$scalars" else dtype))
        except OverflowError:  # an int has more than 64 bits
            return None
    return form, np.concatenate(parts)


def _encode_collection(value: Set[Any] | deque[Any], name: str, arrays: dict[str, Array]) -> Json:
    if isinstance(value, deque):
        return {"$deque": [_encode_all(list(value), name, arrays), value.maxlen]}
    items = _encode_all(_in_order(value), name, arrays)
    return {"$set" if isinstance(value, set) else "$frozenset": items}


def _in_order(values: Set[Any]) -> list[Any]:
    """Return the items in an order that depends only on them: equal sets give equal bytes."""
    items = list(values)
    if len(items) >= LONG_LIST and type(items[0]) is int and (numbers := _as_numbers(items)):
        return np.sort(numbers[1]).tolist()  # type: ignore[no-any-return]
    return sorted(items, key=repr)


def _encode_mapping(value: Mapping[Any, Any], name: str, arrays: dict[str, Array]) -> Json:
    plain = all(
        isinstance(key, str) and not key.startswith("$") and is_unicode(key) for key in value
    )
    if len(value) >= LONG_LIST and _as_numbers(items := list(value.values())):
        keys = _encode_all(list(value), f"{name}/keys", arrays)
        return {"$zip": [keys, _encode_all(items, f"{name}/values", arrays)]}
    if plain:
        return {key: encode(item, f"{name}/{key}", arrays) for key, item in value.items()}
    pairs = [
        [encode(key, f"{name}/{i}/key", arrays), encode(item, f"{name}/{i}", arrays)]
        for i, (key, item) in enumerate(value.items())
    ]
    return {"$dict": pairs}
