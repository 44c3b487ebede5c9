"""How far a run is in this process, as any thread may see it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingPosition:
    """A position in a run.

    Attributes:
        epoch: the epoch under way, from 1; None before the first event of a fit.
        step: batches done in the run.
    """

    epoch: int | None
    step: int


@dataclass(frozen=True)
class RunProgress:
    """The progress of one run.

    Attributes:
        run: the name of the run.
        attempt: the number of this attempt; None until a fit has claimed the run.
        position: where the training is.
        resumed_from: the position of the checkpoint from which this attempt continues, if it does.
        events: number of batches, batches of validation, and other events of the fits so far.
    """

    run: str
    attempt: int | None
    position: TrainingPosition
    resumed_from: TrainingPosition | None
    events: int

    @property
    def has_resumed(self) -> bool:
        """True once a batch has been trained that the checkpoint did not have."""
        return self.resumed_from is not None and self.position.step > self.resumed_from.step
