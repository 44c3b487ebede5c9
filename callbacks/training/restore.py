"""Compare a training with a checkpoint, and restore it from there."""

from __future__ import annotations

from typing import Any

import keras

from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.adapters.keras_callbacks.history import HISTORY
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.read.reader import Checkpoint
from keepfit.callbacks.checkpoint.snapshot import Position
from keepfit.callbacks.training import internals, random_state, refusal, variables
from keepfit.callbacks.training.data import batch_spec
from keepfit.callbacks.training.data.position import DataChanged, iterator_states
from keepfit.callbacks.training.data.tracker import DataTracker
from keepfit.callbacks.training.phases import Checkpointed, Progress


def compare_model(model: keras.Model, key: str, manifest: Manifest) -> None:
    """Compare the model's variables with a checkpoint's; build them first if necessary.

    Args:
        key: the key of the manifest.

    Raises:
        Refused: the variables differ; the log lists the differences.
    """
    if not manifest.has_variables:
        return
    saved = [
        variables.VariableSpec(t.name, t.dtype, t.shape)
        for t in manifest.tensors
        if not t.name.startswith(("state/", "data/"))
    ]
    if not variables.differences(saved, _specs(model)):
        return
    if spec := manifest.state["element_spec"]:
        variables.build_variables(model, batch_spec.spec_from_json(spec))
    if lines := variables.differences(saved, _specs(model)):
        text = "\n".join(lines)
        raise refusal.refusal(key, f"the model's variables differ from the checkpoint's:\n{text}")


def restore_training(model: keras.Model, callbacks: HeldCallbacks, checkpoint: Checkpoint) -> None:
    """Restore the variables, the callbacks' state and the history, but not the random state."""
    if checkpoint.manifest.has_variables:
        variables.assign_variables(variables.find_variables(model), checkpoint.arrays)
    callbacks.restore(checkpoint.state["callbacks"])
    HISTORY.set(model.history, checkpoint.state["history"])


def restore_finished(model: keras.Model, callbacks: HeldCallbacks, checkpoint: Checkpoint) -> None:
    """Restore the final state of a fit that an earlier attempt has completed."""
    restore_training(model, callbacks, checkpoint)
    random_state.restore_random_state(checkpoint.state["randomness"])


def restore_data(
    data: DataTracker, checkpoint: Checkpoint, calls: int, steps_per_call: int
) -> None:
    """Advance the iterator that was last observed to the checkpoint's position.

    Args:
        calls: calls of the train function in this epoch.
        steps_per_call: batches that each of them reads.

    Raises:
        Refused: the data differs from the checkpoint's.
    """
    saved = checkpoint.state["data"]
    try:
        data.restore(iterator_states(checkpoint.arrays), saved, steps_per_call)
    except DataChanged as error:
        raise refusal.refusal(
            checkpoint.key, f"the input data differs from the checkpoint's: {error}"
        ) from None
    if before_this_epoch := saved["calls"] - calls:
        internals.add_steps_seen(before_this_epoch * steps_per_call)


def checkpointed(position: Position) -> Checkpointed:
    """Return the position from which a fit resumes, without its number."""
    progress = Progress(position.epoch, position.batch, position.calls, position.step)
    return Checkpointed(progress, begun=position.begun, exhausted=position.exhausted)


def _specs(model: Any) -> list[variables.VariableSpec]:
    return [named.spec for named in variables.find_variables(model)]
