"""The phases of one `fit` as a pure state machine: no Keras, no store, no time.

Keras calls hooks; the controller turns each into an event, and `advance` returns the next phase and
the actions that the controller then performs. A move that Keras never makes raises IllegalMove.

    Starting ──▶ EpochStart ◀──────────────┐
        │             │                    │
        │             ▼                    │
        └──▶ Replaying ──▶ Training ◀──▶ Validating
                              │
                              ▼
                            Over

A resumed fit starts with the interrupted epoch. The batches of it that are done are replayed: the
train function returns at once, and the callbacks inside Resumable don't see them twice.
"""

from __future__ import annotations

from dataclasses import replace

from keepfit.callbacks.training.phases import (
    Action,
    BatchEnds,
    Checkpointed,
    EpochBegins,
    EpochStart,
    Event,
    IllegalMove,
    Over,
    Phase,
    Progress,
    Replaying,
    Starting,
    Training,
    Validating,
)

Move = tuple[Phase, tuple[Action, ...]]


def advance(phase: Phase, event: Event | EpochBegins | BatchEnds) -> Move:
    """Return the phase after `event`, and the actions to perform.

    Example:
        >>> phase, actions = advance(Training(Progress(1, 4, 4, step=14)), BatchEnds(done=5))
        >>> phase.progress, actions
        (Progress(epoch=1, batch=5, calls=5, step=15), (<Action.OFFER_SAVE: ...>,))

    Raises:
        IllegalMove: the event can't happen in this phase.
    """
    match event:
        case EpochBegins(epoch):
            return _epoch_begins(phase, epoch)
        case BatchEnds(done):
            return _batch_ends(phase, done)
        case Event.STEP_BEGINS:
            return _step_begins(phase)
        case Event.FIT_ENDS:
            return _fit_ends(phase)
        case Event.VALIDATION_BEGINS | Event.VALIDATION_BATCH_ENDS | Event.VALIDATION_ENDS:
            return _validation(phase, event)
    match phase, event:
        case Starting(), Event.ALREADY_DONE:
            return Over(phase.resume.progress if phase.resume else phase.progress, earlier=True), ()
        case EpochStart(), Event.EPOCH_HAS_BEGUN:
            begun = Training(phase.progress, restore_data=phase.restore_data)
            return begun, (Action.EPOCH_BEGUN,)
        case Replaying(calls_left=0, exhausted=False), Event.EPOCH_HAS_BEGUN:
            return Training(phase.progress, restore_data=True), (Action.END_REPLAY,)
        case Replaying(), Event.EPOCH_HAS_BEGUN:
            return phase, ()
        case Training(), Event.DATA_ENDS:
            return replace(phase, exhausted=True), ()
        case Validating(), Event.SAVE_SUBMITTED:
            return replace(phase, saved=True), ()
    raise IllegalMove(f"{event} in {phase}")


def _epoch_begins(phase: Phase, epoch: int) -> Move:
    match phase:
        case Starting(resume=Checkpointed() as resume):
            return _resume(resume)
        case Starting() | Training():
            return EpochStart(phase.progress.next_epoch(epoch)), (Action.START_EPOCH,)
    raise IllegalMove(f"epoch {epoch} begins in {phase}")


def _resume(resume: Checkpointed) -> Move:
    progress = resume.progress
    if not resume.begun:
        restored = EpochStart(progress, restore_data=True)
        return restored, (Action.RESTORE, Action.RESTORE_RANDOM_STATE)
    replaying = Replaying(progress, 0, progress.calls, resume.exhausted)
    return replaying, (Action.RESTORE,)


def _step_begins(phase: Phase) -> Move:
    match phase:
        case Replaying(calls_left=0, exhausted=True):
            end = (Action.END_REPLAY, Action.RAISE_END_OF_DATA)
            trained = Training(phase.progress, exhausted=True)
            return trained, (*_data(restore=phase.restore_data), *end)
        case Replaying(calls_left=left) if left > 0:
            passed = replace(phase, calls_left=left - 1, restore_data=False)
            return passed, (*_data(restore=phase.restore_data), Action.RETURN_SAVED_LOGS)
        case Training(progress=Progress(calls=0)):
            ready = replace(phase, restore_data=False)
            return ready, (*_data(restore=phase.restore_data), Action.OFFER_EPOCH_START)
        case Training():
            return phase, ()
    raise IllegalMove(f"a step begins in {phase}")


def _data(*, restore: bool) -> tuple[Action, ...]:
    return (Action.RESTORE_DATA,) if restore else ()


def _batch_ends(phase: Phase, done: int) -> Move:
    match phase:
        case Replaying(calls_left=0, exhausted=False):
            return Training(phase.progress), (Action.END_REPLAY,)
        case Replaying():
            return replace(phase, batch=done), ()
        case Training(progress=Progress(batch=before)) if done >= before:
            trained = replace(phase, progress=phase.progress.after_batch(done))
            first = (Action.FIRST_BATCH,) if trained.progress.calls == 1 else ()
            return trained, (*first, Action.OFFER_SAVE)
    raise IllegalMove(f"batch {done} ends in {phase}")


def _validation(phase: Phase, event: Event) -> Move:
    """Follow a validation of this fit; one that the script starts itself changes nothing."""
    match phase, event:
        case Training(), Event.VALIDATION_BEGINS:
            validating = Validating(phase.progress, phase.exhausted)
            return validating, (Action.CAPTURE_BEFORE_VALIDATION,)
        case Validating(), Event.VALIDATION_BATCH_ENDS:
            return phase, (Action.OFFER_VALIDATION,)
        case Validating(), Event.VALIDATION_ENDS:
            return Training(phase.progress, phase.exhausted), ()
        case ((Starting() | EpochStart() | Replaying() | Over()), _):
            return phase, ()
    raise IllegalMove(f"{event} in {phase}")


def _fit_ends(phase: Phase) -> Move:
    match phase:
        case Over(earlier=True):
            return phase, (Action.RESTORE_FINAL,)
        case Replaying():  # a callback outside of Resumable has stopped the training
            return Over(phase.progress), (Action.END_REPLAY, Action.SAVE_FINAL)
        case Starting() | EpochStart() | Training():
            return Over(phase.progress), (Action.SAVE_FINAL,)
    raise IllegalMove(f"the fit ends in {phase}")
