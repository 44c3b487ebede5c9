"""The activity of an attempt in each phase of a `fit`, for its journal."""

from __future__ import annotations

from typing import assert_never

from keepfit.callbacks.journal.terms import Activity
from keepfit.callbacks.training.phases import (
    EpochStart,
    Over,
    Phase,
    Replaying,
    Starting,
    Training,
    Validating,
)


def activity_of(phase: Phase, *, has_trained: bool) -> Activity:
    """Return the activity of a phase.

    Args:
        has_trained: this attempt has trained a batch of the fit. TensorFlow traces the model in the
            first one, which counts as a part of the start.
    """
    match phase:
        case Starting():
            return Activity.RESTORE if phase.resume else Activity.STARTUP
        case Replaying():
            return Activity.RESTORE
        case EpochStart() | Training():
            if phase.restore_data:
                return Activity.RESTORE
            return Activity.TRAINING if has_trained else Activity.STARTUP
        case Validating():
            return Activity.VALIDATION
        case Over():
            return Activity.OTHER
    assert_never(phase)
