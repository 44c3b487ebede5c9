"""Find a training's variables, capture them without copying, and restore them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keepfit.callbacks.checkpoint.format.codec import Array
from keepfit.callbacks.checkpoint.format.dtypes import NUMPY_DTYPES
from keepfit.callbacks.checkpoint.snapshot import Tensor, array_bytes
from keepfit.callbacks.training import internals
from keepfit.callbacks.training.matching.specs import (
    VariableGroup,
    VariableList,
    VariableSpec,
    checkpoint_names,
    find_owners,
)


@dataclass(frozen=True)
class NamedVariable:
    """A variable under the name that it has in checkpoints.

    Attributes:
        path: Keras' path, with the numbers that differ between processes.
    """

    spec: VariableSpec
    group: VariableGroup
    variable: Any
    path: str


def find_variables(model: keras.Model) -> list[NamedVariable]:
    """Return every variable that training changes, in an order that all processes share."""
    seen = {id(variable) for _, variable in _walk(model) if not _is_storable(variable)}
    found = []
    for group, variable in _walk(model):
        if id(variable) not in seen:
            seen.add(id(variable))
            path = getattr(variable, "path", None) or variable.name.removesuffix(":0")
            found.append((path, group, variable))
    names = checkpoint_names((path for path, _, _ in found), (group for _, group, _ in found))
    return [
        named
        for name, (path, group, variable) in zip(names, found, strict=True)
        for named in _named_variables(name, path, group, variable)
    ]


def _named_variables(
    name: str, path: str, group: VariableGroup, variable: Any
) -> Iterator[NamedVariable]:
    """Yield the variable, or its value in each replica."""
    dtype = NUMPY_DTYPES[tf.as_dtype(variable.dtype).name]
    parts = _replica_values(variable, group)
    for i, part in enumerate(parts):
        replica_name = f"{name}@{i}" if len(parts) > 1 else name
        spec = VariableSpec(replica_name, dtype, tuple(variable.shape))
        yield NamedVariable(spec, group, part, path)


def variable_list(variables: Sequence[NamedVariable]) -> VariableList:
    """Return the properties of the variables that `find_variables` has found."""
    owners = find_owners([n.path for n in variables], [n.group for n in variables])
    return VariableList(tuple(n.spec for n in variables), owners)


def _replica_values(variable: Any, group: VariableGroup) -> Sequence[Any]:
    """Return the values to save: one for each replica where they differ, else the variable itself.

    Under a distribution strategy, weights and the optimizer's variables are the same in all
    replicas. The sums of metrics and the averages of a batch normalisation are not: each replica
    has processed other rows. Nor is a variable that is only reduced when it is read.
    """
    if isinstance(variable, tf.Variable):
        on_read = variable.synchronization == tf.VariableSynchronization.ON_READ
        strategy = getattr(variable, "distribute_strategy", None)
        if not on_read or strategy is None:
            return (variable,)
        return tuple(strategy.experimental_local_results(variable))
    value = getattr(variable, "value", None)
    replicas = getattr(value, "values", ())
    return tuple(replicas) if replicas and group in ("frozen", "metrics") else (variable,)


def _walk(model: keras.Model) -> Iterator[tuple[VariableGroup, Any]]:
    """Yield all variables with their groups; one variable may come several times."""
    for variable in model.variables:
        yield ("model" if variable.trainable else "frozen"), variable
    attributes = [leaf for layer in internals.layers_of(model) for leaf in _leaves(vars(layer))]
    for optimizer in (getattr(model, "optimizer", None), *attributes):
        if isinstance(optimizer, keras.optimizers.Optimizer):
            for variable in optimizer.variables:
                yield "optimizer", variable
    for variable in model.metrics_variables:
        yield "metrics", variable
    for variable in attributes:
        if isinstance(variable, tf.Variable):
            yield "model", variable
        elif isinstance(variable, tf.random.Generator):
            yield "model", variable.state


def generators(model: keras.Model) -> list[tf.random.Generator]:
    """Return TensorFlow's random generators whose states are kept: the model's and the global."""
    leaves = [leaf for layer in internals.layers_of(model) for leaf in _leaves(vars(layer))]
    found = [internals.global_generator(), *leaves]
    return [each for each in found if isinstance(each, tf.random.Generator)]


def _leaves(nest: Any) -> Iterator[Any]:
    """Yield the leaves of a nest of attributes, for objects that Keras itself does not track."""
    match nest:
        case Mapping():
            for value in nest.values():
                yield from _leaves(value)
        case list() | tuple():
            for value in nest:
                yield from _leaves(value)
        case _:
            yield nest


def unsupported_variables(model: keras.Model) -> list[str]:
    """Return the names of variables that can't be saved: of strings, or without a fixed shape."""
    names = {id(v): v.name for _, v in _walk(model) if not _is_storable(v)}
    return list(names.values())


def _is_storable(variable: Any) -> bool:
    dtype = tf.as_dtype(variable.dtype).name
    return dtype in NUMPY_DTYPES and tf.TensorShape(variable.shape).is_fully_defined()


class VariableReader:
    """A callable that captures all variables without copying them.

    TensorFlow lends the reader each variable's own buffer and copies it when training next writes
    to it, so this costs microseconds a variable and no memory until then. The ops run one by one:
    a graph of them would be no faster, and takes 2 ms a variable to trace.
    """

    def __init__(self, variables: Sequence[NamedVariable]) -> None:
        self._variables = variables
        self._values = [_backend_value(named.variable) for named in variables]

    def reads(self, variables: Sequence[NamedVariable]) -> bool:
        """Return True if the reader reads exactly these variables, in this order."""
        own = [(n.spec, id(n.variable)) for n in self._variables]
        return own == [(n.spec, id(n.variable)) for n in variables]

    def __call__(self) -> list[Tensor]:
        return [
            Tensor(n.spec.name, n.group, n.spec.dtype, n.spec.shape, _HostBytes(value))
            for n, value in zip(self._variables, map(_read_value, self._values), strict=True)
        ]


@dataclass(frozen=True)
class _HostBytes:
    """A callable that returns a captured value's bytes, called on the writer's thread."""

    value: tf.Tensor

    def __call__(self) -> memoryview:
        value = self.value
        if not value.device.endswith("CPU:0"):
            with tf.device("CPU:0"):
                value = tf.identity(value)
        return array_bytes(np.asarray(memoryview(value)))


def _backend_value(variable: Any) -> Any:
    return variable if isinstance(variable, tf.Variable) else variable.value


def _read_value(value: Any) -> tf.Tensor:
    """Return the variable's value, in a type that Python's buffer protocol supports."""
    if isinstance(value, tf.Variable) and not hasattr(value, "distribute_strategy"):
        tensor = tf.raw_ops.ReadVariableOp(resource=value.handle, dtype=value.dtype)
    else:
        tensor = tf.convert_to_tensor(value)
    if tensor.dtype == tf.bfloat16:
        return tf.bitcast(tensor, tf.uint16)
    if tensor.dtype.size == 1 and tensor.dtype.is_floating:
        return tf.bitcast(tensor, tf.uint8)
    return tensor


def assign_variables(
    variables: Sequence[NamedVariable], names: Mapping[str, str], arrays: Mapping[str, Array]
) -> None:
    """Assign the checkpoint's values to the variables.

    Args:
        names: the checkpoint's name for each name of a variable; see `match_variables`.
        arrays: the checkpoint's values by name.
    """
    for named in variables:
        named.variable.assign(arrays[names[named.spec.name]])


def build_variables(model: keras.Model, element_spec: Any) -> None:
    """Create every variable that the first training step would create.

    The step is traced, not run, so this works for custom train steps, metrics and any number of
    optimizers alike. A model that runs eagerly may not be traceable: it takes one step on zeros,
    whose effects the restore overwrites.
    """

    def step(data: Any) -> Any:
        return model.train_step(tf.nest.map_structure(_none_if_optional, data))

    with model.distribute_strategy.scope():
        if model.run_eagerly:
            step(tf.nest.map_structure(_zeros, element_spec))
        else:
            tf.function(step, autograph=False).get_concrete_function(element_spec)


def _zeros(spec: Any) -> Any:
    """Return zeros of the spec's type, of size 1 in unknown dimensions; None for an optional."""
    if isinstance(spec, tf.OptionalSpec):
        return None
    if isinstance(spec, tf.RaggedTensorSpec):
        dense = tf.zeros([size or 1 for size in spec.shape], spec.dtype)
        rank = spec.ragged_rank
        return tf.RaggedTensor.from_tensor(dense, ragged_rank=rank) if rank else dense
    return tf.zeros([size or 1 for size in spec.shape], spec.dtype)


def _none_if_optional(value: Any) -> Any:
    return None if isinstance(value, tf.experimental.Optional) else value
