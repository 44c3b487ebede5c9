"""The schema of a checkpoint's state: the part of a manifest that only its training understands.

A state that does not validate makes its checkpoint damaged, so that the one before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol

from pydantic import ConfigDict, TypeAdapter, ValidationError

from keepfit.callbacks.checkpoint.format.codec import Array
from keepfit.callbacks.checkpoint.format.document import first_problem
from keepfit.callbacks.checkpoint.format.key_names import shorten
from keepfit.callbacks.checkpoint.format.manifest import Manifest


class InvalidState(ValueError):
    """The state is not one that its training could have written; the message is one line."""


class StateSchema(Protocol):
    """The schema of the states of one training."""

    def check_manifest(self, manifest: Manifest) -> None:
        """Check the part that needs no arrays, before any is read. Raises InvalidState."""

    def check_state(self, state: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Check the decoded state before any of it is restored.

        Args:
            state: the decoded values by name.
            arrays: all arrays of the checkpoint by name.

        Raises:
            InvalidState: a value is missing, or not of the type that a restore needs.
        """


class _AnyState:
    """The schema of tools that restore nothing."""

    def check_manifest(self, manifest: Manifest) -> None:
        """Accept it."""

    def check_state(self, state: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Accept it."""


ANY_STATE: StateSchema = _AnyState()

Fields = Mapping[str, Any]
"""Types of the values of a state, by name."""


def check_fields(state: object, fields: Fields, optional: Fields | None = None) -> dict[str, Any]:
    """Return a state that has these fields and no others, with values of these types.

    Example:
        >>> check_fields({"wait": 1, "on_epoch_end": 2}, {"wait": Count})
        Traceback (most recent call last):
        InvalidState: 'on_epoch_end' is not part of this state

    Args:
        fields: types of the values that the state has.
        optional: types of the values that it may have as well.

    Raises:
        InvalidState: a value is missing, unknown or of another type.
    """
    if not isinstance(state, dict):
        raise InvalidState(f"a state is a {type(state).__name__}")
    known = {**(optional or {}), **fields}
    for name in fields.keys() - state.keys():
        raise InvalidState(f"{name!r} is missing")
    for name, value in state.items():
        if name not in known:
            raise InvalidState(f"{shorten(repr(name), 80)} is not part of this state")
        check_type(name, value, known[name])
    return state


def check_type(name: str, value: object, kind: Any) -> Any:
    """Return a value that has this type, which is one that pydantic knows. Raises InvalidState."""
    try:
        _adapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        raise InvalidState(f"{name}: {first_problem(error)}") from None
    return value


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
