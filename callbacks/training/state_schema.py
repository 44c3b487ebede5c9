"""The schema of a training's state: every value that a restore uses, checked before any is used.

A checkpoint from another version of keepfit may have more values; these are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Annotated, Any

import keras
import tensorflow as tf
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.adapters.keras_callbacks.history import HISTORY
from keepfit.callbacks.adapters.state_types import Log, Text
from keepfit.callbacks.adapters.values.kinds import check_value
from keepfit.callbacks.checkpoint.format.codec import Array
from keepfit.callbacks.checkpoint.format.document import first_problem
from keepfit.callbacks.checkpoint.format.limits import MAX_COUNT, MAX_RANK, Count
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.format.state_schema import InvalidState, check_fields, check_type
from keepfit.callbacks.training.data import batch_spec
from keepfit.callbacks.training.data.fit_inputs import FitInputs
from keepfit.callbacks.training.data.position import IteratorState, iterator_states
from keepfit.callbacks.training.data.py_dataset import PyDatasetState
from keepfit.callbacks.training.identity.description import InputDescription
from keepfit.callbacks.training.matching.specs import InvalidOrder, saved_variables
from keepfit.callbacks.training.random_state import check_random_state

MAX_BATCH_ITEMS = 1 << 32
"""Largest number of items in a part of a batch."""

MAX_DATASETS = 1 << 16
"""Largest number of shuffled datasets in an input."""

_Size = Annotated[int, Field(ge=0, le=MAX_COUNT)] | None
_Shape = Annotated[list[_Size], Field(max_length=MAX_RANK)] | None


class SeedNumbers(BaseModel):
    """The seeds drawn by a strategy's iterators; see SeedCounts."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    first: Annotated[list[Count], Field(max_length=MAX_DATASETS)]
    current: Annotated[list[Count], Field(max_length=MAX_DATASETS)]
    passed: Count


class DataCounts(BaseModel):
    """The counts of a position in the data; see DataPosition."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    calls: Count
    since_start: Count
    since_later: Count
    seeds_are_lost: bool
    seeds: SeedNumbers | None = None


class BatchStructure(BaseModel):
    """The structure of a batch, as `spec_to_json` describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: Text
    shape: _Shape = None
    dtype: Text | None = None
    rank: Annotated[int, Field(ge=0, le=MAX_RANK)] | None = None
    splits: Text | None = None
    items: dict[str, BatchStructure] | list[BatchStructure] | None = None


class StateOfManifest(BaseModel):
    """The values of a state that contain no arrays, and are used before any is read."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    data: DataCounts
    element_spec: BatchStructure | None
    stop_training: bool
    history: dict[str, Any]
    logs: dict[str, Any]
    randomness: dict[str, Any]
    architecture: Any
    callbacks: list[Any]
    source: Any
    hyperparameters: dict[str, bool | int | float | str | None] | None = None


class TrainingStateSchema:
    """The schema of the states that one `fit` can resume from."""

    def __init__(
        self,
        model: keras.Model,
        callbacks: HeldCallbacks,
        py_dataset: PyDatasetState,
        inputs: FitInputs,
    ) -> None:
        self._model = model
        self._callbacks = callbacks
        self._py_dataset = py_dataset
        self._inputs = inputs

    def check_manifest(self, manifest: Manifest) -> None:
        """Check what the manifest alone contains. Raises InvalidState."""
        try:
            plain = StateOfManifest.model_validate(manifest.state)
            InputDescription.of_state(manifest.state)
            saved_variables(manifest)
            if plain.element_spec:
                _check_size(batch_spec.spec_from_json(manifest.state["element_spec"]))
        except ValidationError as error:
            raise InvalidState(first_problem(error)) from None
        except (InvalidOrder, TypeError, ValueError, KeyError, AttributeError) as error:
            raise InvalidState(f"{type(error).__name__}: {error}") from None
        _check_counts(manifest, plain.data)

    def check_state(self, state: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Check the decoded state. Raises InvalidState."""
        history = state["history"]
        check_fields(history, HISTORY.state)
        check_value(history, ())
        check_type("logs", state["logs"], dict[str, Log])
        check_random_state(state["randomness"])
        self._callbacks.check(state["callbacks"], self._model)
        self._py_dataset.check(state["source"])
        self._inputs.check(state.get("inputs"))
        _check_iterators(arrays, state["data"])


def _check_size(element_spec: Any) -> None:
    """Check that a batch can be built of zeros, which a model that runs eagerly needs."""
    for spec in tf.nest.flatten(element_spec):
        sizes = getattr(getattr(spec, "shape", None), "dims", None) or ()
        size = prod(int(dim.value or 1) for dim in sizes)
        if size > MAX_BATCH_ITEMS:
            raise InvalidState(f"a batch of shape {spec.shape} has {size} items")


def _check_counts(manifest: Manifest, data: DataCounts) -> None:
    position = manifest.position
    if (position.batch == 0) != (position.calls == 0):
        raise InvalidState(f"{position.calls} calls have trained {position.batch} batches")
    if data.since_later > data.calls or data.since_start > data.calls:
        raise InvalidState(f"it counts more batches since a state of the data than {data.calls}")
    if not position.finished and position.calls > data.calls:
        raise InvalidState(f"call {position.calls} of the epoch is after {data.calls} of the data")
    if data.calls > position.step:
        raise InvalidState(f"{data.calls} calls have trained {position.step} batches")


def _check_iterators(arrays: Mapping[str, Array], data: Mapping[str, Any]) -> None:
    """Check that the states of iterators can be parsed, and that the counts agree with them."""
    states = iterator_states(arrays)
    for name, content in states.items():
        try:
            IteratorState.from_bytes(content)
        except ValueError as error:
            raise InvalidState(f"{name} is not the state of an iterator: {error}") from None
    if not states and data["since_start"] != data["calls"]:
        raise InvalidState("it has no state of the data since which the batches are counted")
