"""HEAD: the one mutable object of a run, which says what is committed and who may write."""

from __future__ import annotations

import itertools
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from keepfit.callbacks.checkpoint.format.document import (
    MAX_ARGUMENTS,
    Argument,
    Digest,
    Document,
    is_empty,
)
from keepfit.callbacks.checkpoint.format.fit_record import FitRecord
from keepfit.callbacks.checkpoint.format.limits import (
    MAX_COUNT,
    MAX_ITEMS,
    MAX_MANIFESTS,
    MAX_NUMBER,
    MAX_PATH,
    AttemptNumber,
    Count,
    Name,
    Number,
)

MAX_INTERRUPTIONS, MAX_SECONDS = MAX_NUMBER, 1e12
"""Upper limits of the counts of a run; a higher value is invalid, and must not overflow."""

STARTED = "fresh"
"""Baseline value of HEAD: the number of the run's first attempt, which was started by --fresh.
Attempts before it belong to the run that was moved aside."""

ENDED = "ended"
"""Baseline value of HEAD: the number of the last attempt whose script came to its own end."""

COMPLETED = "completed"
"""Baseline value of HEAD: the number of the last attempt that has trained the script to its end,
with exit code 0."""

BaselineName = Annotated[str, Field(min_length=1, max_length=MAX_PATH + 100)]
"""A baseline value's name contains the index of a fit and the path of a file."""

_ITEMS, _MANIFESTS = Field(max_length=MAX_ITEMS), Field(max_length=MAX_MANIFESTS)


class AttemptHistory(BaseModel):
    """Interruptions and durations of the run's attempts.

    Each duration is measured by the attempt's own clock, so clocks of different machines are never
    compared. An attempt is counted once it has saved: one that fails earlier is not an interrupted
    training.

    Attributes:
        interruptions: number of attempts before this one that ended without a last save.
        seconds: total duration of the attempts before this one, each up to its last checkpoint.
        lived: duration of this attempt in seconds up to its last checkpoint; 0 before the first.
        parted: that checkpoint was meant to be this attempt's last one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)

    interruptions: Annotated[int, Field(ge=0, le=MAX_INTERRUPTIONS, alias="ends")] = 0
    seconds: Annotated[float, Field(ge=0, le=MAX_SECONDS)] = 0.0
    lived: Annotated[float, Field(ge=0, le=MAX_SECONDS)] = 0.0
    parted: bool = False

    def for_next_attempt(self) -> AttemptHistory:
        """Return the history for the attempt after this one."""
        ended = self.lived > 0 and not self.parted
        return AttemptHistory(
            interruptions=min(self.interruptions + ended, MAX_INTERRUPTIONS),
            seconds=min(self.seconds + self.lived, MAX_SECONDS),
        )

    def after_save(self, lived: float, *, last: bool) -> AttemptHistory:
        """Return the history after another checkpoint of this attempt.

        Args:
            lived: duration of this attempt in seconds.
            last: the checkpoint is meant to be the attempt's last one.
        """
        return AttemptHistory(
            interruptions=self.interruptions,
            seconds=self.seconds,
            lived=round(lived, 3),
            parted=last,
        )


class ScriptRecord(BaseModel):
    """The script of a run, as its newest attempt has run it.

    Attributes:
        arguments: the arguments on its command line; those that are secret are not stored.
        digest: SHA-256 of the script's file, hexadecimal; None where there is no file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    arguments: Annotated[tuple[Argument, ...], Field(max_length=MAX_ARGUMENTS)] = ()
    digest: Digest | None = None


class Head(Document):
    """The one mutable object of a run.

    Attributes:
        attempt: number of the newest attempt; only that attempt may write to the run.
        writer: a unique name of the process, by which a writer recognizes its own HEAD when the
            outcome of a swap is unknown.
        swaps: number of swaps of HEAD so far; it makes all contents of HEAD different.
        checkpoints: keys of the manifests of the kept checkpoints, the newest first.
        finished: key of the final checkpoint of each finished `fit`, by the fit's index.
        baseline: baseline values by name (for example file sizes) at the first start of a fit.
        history: interruptions and durations of the run's attempts.
        script: the script of the run; None in a run of keepfit 0.1.
        fits: identity of each fit, by its index; fits of keepfit 0.1 have none.
        continuations: key of the checkpoint from which a finished fit can train more epochs, by the
            fit's index.
    """

    run: Name
    attempt: AttemptNumber
    writer: Name
    swaps: Count
    checkpoints: Annotated[tuple[Name, ...], _MANIFESTS] = ()
    finished: Annotated[dict[Number, Name], _MANIFESTS] = Field(default_factory=dict)
    baseline: Annotated[dict[BaselineName, Count], Field(alias="origin"), _ITEMS] = Field(
        default_factory=dict
    )
    history: Annotated[AttemptHistory, Field(alias="past")] = AttemptHistory()
    script: Annotated[ScriptRecord | None, Field(exclude_if=is_empty)] = None
    fits: Annotated[dict[Number, FitRecord], Field(exclude_if=is_empty), _MANIFESTS] = Field(
        default_factory=dict
    )
    continuations: Annotated[dict[Number, Name], Field(exclude_if=is_empty), _MANIFESTS] = Field(
        default_factory=dict
    )

    @property
    def next_swaps(self) -> int:
        """The value of `swaps` after another swap, which begins again at the largest."""
        return self.swaps % MAX_COUNT + 1

    @property
    def first_attempt(self) -> int:
        """The number of the run's first attempt."""
        return min(self.baseline.get(STARTED, 1), self.attempt)

    def manifests(self) -> tuple[str, ...]:
        """Return the keys of all committed manifests, the newest first, without duplicates."""
        named = (self.checkpoints, reversed(self.finished.values()), self.continuations.values())
        return tuple(dict.fromkeys(itertools.chain.from_iterable(named)))
