"""Digests of a training's state: short, and equal if and only if the state is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import keras

from keepfit.callbacks.training.internals import VariableReads
from keepfit.callbacks.training.random_state import capture_random_state
from keepfit.callbacks.training.variables import find_variables


def variables_of(model: keras.Model) -> dict[str, str]:
    """Return a digest of each variable that training changes, by name."""
    with VariableReads.suspended():
        return {
            named.spec.name: _short(named.variable.numpy().tobytes())
            for named in find_variables(model)
        }


def generators() -> dict[str, str]:
    """Return a digest of each random generator of the process, by name."""
    with VariableReads.suspended():
        state = capture_random_state()
    return {name: "" if value is None else _short(_content(value)) for name, value in state.items()}


def history_of(history: keras.callbacks.History | None) -> dict[str, list[str]]:
    """Return the values of the history as text that tells all values apart."""
    values = history.history if history else {}
    return {name: [as_text(value) for value in column] for name, column in values.items()}


def as_text(value: Any) -> str:
    """Return a number or array as text; the same for a NumPy number and Python's."""
    return repr(value.tolist() if hasattr(value, "tolist") else value)


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:20]


def _content(value: Any) -> bytes:
    """Return the bytes of a nest of arrays and plain values."""
    match value:
        case Mapping():
            return b"".join(str(name).encode() + _content(value[name]) for name in sorted(value))
        case list() | tuple():
            return b"".join(map(_content, value))
    return value.tobytes() if hasattr(value, "tobytes") else repr(value).encode()
