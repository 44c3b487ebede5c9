"""The types of the values that adapters restore.

A store may contain any state. What an adapter sets has the names that the adapter lists, and values
of the types that training produces; anything else makes its checkpoint damaged.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field

from keepfit.callbacks.checkpoint.format.dtypes import NUMPY_DTYPES
from keepfit.callbacks.checkpoint.format.limits import MAX_PATH

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


Number = Annotated[Any, AfterValidator(_check_number)]
Log = Annotated[Any, AfterValidator(_check_log)]
"""A value in the logs of a batch."""
Weights = list[Annotated[Any, AfterValidator(_check_array)]]
Text = Annotated[str, Field(max_length=MAX_PATH)]
StoredPath = Annotated[str, Field(max_length=MAX_PATH, pattern=r"^[^\x00]*$")]
