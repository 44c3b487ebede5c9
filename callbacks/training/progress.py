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

from dataclasses import dataclass, replace
from enum import Enum, auto


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        epoch: the epoch under way, from 0.
        batch: batches done in this epoch.
        calls: calls of the train function in this epoch; fewer than batches with
            `steps_per_execution`.
        step: batches done in the run, over all fits.
    """

    epoch: int = 0
    batch: int = 0
    calls: int = 0
    step: int = 0

    def next_epoch(self, epoch: int) -> Progress:
        """Return the progress at the start of an epoch."""
        return Progress(epoch=epoch, step=self.step)

    def after_batch(self, done: int) -> Progress:
        """Return the progress after a call of the train function.

        Args:
            done: batches of the epoch that are done now.
        """
        return Progress(self.epoch, done, self.calls + 1, self.step + done - self.batch)


@dataclass(frozen=True)
class Checkpointed:
    """The position from which a fit resumes.

    Attributes:
        begun: `on_epoch_begin` has been called for the epoch.
        exhausted: the train function has reached the end of the data in the epoch.
    """

    progress: Progress
    begun: bool = False
    exhausted: bool = False


@dataclass(frozen=True)
class Starting:
    """The fit has begun, its first epoch has not.

    Attributes:
        progress: where a fit that is not resumed starts.
        resume: where a resumed fit continues.
    """

    progress: Progress
    resume: Checkpointed | None = None


@dataclass(frozen=True)
class EpochStart:
    """`on_epoch_begin` has been called; the callbacks inside Resumable have not seen it yet.

    Attributes:
        restore_data: the iterator of this epoch has to be restored.
    """

    progress: Progress
    restore_data: bool = False


@dataclass(frozen=True)
class Replaying:
    """Batches that an earlier attempt has done are passed over.

    Attributes:
        progress: the progress of the interrupted attempt.
        batch: batches of the epoch that have been passed over.
        calls_left: calls of the train function that are still to be passed over.
        exhausted: the train function then reports the end of the data.
        restore_data: the iterator has to be restored.
    """

    progress: Progress
    batch: int
    calls_left: int
    exhausted: bool
    restore_data: bool = True


@dataclass(frozen=True)
class Training:
    """Batches of the epoch are trained, or have been.

    Attributes:
        restore_data: the iterator of this epoch has to be restored.
    """

    progress: Progress
    exhausted: bool = False
    restore_data: bool = False


@dataclass(frozen=True)
class Validating:
    """The validation at the end of an epoch is under way.

    Attributes:
        saved: the state before it has been submitted to the writer.
    """

    progress: Progress
    exhausted: bool = False
    saved: bool = False


@dataclass(frozen=True)
class Over:
    """The fit has ended.

    Attributes:
        earlier: an earlier attempt has completed it; nothing was trained.
    """

    progress: Progress
    earlier: bool = False


Phase = Starting | EpochStart | Replaying | Training | Validating | Over


@dataclass(frozen=True)
class EpochBegins:
    """Keras calls `on_epoch_begin`."""

    epoch: int


@dataclass(frozen=True)
class BatchEnds:
    """Keras calls `on_train_batch_end`.

    Attributes:
        done: batches of the epoch that are done now.
    """

    done: int


class Event(Enum):
    """The events without a value."""

    ALREADY_DONE = auto()
    """An earlier attempt has completed the fit."""
    EPOCH_HAS_BEGUN = auto()
    """The callbacks inside Resumable have seen `on_epoch_begin`."""
    STEP_BEGINS = auto()
    """The train function is called."""
    DATA_ENDS = auto()
    """The train function has found no more data."""
    VALIDATION_BEGINS = auto()
    VALIDATION_BATCH_ENDS = auto()
    VALIDATION_ENDS = auto()
    SAVE_SUBMITTED = auto()
    """The state before the validation has been submitted to the writer."""
    FIT_ENDS = auto()
    """Keras calls `on_train_end`."""


class Action(Enum):
    """What the controller does after a move, in the order of the returned tuple."""

    RESTORE = auto()
    """Restore everything but the data and the random state."""
    RESTORE_RANDOM_STATE = auto()
    """Restore the random state: the epoch is new, and its callbacks run next."""
    END_REPLAY = auto()
    """Restore what the hooks of the interrupted epoch have left: the next batch is new."""
    RESTORE_DATA = auto()
    """Advance the new iterator to the position in the data."""
    START_EPOCH = auto()
    """Capture the state before the epoch if a save is due."""
    EPOCH_BEGUN = auto()
    """Capture the state of the input, which callbacks may have changed."""
    OFFER_EPOCH_START = auto()
    """Save the state before the epoch, now that its iterator exists, if a save is due."""
    RETURN_SAVED_LOGS = auto()
    """Make the train function return the batch logs of the interrupted attempt."""
    RAISE_END_OF_DATA = auto()
    """Make the train function report the end of the data."""
    FIRST_BATCH = auto()
    """Look for variables that the first batch of an epoch has created."""
    OFFER_SAVE = auto()
    """Save the state after this batch if a save is due."""
    CAPTURE_BEFORE_VALIDATION = auto()
    OFFER_VALIDATION = auto()
    """Save the state before the validation if a save is due."""
    SAVE_FINAL = auto()
    """Save the final state of the fit."""
    RESTORE_FINAL = auto()
    """Restore the final state of the fit, which an earlier attempt has completed."""


class IllegalMove(RuntimeError):
    """An event that Keras does not send in this phase."""


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
