"""Capture one training as a whole: cheaply on the training thread, encoded on the writer's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keepfit.callbacks import events
from keepfit.callbacks.adapters.frozen import copy_array, freeze
from keepfit.callbacks.adapters.held_callbacks import CapturedCallbacks, HeldCallbacks
from keepfit.callbacks.adapters.keras_callbacks.history import HISTORY
from keepfit.callbacks.checkpoint.format.codec import Array, encode
from keepfit.callbacks.checkpoint.format.dtypes import NUMPY_DTYPES
from keepfit.callbacks.checkpoint.format.limits import Json
from keepfit.callbacks.checkpoint.format.manifest import ARCHITECTURE, VARIABLES
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.checkpoint.snapshot import EncodedState, Group, Snapshot, Tensor, array_bytes
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.training import random_state, variables
from keepfit.callbacks.training.data import batch_spec
from keepfit.callbacks.training.data.position import DataPosition
from keepfit.callbacks.training.matching.specs import VariableOrder

log = get_logger()


class TrainingCapture:
    """Captures a model together with the callbacks of its training."""

    def __init__(
        self, model: keras.Model, callbacks: HeldCallbacks, guard: ExactnessGuard | None = None
    ) -> None:
        self._guard = guard or ExactnessGuard()
        self._model = model
        self._callbacks = callbacks
        self._reader: variables.VariableReader | None = None
        self._variables_stale = True
        self._element_spec: Any = None
        self._architecture: bytes | None = None
        self._variable_order: Json = None
        self._description: Mapping[str, Json] = {}

    def describe(self, description: Mapping[str, Json]) -> None:
        """Store the description of the fit in all its checkpoints, as plain values by name."""
        self._description = description

    def expect_new_variables(self) -> None:
        """Search for variables at the next capture: layers or an optimizer may have been built."""
        self._variables_stale = True

    def record_element_spec(self, element_spec: Any) -> None:
        """Record the structure of a batch, so that a resumed fit can build the model from it."""
        try:
            self._element_spec = batch_spec.spec_to_json(element_spec)
        except TypeError as error:
            log.warning(events.BATCH_UNKNOWN, reason=str(error), fix="build the model before fit")

    def continue_from(self, element_spec: Any) -> None:
        """Continue a training whose batches have the structure that a checkpoint has recorded."""
        self.expect_new_variables()
        self._element_spec = element_spec

    def prepare(self) -> variables.VariableReader:
        """Return the reader of all variables; find them first if they may have changed."""
        if self._variables_stale or self._reader is None:
            current = variables.find_variables(self._model)
            if self._reader is None and (names := variables.unsupported_variables(self._model)):
                self._guard.report(
                    events.VARIABLES_UNSTORABLE,
                    names=names,
                    reason="variables of strings or without a fixed shape are not saved",
                    fix="make sure that training does not change them",
                )
            if self._reader is None or not self._reader.reads(current):
                self._reader = variables.VariableReader(current)
                self._architecture = _architecture(self._model, current)
                self._variable_order = _variable_order(current)
            self._variables_stale = False
        return self._reader

    def with_data(self, snapshot: Snapshot, data: DataPosition) -> Snapshot:
        """Return the snapshot with the position in the data, and with the structure of a batch.

        Both are known later than the rest if an epoch has just begun.
        """
        known = {"data": data.plain(), "element_spec": self._element_spec, **self._description}
        return replace(
            snapshot,
            tensors=[*snapshot.tensors, *data.tensors()],
            state={**snapshot.state, **known},
        )

    def check_callbacks(self) -> None:
        """Report callbacks whose state can't be kept, before training changes any.

        Raises:
            Refused: see ExactnessGuard.
        """
        self._callbacks.capture().encode({}, self._guard)

    def snapshot(self, position: Position, logs: Mapping[str, Any], **more: Any) -> Snapshot:
        """Return a snapshot without the position in the data, which `with_data` adds.

        Args:
            position: the position of the training.
            logs: the batch logs of the last batch.
            more: plain values and arrays to store as well, or functions that return them, called on
                the writer's thread; `randomness` replaces the current random state by one that was
                captured earlier.
        """
        read_variables = self.prepare()
        values = {
            "history": freeze(HISTORY.get(self._model.history), _tensor_to_array),
            "logs": freeze(dict(logs), _tensor_to_array),
            "randomness": random_state.capture_random_state(),
            "architecture": self._architecture,
            "stop_training": bool(self._model.stop_training),
            **more,
        }
        callbacks = self._callbacks.capture()  # flushes the files whose sizes follow
        return Snapshot(
            position,
            read_variables(),
            {VARIABLES: self._variable_order},
            append_only_files=self._callbacks.append_only_files(),
            replaced_files=self._callbacks.replaced_files(),
            deferred=partial(_encode, values, callbacks),
        )


def _encode(values: Mapping[str, Any], callbacks: CapturedCallbacks) -> EncodedState:
    """Encode the captured values, on the writer's thread, which can't refuse a training."""
    arrays: dict[str, Array] = {}
    plain = {name: value() if callable(value) else value for name, value in values.items()}
    state = encode(plain, "state", arrays)
    state["callbacks"] = callbacks.encode(arrays, ExactnessGuard())
    return state, [_tensor(name, array) for name, array in arrays.items()]


def _architecture(
    model: keras.Model, named_variables: Sequence[variables.NamedVariable]
) -> bytes | None:
    """Return the JSON that `keepfit export` builds the model from; None if only its script can.

    A rebuilt model gives its variables other names, and may not know which of them are frozen, by
    which checkpoints sort them. The order in which they are found is the same.
    """
    try:
        config: str = model.to_json()
    except Exception:  # noqa: BLE001 # a layer's get_config is the user's, and may raise anything
        return None
    names = [named.spec.name for named in named_variables]
    return f'{{"variables": {json.dumps(names)}, "model": {config}}}'.encode()


def _variable_order(named_variables: Sequence[variables.NamedVariable]) -> Json:
    """Return what a later attempt needs to match the variables of a model with other names."""
    owners = variables.variable_list(named_variables).owners or ()
    order = VariableOrder.of([named.group for named in named_variables], owners)
    return order.model_dump(mode="json")


def _tensor_to_array(value: Any) -> Any:
    """Convert a tensor in the logs to an array: Keras converts only scalars, to floats."""
    return np.asarray(value) if tf.is_tensor(value) else copy_array(value)


def _tensor(name: str, array: Array) -> Tensor:
    group: Group = "data" if name == ARCHITECTURE else "state"  # dropped with the variables
    dtype = NUMPY_DTYPES[array.dtype.name]
    return Tensor(name, group, dtype, array.shape, lambda: array_bytes(array))
