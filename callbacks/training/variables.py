"""A training's variables: found, captured without copying, compared and put back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keepfit.callbacks.checkpoint.codec import Array
from keepfit.callbacks.checkpoint.snapshot import NUMPY_DTYPES, Group, Tensor, array_bytes
from keepfit.callbacks.training import internals

_GENERATED = re.compile(r"_\d+(?=/|_|$)")


@dataclass(frozen=True)
class VariableSpec:
    """What must agree between a checkpoint's tensor and a model's variable."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}{list(self.shape)}"


@dataclass(frozen=True)
class NamedVariable:
    """A variable under the name that it has in checkpoints."""

    spec: VariableSpec
    group: Group
    variable: Any


def find_variables(model: keras.Model) -> list[NamedVariable]:
    """Every variable that training changes, in an order that is the same in every process.

    Names are made of Keras' paths without the numbers that Keras generates (`dense_1`), which
    differ between processes; equal names are told apart by their order.
    """
    seen = {id(variable) for _, variable in _walk(model) if not _is_storable(variable)}
    count: Counter[str] = Counter()
    found = []
    for group, variable in _walk(model):
        if id(variable) in seen:
            continue
        seen.add(id(variable))
        path = getattr(variable, "path", None) or variable.name.removesuffix(":0")
        name = f"{'model' if group == 'frozen' else group}/{_GENERATED.sub('', path)}"
        count[name] += 1
        if count[name] > 1:
            name = f"{name}~{count[name]}"
        dtype = NUMPY_DTYPES[tf.as_dtype(variable.dtype).name]
        parts = _replica_values(variable, group)
        for i, part in enumerate(parts):
            of_replica = f"{name}@{i}" if len(parts) > 1 else name
            found.append(
                NamedVariable(VariableSpec(of_replica, dtype, tuple(variable.shape)), group, part)
            )
    return found


def _replica_values(variable: Any, group: Group) -> Sequence[Any]:
    """What each replica has of it, under a distribution strategy.

    Weights and the optimizer's variables are the same in all replicas. The sums of metrics and the
    averages of a batch normalisation are not: each replica has seen other rows.
    """
    value = getattr(variable, "value", None)
    replicas = getattr(value, "values", ())
    return tuple(replicas) if replicas and group in ("frozen", "metrics") else (variable,)


def _walk(model: keras.Model) -> Iterator[tuple[Group, Any]]:
    for variable in model.variables:
        yield ("model" if variable.trainable else "frozen"), variable
    own = [value for layer in internals.layers_of(model) for value in _values(vars(layer))]
    for optimizer in (getattr(model, "optimizer", None), *own):
        if isinstance(optimizer, keras.optimizers.Optimizer):
            for variable in optimizer.variables:
                yield "optimizer", variable
    for variable in model.metrics_variables:
        yield "metrics", variable
    for variable in own:
        if isinstance(variable, tf.Variable):
            yield "model", variable


def _values(nest: Any) -> Iterator[Any]:
    """What Keras does not track: optimizers and tf.Variables in a layer's attributes."""
    match nest:
        case Mapping():
            for value in nest.values():
                yield from _values(value)
        case list() | tuple():
            for value in nest:
                yield from _values(value)
        case _:
            yield nest


def unsupported_variables(model: keras.Model) -> list[str]:
    """The names of variables that no checkpoint can hold: of strings, or without a fixed shape."""
    found = {id(v): v.name for _, v in _walk(model) if not _is_storable(v)}
    return list(found.values())


def _is_storable(variable: Any) -> bool:
    dtype = tf.as_dtype(variable.dtype).name
    return dtype in NUMPY_DTYPES and tf.TensorShape(variable.shape).is_fully_defined()


class VariableReader:
    """Reads all variables: a snapshot without a copy.

    TensorFlow lends the reader each variable's own buffer and copies it when training next writes
    to it, so this costs microseconds a variable and no memory until then. The ops run one by one:
    a graph of them would be no faster, and takes 2 ms a variable to trace.
    """

    def __init__(self, variables: Sequence[NamedVariable]) -> None:
        self._variables = variables
        self._values = [_value(named.variable) for named in variables]

    def reads(self, variables: Sequence[NamedVariable]) -> bool:
        """Whether these are the variables that it reads, in this order."""
        mine = [(n.spec, id(n.variable)) for n in self._variables]
        return mine == [(n.spec, id(n.variable)) for n in variables]

    def __call__(self) -> list[Tensor]:
        return [
            Tensor(n.spec.name, n.group, n.spec.dtype, n.spec.shape, _HostBytes(value))
            for n, value in zip(self._variables, map(_buffer, self._values), strict=True)
        ]


@dataclass(frozen=True)
class _HostBytes:
    """A captured value's bytes, when the writer asks for them."""

    value: tf.Tensor

    def __call__(self) -> memoryview:
        value = self.value
        if not value.device.endswith("CPU:0"):
            with tf.device("CPU:0"):
                value = tf.identity(value)
        return array_bytes(np.asarray(memoryview(value)))


def _value(variable: Any) -> Any:
    return variable if isinstance(variable, tf.Variable) else variable.value


def _buffer(value: Any) -> tf.Tensor:
    """The variable's value in a type that Python's buffer protocol knows."""
    if isinstance(value, tf.Variable) and not hasattr(value, "distribute_strategy"):
        tensor = tf.raw_ops.ReadVariableOp(resource=value.handle, dtype=value.dtype)
    else:
        tensor = tf.convert_to_tensor(value)
    if tensor.dtype == tf.bfloat16:
        return tf.bitcast(tensor, tf.uint16)
    if tensor.dtype.size == 1 and tensor.dtype.is_floating:
        return tf.bitcast(tensor, tf.uint8)
    return tensor


def differences(saved: Sequence[VariableSpec], current: Sequence[VariableSpec]) -> list[str]:
    """What is not the same, one line a variable; empty if the checkpoint fits."""
    before = {spec.name: spec for spec in saved}
    now = {spec.name: spec for spec in current}
    lines = [f"only in the checkpoint: {before[n]}" for n in before if n not in now]
    lines += [f"only in the model: {now[n]}" for n in now if n not in before]
    lines += [
        f"changed: {before[n]} in the checkpoint, {now[n].dtype}{list(now[n].shape)} in the model"
        for n in before
        if n in now and before[n] != now[n]
    ]
    return lines


def assign_variables(variables: Sequence[NamedVariable], arrays: Mapping[str, Array]) -> None:
    """Give every variable its value from the checkpoint; `differences` must have found none."""
    for named in variables:
        named.variable.assign(arrays[named.spec.name])


def build_variables(model: keras.Model, element_spec: Any) -> None:
    """Create every variable that the first training step would create.

    The step is traced, not run, so it works for custom train steps, metrics and any number of
    optimizers alike. A model that runs eagerly may not be traceable: it takes one step on zeros,
    whose effects are overwritten by what is restored after it.
    """

    def step(data: Any) -> Any:
        return model.train_step(tf.nest.map_structure(_none_if_optional, data))

    with model.distribute_strategy.scope():
        if model.run_eagerly:
            step(tf.nest.map_structure(_zeros, element_spec))
        else:
            tf.function(step, autograph=False).get_concrete_function(element_spec)


def _zeros(spec: Any) -> Any:
    """Something of the spec's type, one row where the batch may be of any size."""
    if isinstance(spec, tf.OptionalSpec):
        return None
    if isinstance(spec, tf.RaggedTensorSpec):
        dense = tf.zeros([size or 1 for size in spec.shape], spec.dtype)
        rank = spec.ragged_rank
        return tf.RaggedTensor.from_tensor(dense, ragged_rank=rank) if rank else dense
    return tf.zeros([size or 1 for size in spec.shape], spec.dtype)


def _none_if_optional(value: Any) -> Any:
    return None if isinstance(value, tf.experimental.Optional) else value
