"""Cheap copies of nests of Python values, which stay as they are while training goes on.

Such a copy is made on the training thread; everything else that is done to it, such as comparing
and encoding, happens on the writer's thread.
"""

from __future__ import annotations

import mmap
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from keepfit.callbacks.checkpoint.format.codec import Array, PackedFloats, is_storable
from keepfit.callbacks.checkpoint.format.dtypes import NUMPY_DTYPES

Leaf = Callable[[Any], Any]
"""Returns what a copy contains in place of a leaf: an array, or an object of an unknown class."""

_IMMUTABLE = frozenset(
    {type(None), bool, int, float, str, bytes}
    | {np.dtype(getattr(ml_dtypes, name, name)).type for name in NUMPY_DTYPES}
)

_MANY = 4096
"""Number of items from which they are summed up, which is faster than to collect their types."""


def freeze(value: Any, leaf: Leaf) -> Any:
    """Return a copy of a nest of lists, tuples, sets, deques and mappings.

    Immutable items are shared.

    Containers of derived classes become their base, as they do when they are encoded.

    Raises:
        RecursionError: the value contains itself.
    """
    if type(value) in _IMMUTABLE:
        return value
    match value:
        case list():
            packed = PackedFloats.of(value) if len(value) >= _MANY else None
            return packed or _freeze_items(list(value), leaf)
        case tuple() if type(value) is tuple:
            packed = PackedFloats.of(value) if len(value) >= _MANY else None
            return packed or tuple(_freeze_items(list(value), leaf))
        case set() | frozenset():
            kind = set if isinstance(value, set) else frozenset
            return kind(_freeze_items(list(value), leaf))
        case deque():
            return deque(_freeze_items(list(value), leaf), value.maxlen)
        case Counter():
            return Counter(_freeze_mapping(value, leaf))
        case OrderedDict():
            return OrderedDict(_freeze_mapping(value, leaf))
        case Mapping():
            return _freeze_mapping(value, leaf)
    return leaf(value)


def may_change(leaf: Any) -> bool:
    """Return True if the leaf is an array that can be stored and can be changed in place."""
    return isinstance(leaf, np.ndarray) and is_storable(leaf) and not is_constant(leaf)


def copy_array(leaf: Any) -> Any:
    """Return a copy of an array that can be changed in place; any other leaf is shared."""
    return leaf.copy() if may_change(leaf) else leaf


def share(leaf: Any) -> Any:
    """Return the leaf itself, for owners that replace their arrays and never change them."""
    return leaf


def is_constant(array: Array) -> bool:
    """Return True if neither the array nor an array that it is a view of can be written to."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return False
        owner = owner.base
    return owner is None or (isinstance(owner, mmap.mmap) and memoryview(owner).readonly)


def _freeze_items(items: list[Any], leaf: Leaf) -> list[Any]:
    return items if _are_immutable(items) else [freeze(item, leaf) for item in items]


def _freeze_mapping(value: Mapping[Any, Any], leaf: Leaf) -> dict[Any, Any]:
    copy = dict(value)
    if not set(map(type, copy)) <= _IMMUTABLE:
        copy = {freeze(key, leaf): item for key, item in copy.items()}
    if _are_immutable(list(copy.values())):
        return copy
    return {key: freeze(item, leaf) for key, item in copy.items()}


def _are_immutable(items: Sequence[Any]) -> bool:
    return (len(items) >= _MANY and _sum_is_float(items)) or set(map(type, items)) <= _IMMUTABLE


def _sum_is_float(items: Sequence[Any]) -> bool:
    """Return True if the sum of the items is a float: then none of them is a container or an array.

    `sum` adds up Python's numbers in C, a million of them in 4 ms; to collect their types takes
    30 ms. An array among them makes the sum an array or a NumPy scalar, a container raises.
    """
    if type(items[0]) not in (float, int, bool):
        return False
    try:
        return type(sum(items, 0.0)) is float
    except Exception:  # noqa: BLE001 # an item's own addition may raise anything
        return False
