"""The types of the values that adapters restore, and the check of a stored state against them.

A store may contain any state. What an adapter sets has the names that the adapter lists, and values
of the types that training produces; anything else makes its checkpoint damaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from keepfit.callbacks.checkpoint.format.document import first_problem
from keepfit.callbacks.checkpoint.format.key_names import shorten
from keepfit.callbacks.checkpoint.format.limits import MAX_COUNT, MAX_PATH
from keepfit.callbacks.checkpoint.format.state_schema import InvalidState
from keepfit.callbacks.checkpoint.snapshot import NUMPY_DTYPES

_MAX_INT = 1 << 64


def _check_number(value: Any) -> Any:
    """Return a number of Python or NumPy. Raises ValueError for anything else."""
    if isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) <= _MAX_INT:
        return value
    is_array = isinstance(value, np.generic | np.ndarray) and value.ndim == 0
    if is_array and value.dtype.name in NUMPY_DTYPES:
        return value
    raise ValueError("it is not a number")


def _check_array(value: Any) -> Any:
    """Return an array. Raises ValueError for anything else."""
    if isinstance(value, np.ndarray | np.generic):
        return value
    raise ValueError("it is not an array")


def _check_log(value: Any) -> Any:
    """Return a nest of numbers and arrays, as a train step returns it. Raises ValueError."""
    match value:
        case dict():
            return {name: _check_log(item) for name, item in value.items()}
        case list() | tuple():
            return [_check_log(item) for item in value]
        case np.ndarray():
            return value
    return _check_number(value)


Count = Annotated[int, Field(ge=0, le=MAX_COUNT)]
Number = Annotated[Any, AfterValidator(_check_number)]
Log = Annotated[Any, AfterValidator(_check_log)]
"""A value in the logs of a batch."""
Weights = list[Annotated[Any, AfterValidator(_check_array)]]
Text = Annotated[str, Field(max_length=MAX_PATH)]
StoredPath = Annotated[str, Field(max_length=MAX_PATH, pattern=r"^[^\x00]*$")]

Fields = Mapping[str, Any]
"""Types of the values of a state, by name."""


def check_fields(state: object, fields: Fields, optional: Fields | None = None) -> dict[str, Any]:
    """Return a state that has these fields and no others, with values of these types.

    Example:
        >>> check_fields({"wait": 1, "on_epoch_end": 2}, {"wait": Count})
        Traceback (most recent call last):
        InvalidState: 'on_epoch_end' is no part of this state

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
            raise InvalidState(f"{shorten(repr(name), 80)} is no part of this state")
        check_type(name, value, known[name])
    return state


def check_type(name: str, value: object, kind: Any) -> None:
    """Check a value's type, which is one of those above or of pydantic. Raises InvalidState."""
    try:
        _adapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        raise InvalidState(f"{name}: {first_problem(error)}") from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
