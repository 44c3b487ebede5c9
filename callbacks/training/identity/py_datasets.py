"""The content of a keras.utils.PyDataset, as far as its attributes tell it."""

from __future__ import annotations

import dis
import inspect
import random
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keepfit.callbacks.training.identity.hashing import ContentHash

_HOOKS = ("on_epoch_begin", "on_epoch_end")
_NUMBERS = (type(None), bool, int, float, str, np.generic)
_QUEUES = ("workers", "use_multiprocessing", "max_queue_size")


def add(
    content: ContentHash,
    name: str,
    kind: type[Any],
    batches: int | None,
    attributes: Mapping[str, Any],
) -> None:
    """Add a PyDataset of the class `kind`.

    Args:
        name: what to call it in the hash's `unknown`.
        batches: its length, if that is known.
        attributes: its attributes, as `vars` returns them.
    """
    content.add_text(f"PyDataset {kind.__qualname__} {batches}")
    used, assigned = _names_in_hooks(kind)
    for attribute, value in sorted(attributes.items()):
        if attribute.startswith("_") or attribute in _QUEUES:
            continue
        if _is_generator(value) or (attribute in assigned and isinstance(value, _NUMBERS)):
            continue
        content.add_text(attribute)
        content.add(f"{name}.{attribute}", value, ordered=attribute not in used)


def _is_generator(value: Any) -> bool:
    kinds = (np.random.Generator, np.random.RandomState, random.Random, tf.random.Generator)
    return isinstance(value, (*kinds, keras.random.SeedGenerator))


def _names_in_hooks(kind: type[Any]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that the class's epoch hooks use, and those that they assign.

    The methods of the class that they call count as well.
    """
    used: set[str] = set()
    assigned: set[str] = set()
    base = keras.utils.PyDataset
    names = [hook for hook in _HOOKS if getattr(kind, hook) is not getattr(base, hook)]
    for name in names:
        for instruction in _instructions(getattr(kind, name, None)):
            if instruction.opname == "STORE_ATTR":
                assigned.add(instruction.argval)
            found = str(instruction.argval)
            used.add(found)
            is_method = inspect.isroutine(inspect.getattr_static(kind, found, None))
            if is_method and found not in names:
                names.append(found)
    return frozenset(used), frozenset(assigned)


def _instructions(function: Any) -> Iterator[dis.Instruction]:
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    pending: list[CodeType] = [code] if code else []
    for each in pending:
        pending.extend(const for const in each.co_consts if isinstance(const, CodeType))
        yield from dis.get_instructions(each)
