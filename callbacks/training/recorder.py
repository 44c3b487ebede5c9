"""One training as a whole: recorded into a snapshot, and restored from a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import structlog
import tensorflow as tf

from keepfit.callbacks import events
from keepfit.callbacks.adapters import held_callbacks
from keepfit.callbacks.adapters.base import HeldCallback
from keepfit.callbacks.adapters.registry import ADAPTERS
from keepfit.callbacks.checkpoint.codec import Array, encode
from keepfit.callbacks.checkpoint.reader import Checkpoint
from keepfit.callbacks.checkpoint.snapshot import (
    NUMPY_DTYPES,
    Position,
    Snapshot,
    Tensor,
    array_bytes,
)
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.training import batch_spec, random_state, variables
from keepfit.callbacks.training.data_position import DataPosition

log = structlog.get_logger("keepfit")


_HISTORY = ADAPTERS[keras.callbacks.History]


class ModelChanged(Exception):
    """The model's variables are not those of the checkpoint; the message lists which."""


class TrainingRecorder:
    """Records and restores a model together with the callbacks of its training."""

    def __init__(
        self,
        model: keras.Model,
        callbacks: Sequence[HeldCallback],
        guard: ExactnessGuard | None = None,
    ) -> None:
        self._guard = guard or ExactnessGuard()
        self._model = model
        self._callbacks = callbacks
        self._capture: variables.VariableReader | None = None
        self._stale = True
        self._element_spec: Any = None
        self._architecture: bytes | None = None

    def expect_new_variables(self) -> None:
        """Look for them again at the next record: layers or an optimizer may have been built."""
        self._stale = True

    def see_batches_of(self, element_spec: Any) -> None:
        """Remember what a batch looks like, so that resume can build the model."""
        try:
            self._element_spec = batch_spec.spec_to_json(element_spec)
        except TypeError as error:
            log.warning(events.BATCH_UNKNOWN, reason=str(error), fix="build the model before fit")

    def prepare(self) -> variables.VariableReader:
        """Find what a record reads, ahead of the first one."""
        if self._stale or self._capture is None:
            found = variables.find_variables(self._model)
            if self._capture is None and (names := variables.unsupported_variables(self._model)):
                self._guard.report(
                    events.VARIABLES_UNSTORABLE,
                    names=names,
                    reason="variables of strings or of no fixed shape are not saved",
                    fix="see to it that training does not change them",
                )
            if self._capture is None or not self._capture.reads(found):
                self._capture = variables.VariableReader(found)
                self._architecture = _architecture(self._model, found)
            self._stale = False
        return self._capture

    def record(self, position: Position, logs: Mapping[str, Any], **more: Any) -> Snapshot:
        """All of the training but the position in the data, which `with_data` adds.

        Args:
            more: plain values and arrays; `randomness` among them is that of an earlier moment.
        """
        capture = self.prepare()
        plain = {
            "history": _numbers(_HISTORY.get(self._model.history)),
            "logs": _numbers(dict(logs)),
            "randomness": random_state.capture_random_state(),
            "element_spec": self._element_spec,
            "architecture": self._architecture,
            "stop_training": bool(self._model.stop_training),
            **more,
        }
        arrays: dict[str, Array] = {}
        encoded = encode(plain, "state", arrays)
        encoded["callbacks"] = held_callbacks.capture(self._callbacks, arrays, self._guard)
        tensors = [*capture(), *(_tensor(name, a) for name, a in arrays.items())]
        return Snapshot(
            position,
            tensors,
            encoded,
            append_only_files=held_callbacks.append_only_files(self._callbacks),
            replaced_files=held_callbacks.replaced_files(self._callbacks),
            pending_uploads=held_callbacks.pending_uploads(self._callbacks),
        )

    def fit_to(self, checkpoint: Checkpoint) -> None:
        """Build what training would build, and compare it with the checkpoint.

        Raises:
            ModelChanged: they differ.
        """
        saved = [
            variables.VariableSpec(t.name, t.dtype, t.shape)
            for t in checkpoint.manifest.tensors
            if not t.name.startswith(("state/", "data/"))
        ]
        if variables.differences(saved, self._specs()):
            if spec := checkpoint.state["element_spec"]:
                variables.build_variables(self._model, batch_spec.spec_from_json(spec))
            if lines := variables.differences(saved, self._specs()):
                raise ModelChanged("\n".join(lines))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put back the variables, the callbacks' state and the history, not the random state."""
        self.expect_new_variables()
        self._element_spec = checkpoint.state["element_spec"]
        variables.assign_variables(variables.find_variables(self._model), checkpoint.arrays)
        held_callbacks.restore(self._callbacks, checkpoint.state["callbacks"])
        _HISTORY.set(self._model.history, checkpoint.state["history"])

    def _specs(self) -> list[variables.VariableSpec]:
        return [named.spec for named in variables.find_variables(self._model)]


def _architecture(model: keras.Model, found: Sequence[variables.NamedVariable]) -> bytes | None:
    """What `keepfit export` builds the model from; None where only its script can.

    A model built anew names its variables otherwise, and may not know which are frozen, by which
    checkpoints sort them. What stays is the order in which they are found.
    """
    try:
        config: str = model.to_json()
    except Exception:  # noqa: BLE001 # a layer's get_config is the user's, and may raise anything
        return None
    names = [named.spec.name for named in found]
    return f'{{"variables": {json.dumps(names)}, "model": {config}}}'.encode()


def with_data(snapshot: Snapshot, data: DataPosition) -> Snapshot:
    """The snapshot, complete with the position in the data."""
    return replace(
        snapshot,
        tensors=[*snapshot.tensors, *data.tensors()],
        state={**snapshot.state, "data": data.plain()},
    )


def _numbers(value: Any) -> Any:
    """A nest of logs, with tensors as arrays: Keras makes floats of scalars only."""
    match value:
        case dict():
            return {key: _numbers(item) for key, item in value.items()}
        case list():
            return [_numbers(item) for item in value]
    return np.asarray(value) if tf.is_tensor(value) else value


def _tensor(name: str, array: Array) -> Tensor:
    return Tensor(
        name, "state", NUMPY_DTYPES[array.dtype.name], array.shape, lambda: array_bytes(array)
    )
