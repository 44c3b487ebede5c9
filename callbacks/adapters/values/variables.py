"""Variables in a user's callback: of models, layers, metrics and optimizers that it holds.

Variables of the model that is trained are in the checkpoint already, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keepfit.callbacks.checkpoint.format.codec import Lazy, Tagged
from keepfit.callbacks.checkpoint.format.dtypes import NUMPY_DTYPES
from keepfit.callbacks.checkpoint.format.state_schema import InvalidState, check_fields

VARIABLES = "variables"

OWNERS = (
    keras.Layer,
    keras.Optimizer,
    keras.Metric,
    keras.random.SeedGenerator,
    keras.Variable,
    tf.Variable,
    tf.Module,
    tf.random.Generator,
)
"""Classes whose instances are kept as all their variables, in order."""


class TrainedVariables:
    """The variables of the model that is trained, found when they are needed."""

    def __init__(self, model: Any = None) -> None:
        self._model = model

    def are_all_of(self, owner: object) -> bool:
        """Return whether an object is the trained model, or has only variables of it."""
        if owner is self._model:
            return True
        variables = variables_of(owner)
        return bool(variables) and all(variable in self for variable in variables)

    def __contains__(self, variable: object) -> bool:
        return id(variable) in self._ids

    @cached_property
    def _ids(self) -> frozenset[int]:
        if not isinstance(self._model, keras.Model):
            return frozenset()
        attributes = (v for v in vars(self._model).values() if isinstance(v, OWNERS))
        owners = (self._model, *attributes)
        return frozenset(id(variable) for owner in owners for variable in variables_of(owner))


def variables_of(owner: Any) -> list[Any]:
    """Return TensorFlow's variables of an instance of OWNERS, each once, in order."""
    found = {id(variable): variable for variable in map(_raw, _walk(owner))}
    return list(found.values())


def describe_variables(owner: Any, trained: TrainedVariables) -> Tagged | None:
    """Capture the variables without copying them; None if one of them can't be stored."""
    variables = [variable for variable in variables_of(owner) if variable not in trained]
    if not all(map(_is_storable, variables)):
        return None
    values = [Lazy(partial(as_array, _read(variable))) for variable in variables]
    return Tagged(VARIABLES, {"specs": [*map(_spec, variables)], "values": values})


def check_variables(tagged: Tagged) -> None:
    """Check stored values of variables: an array of the right form each. Raises InvalidState."""
    content = check_fields(tagged.content, {"specs": list[str], "values": list[Any]})
    if [*map(_spec_of_array, content["values"])] != content["specs"]:
        raise InvalidState("the values of variables have other shapes or dtypes than they say")


def pairs_to_assign(
    owner: Any, tagged: Tagged, trained: TrainedVariables
) -> Sequence[tuple[Any, Any]]:
    """Return the variables of the script's own object with their stored values.

    Raises:
        InvalidState: it has other variables.
    """
    if not isinstance(owner, OWNERS):
        raise InvalidState(f"in place of variables there is a {type(owner).__name__}")
    variables = [variable for variable in variables_of(owner) if variable not in trained]
    specs = [*map(_spec, variables)]
    if specs != tagged.content["specs"]:
        raise InvalidState(
            f"a {type(owner).__name__} has {len(specs)} variables of other shapes or dtypes than "
            f"the {len(tagged.content['specs'])} in the checkpoint"
        )
    return [*zip(variables, tagged.content["values"], strict=True)]


def _walk(owner: Any) -> Iterator[Any]:
    match owner:
        case keras.Variable() | tf.Variable():
            yield owner
        case keras.random.SeedGenerator() | tf.random.Generator():
            yield owner.state
        case keras.Model():
            yield from owner.variables
            yield from owner.metrics_variables
            if isinstance(optimizer := getattr(owner, "optimizer", None), keras.Optimizer):
                yield from optimizer.variables
        case _:
            yield from owner.variables


def _raw(variable: Any) -> Any:
    return variable.value if isinstance(variable, keras.Variable) else variable


def _is_storable(variable: Any) -> bool:
    defined = tf.TensorShape(variable.shape).is_fully_defined()
    return defined and tf.as_dtype(variable.dtype).name in NUMPY_DTYPES


def _spec(variable: Any) -> str:
    return f"{tf.as_dtype(variable.dtype).name}{list(variable.shape)}"


def _spec_of_array(array: object) -> str | None:
    return f"{array.dtype.name}{list(array.shape)}" if isinstance(array, np.ndarray) else None


def _read(variable: Any) -> Any:
    """Return the present value; TensorFlow copies its buffer when training next writes to it."""
    if isinstance(variable, tf.Variable) and not hasattr(variable, "distribute_strategy"):
        return tf.raw_ops.ReadVariableOp(resource=variable.handle, dtype=variable.dtype)
    return tf.convert_to_tensor(variable)


def as_array(tensor: tf.Tensor) -> Any:
    """Return the value of an eager tensor."""
    return np.asarray(tensor.numpy())
