"""Encode Python values as JSON and arrays, and decode them, without pickle.

The content of a bucket therefore never runs code. JSON alone would turn tuples into lists and keys
into strings, and lose NumPy's types. A value that JSON can't express is written as a dict with one
key that begins with `$`.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from keepfit.callbacks.checkpoint.snapshot import NUMPY_DTYPES, Json

Array = np.ndarray[Any, Any]

MAX_NAME_LENGTH = 200
"""Maximum number of characters in an array's name, which is the array's path within the state."""


class UnsupportedValue(TypeError):
    """A value of a type that can't be stored; the message contains its path within the state."""


def encode(value: object, name: str, arrays: dict[str, Array]) -> Json:
    """Return `value` as JSON, and add its arrays to `arrays`, under names that begin with `name`.

    Supported are None, bool, int, float, str, bytes, NumPy scalars and arrays of the dtypes in
    NUMPY_DTYPES, and of these: lists, tuples (not named ones), sets, dicts, ordered dicts and
    counters. Any other mapping becomes a dict.

    Raises:
        UnsupportedValue: `value` is or contains a value of another type.
    """
    match value:
        case None | bool() | int():
            return value
        case float() if not isinstance(value, np.generic):
            return value if math.isfinite(value) else {"$float": repr(value)}
        case str() if _is_unicode(value):
            return value
        case list():
            return _encode_all(value, name, arrays)
        case tuple() if type(value) is tuple:
            return {"$tuple": _encode_all(value, name, arrays)}
        case set() | frozenset():
            items = _encode_all(sorted(value, key=repr), name, arrays)
            return {"$set" if isinstance(value, set) else "$frozenset": items}
        case Counter() | OrderedDict():
            return {f"${type(value).__name__}": _encode_mapping(dict(value), name, arrays)}
        case Mapping():
            return _encode_mapping(value, name, arrays)
    return _encode_array(value, name, arrays)


def decode(value: Json, array: Callable[[str], Array]) -> Any:
    """Return the value that `encode` was given.

    Args:
        value: the JSON that `encode` returned.
        array: returns an array by its name.
    """
    match value:
        case list():
            return [decode(item, array) for item in value]
        case {"$array": name}:
            return array(name)
        case {"$scalar": name}:
            return array(name)[()]
        case {"$bytes": name}:
            return array(name).tobytes()
        case {"$float": text}:
            return float(text)
        case {"$tuple": items}:
            return tuple(decode(item, array) for item in items)
        case {"$set": items}:
            return {decode(item, array) for item in items}
        case {"$frozenset": items}:
            return frozenset(decode(item, array) for item in items)
        case dict():
            return _decode_mapping(value, array)
    return value


def _decode_mapping(value: dict[str, Any], array: Callable[[str], Array]) -> Mapping[Any, Any]:
    match value:
        case {"$Counter": items}:
            return Counter(_decode_mapping(items, array))
        case {"$OrderedDict": items}:
            return OrderedDict(_decode_mapping(items, array))
        case {"$dict": pairs}:
            return {decode(k, array): decode(v, array) for k, v in pairs}
    return {key: decode(item, array) for key, item in value.items()}


def _encode_array(value: object, name: str, arrays: dict[str, Array]) -> Json:
    match value:
        case np.ndarray() if value.dtype.name in NUMPY_DTYPES:
            return {"$array": _store(value, name, arrays)}
        case np.generic() if value.dtype.name in NUMPY_DTYPES:
            return {"$scalar": _store(np.asarray(value), name, arrays)}
        case bytes():
            return {"$bytes": _store(np.frombuffer(value, np.uint8), name, arrays)}
    raise UnsupportedValue(f"{name} is a {type(value).__name__}, which can't be stored")


def _store(array: Array, name: str, arrays: dict[str, Array]) -> str:
    """Add the array under `name`, shortened or numbered if need be, and return the name used."""
    unused = stem = name[:MAX_NAME_LENGTH]
    numbers = itertools.count(2)
    while unused in arrays:
        unused = f"{stem}~{next(numbers)}"
    arrays[unused] = array
    return unused


def _is_unicode(text: str) -> bool:
    """Return False if `text` contains a lone surrogate.

    Python represents file names that are not UTF-8 by lone surrogates.
    """
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _encode_all(values: list[Any] | tuple[Any, ...], name: str, arrays: dict[str, Array]) -> Json:
    return [encode(item, f"{name}/{i}", arrays) for i, item in enumerate(values)]


def _encode_mapping(value: Mapping[Any, Any], name: str, arrays: dict[str, Array]) -> Json:
    plain = all(isinstance(key, str) and not key.startswith("$") for key in value)
    if plain:
        return {key: encode(item, f"{name}/{key}", arrays) for key, item in value.items()}
    pairs = [
        [encode(key, f"{name}/{i}/key", arrays), encode(item, f"{name}/{i}", arrays)]
        for i, (key, item) in enumerate(value.items())
    ]
    return {"$dict": pairs}


def freeze(value):
    arrays = {}
    import copy

    return copy.deepcopy(value)
