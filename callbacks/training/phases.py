"""The phases of one `fit`, its events, and the actions that follow from them: values only."""

from __future__ import annotations

from dataclasses import dataclass
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
