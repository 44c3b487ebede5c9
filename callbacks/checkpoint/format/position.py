"""The position of a training."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from keepfit.callbacks.checkpoint.format.limits import Count, Number


class Position(BaseModel):
    """The position of a training: what has been done, and so what comes next.

    Attributes:
        fit: number of the script's `fit` calls before this one.
        epoch: the epoch under way, from 0.
        batch: batches done in this epoch.
        calls: calls of the train function in this epoch; fewer than batches with
            `steps_per_execution`.
        step: batches done in the run, over all fits.
        begun: `on_epoch_begin` has been called for this epoch.
        exhausted: the train function has reached the end of the data in this epoch. That call
            trains nothing, but it advances the seeds and the optimizer's count.
        finished: this fit has ended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fit: Number = 0
    epoch: Number = 0
    batch: Count = 0
    calls: Count = 0
    step: Count = 0
    begun: bool = False
    exhausted: bool = False
    finished: bool = False
