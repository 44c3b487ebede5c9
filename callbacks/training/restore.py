"""Compare a training with a checkpoint, and restore it from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keepfit.callbacks import events
from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.adapters.keras_callbacks.history import HISTORY
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.checkpoint.read.reader import Checkpoint
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.training import internals, random_state, refusal, variables
from keepfit.callbacks.training.data import batch_spec
from keepfit.callbacks.training.data.position import DataChanged, iterator_states
from keepfit.callbacks.training.data.tracker import DataTracker
from keepfit.callbacks.training.matching.differences import differences
from keepfit.callbacks.training.matching.match import match_by_name, match_variables
from keepfit.callbacks.training.matching.specs import InvalidOrder, saved_specs, saved_variables
from keepfit.callbacks.training.phases import Checkpointed, Progress

log = get_logger()

EXAMPLES = 3
"""Number of renamed variables that the log names."""


def compare_model(model: keras.Model, key: str, manifest: Manifest) -> None:
    """Compare the model's variables with a checkpoint's; build them first if necessary.

    Args:
        key: the key of the manifest.

    Raises:
        Refused: the variables differ; the log lists the differences.
    """
    if not manifest.has_variables:
        return
    try:
        if _names(manifest, variables.find_variables(model)) is not None:
            return
        if spec := manifest.state["element_spec"]:
            _build_variables(model, key, batch_spec.spec_from_json(spec))
        current = variables.find_variables(model)
        if _names(manifest, current) is not None:
            return
    except InvalidOrder as error:
        raise refusal.refusal(key, f"its record of the variables is not valid: {error}") from None
    lines = "\n".join(differences(saved_variables(manifest), variables.variable_list(current)))
    raise refusal.refusal(key, f"the model's variables differ from the checkpoint's:\n{lines}")


def _build_variables(model: keras.Model, key: str, element_spec: Any) -> None:
    """Build the model's variables for the batches of a checkpoint.

    Raises:
        Refused: that fails, because the model or its input is another one now.
    """
    try:
        variables.build_variables(model, element_spec)
    except Exception as error:  # the train step may be the user's, and may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise refusal.refusal(
            key,
            f"the model can't be built for the batches that the checkpoint describes: {reason}",
        ) from error


def restore_training(model: keras.Model, callbacks: HeldCallbacks, checkpoint: Checkpoint) -> None:
    """Restore the variables, the callbacks' state and the history, but not the random state."""
    if checkpoint.manifest.has_variables:
        _restore_variables(model, checkpoint)
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


def _restore_variables(model: keras.Model, checkpoint: Checkpoint) -> None:
    """Restore the variables; `compare_model` must have found no difference."""
    current = variables.find_variables(model)
    names = _names(checkpoint.manifest, current)
    if names is None:
        raise RuntimeError("the model's variables have changed since they were compared")
    variables.assign_variables(current, names, checkpoint.arrays)
    renamed = [f"{saved} is {name}" for name, saved in names.items() if saved != name]
    if renamed:
        log.info(
            events.VARIABLES_RENAMED,
            checkpoint=checkpoint.key,
            variables=len(renamed),
            examples=renamed[:EXAMPLES],
            reason="their names differ; their order, dtypes and shapes are the same",
        )


def _names(
    manifest: Manifest, current: Sequence[variables.NamedVariable]
) -> Mapping[str, str] | None:
    """Return the checkpoint's name for each name in the model; None if they don't match.

    Raises:
        InvalidOrder: the names differ, and the checkpoint's record of their order is not valid.
    """
    names = match_by_name(saved_specs(manifest), (named.spec for named in current))
    if names is None:
        names = match_variables(saved_variables(manifest), variables.variable_list(current))
    return names
