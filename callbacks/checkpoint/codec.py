"""Python values to JSON and arrays, and back, without pickle: a bucket's content never runs code.

JSON alone would turn tuples into lists and keys into strings, and lose NumPy's types. What JSON
can't say is written as a dict with one key that begins with `$`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from callbacks.checkpoint.snapshot import NUMPY_DTYPES, Json

Array = np.ndarray[Any, Any]


class Unstorable(TypeError):
    """A value of a type that can't be stored; the message says where it stands."""


def encode(value: object, name: str, arrays: dict[str, Array]) -> Json:
    """`value` as JSON; the arrays in it are put into `arrays` under names that begin with `name`.

    Raises:
        Unstorable: it holds something else than None, bool, int, float, complex-free NumPy
            scalars and arrays, str, bytes, lists, tuples, sets of these and dicts.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case np.ndarray() if value.dtype.name in NUMPY_DTYPES:
            arrays[name] = value
            return {"$array": name}
        case np.generic() if value.dtype.name in NUMPY_DTYPES:
            arrays[name] = np.asarray(value)
            return {"$scalar": name}
        case float():
            return value if math.isfinite(value) else {"$float": repr(value)}
        case bytes():
            arrays[name] = np.frombuffer(value, np.uint8)
            return {"$bytes": name}
        case list():
            return _encode_all(value, name, arrays)
        case tuple():
            return {"$tuple": _encode_all(value, name, arrays)}
        case set() | frozenset():
            return {"$set": _encode_all(sorted(value, key=repr), name, arrays)}
        case Mapping():
            return _encode_mapping(value, name, arrays)
    raise Unstorable(f"{name} is a {type(value).__name__}, which can't be stored")


def decode(value: Json, array: Callable[[str], Array]) -> Any:
    """What `encode` was given; `array` finds an array by its name."""
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
        case {"$dict": pairs}:
            return {decode(k, array): decode(v, array) for k, v in pairs}
        case dict():
            return {key: decode(item, array) for key, item in value.items()}
    return value


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
