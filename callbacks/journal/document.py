"""The journal of an attempt: its machine, its times, its saves, and how it ended.

An attempt writes its own journal and no other one: at the claim, after each save, and at its end.
So the journal of a killed attempt ends with its last save; the attempt after it records what it
knows of that end (`Journal.previous`).

Moments are seconds since the start of the attempt's process, by its monotonic clock. Only
`process_started` is a time of day.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from keepfit.callbacks.checkpoint.format.document import MAX_ARGUMENTS, Argument, Document
from keepfit.callbacks.checkpoint.format.limits import AttemptNumber, Count, Name, Number
from keepfit.callbacks.journal.terms import MAX_PRICE, Activity, PriceClass, Reason

MAX_SECONDS: Final = 10**10
"""Longest duration: three hundred years."""

MAX_SAVES: Final = 500
MAX_EPOCHS: Final = 1000
"""Largest number of entries of a journal. When there are more, every second one is left out, the
newest never: the entries are cumulative, so sums stay right."""

MAX_NOTICES: Final = 20
MAX_FITS: Final = 1000
MAX_METRICS: Final = 200

Seconds = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
Price = Annotated[float, Field(ge=0, le=MAX_PRICE, allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=1024)]


class Entry(BaseModel):
    """A part of a journal; unknown fields mean that a newer keepfit wrote it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Machine(Entry):
    """The machine of an attempt; what is not known is None.

    Attributes:
        host: its host name.
        hourly_price: what it costs in US dollars per hour.
        on_demand_price: what a machine of this type costs on demand, in US dollars per hour.
        job: id of the AWS Batch job; `job_attempt` is the number of the attempt there, from 1.
        log_group, log_stream: where CloudWatch has what the attempt has written.
    """

    host: Name | None = None
    instance_type: Name | None = None
    instance_id: Name | None = None
    region: Name | None = None
    zone: Name | None = None
    price_class: PriceClass | None = None
    hourly_price: Price | None = None
    on_demand_price: Price | None = None
    job: Name | None = None
    job_attempt: Number | None = None
    log_group: Name | None = None
    log_stream: Name | None = None


class Elapsed(Entry):
    """The seconds of each activity since the start of the process; they add up to the moment."""

    startup: Seconds = 0.0
    restore: Seconds = 0.0
    training: Seconds = 0.0
    validation: Seconds = 0.0
    saving: Seconds = 0.0
    other: Seconds = 0.0

    @property
    def total(self) -> float:
        """Seconds since the start of the process."""
        return math.fsum(getattr(self, activity.value) for activity in Activity)


class Mark(Entry):
    """A moment of an attempt.

    Attributes:
        step: batches done in the run.
        elapsed: the time until then, by activity.
    """

    step: Count
    elapsed: Elapsed

    @property
    def at(self) -> float:
        """The moment, in seconds since the start of the process."""
        return self.elapsed.total


class Save(Mark):
    """A checkpoint that was committed; the mark is the moment of its capture.

    Attributes:
        epoch: index of the epoch, from 0; `batch` is the number of batches done in it.
        seconds: from the capture until the checkpoint was durable.
        size: size of its shards in bytes, those included that were stored before.
        stall: seconds for which training has waited for saves since the save before.
        last: it is the final state of a fit, or the last save before the attempt was preempted.
    """

    fit: Number
    epoch: Number
    batch: Count
    seconds: Seconds
    size: Count
    stall: Seconds = 0.0
    last: bool = False


class Epoch(Mark):
    """An epoch that has ended, with its validation.

    Attributes:
        epoch: index of the epoch, from 0.
        metrics: what Keras reports for it: the `logs` of `on_epoch_end` that are numbers.
    """

    fit: Number
    epoch: Number
    metrics: Annotated[dict[Name, float], Field(max_length=MAX_METRICS)] = Field(
        default_factory=dict
    )


class Fit(Mark):
    """A `fit` that trains; the mark is the moment before its first batch in this attempt.

    A fit that an earlier attempt has finished has no entry.

    Attributes:
        resumed: it continues a checkpoint, whose step is that of the mark.
        epochs: the epochs that it is asked for; None if that is not known.
    """

    fit: Number
    resumed: bool = False
    epochs: Number | None = None


class NoticeEntry(Entry):
    """A notice that the process will end.

    Attributes:
        at: when it came.
        source: as users know it: "SIGTERM", "spot".
        deadline: when the process ends at the latest, if known; `at` and `deadline` are seconds
            since the start of the process.
    """

    at: Seconds
    source: Name
    deadline: Seconds | None = None


class Ending(Mark):
    """How an attempt ended.

    Attributes:
        exit_code: exit code of the process; None if it is not known, as under plain `python`.
        detail: one line about the cause, such as the exception's.
    """

    reason: Reason
    exit_code: Annotated[int, Field(ge=-64, le=255)] | None = None
    detail: Text = ""


class Previous(Entry):
    """What an attempt knows of the end of the attempt before it, from outside of that.

    Attributes:
        attempt: its number.
        started: when that process started. If this is not the start in that attempt's own journal,
            the process has never claimed the run, and this entry says nothing about that attempt.
        ended: when that process ended.
        reason: why, if known.
        detail: one line about the cause: "killed by SIGKILL".
    """

    attempt: AttemptNumber
    started: AwareDatetime | None = None
    ended: AwareDatetime | None = None
    reason: Reason | None = None
    detail: Text = ""


class Journal(Document):
    """The journal of one attempt, as far as it has come.

    Attributes:
        process_started: time of day at which the process started.
        written: the moment of this state of the journal.
        imported: when Keras was imported and the first `fit` began.
        claimed: when the attempt has claimed the run.
        first_batch: when the first batch had been trained.
        save_count, save_bytes, save_seconds: sums over all saves, also those left out in `saves`.
        epoch_count: number of all epochs that have ended, also those left out in `epochs`.
        end: None while the attempt runs, and after it was killed.
    """

    run: Name
    attempt: AttemptNumber
    process_started: AwareDatetime
    written: Mark
    machine: Machine = Machine()
    versions: Annotated[dict[Name, Name], Field(max_length=100)] = Field(default_factory=dict)
    arguments: Annotated[tuple[Argument, ...], Field(max_length=MAX_ARGUMENTS)] = ()
    imported: Seconds | None = None
    claimed: Seconds | None = None
    first_batch: Seconds | None = None
    fits: Annotated[tuple[Fit, ...], Field(max_length=MAX_FITS)] = ()
    saves: Annotated[tuple[Save, ...], Field(max_length=MAX_SAVES)] = ()
    save_count: Count = 0
    save_bytes: Count = 0
    save_seconds: Seconds = 0.0
    epochs: Annotated[tuple[Epoch, ...], Field(max_length=MAX_EPOCHS)] = ()
    epoch_count: Count = 0
    notices: Annotated[tuple[NoticeEntry, ...], Field(max_length=MAX_NOTICES)] = ()
    end: Ending | None = None
    previous: Previous | None = None

    @model_validator(mode="after")
    def _check_order(self) -> Journal:
        for entries in (self.saves, self.epochs):
            if any(a.at > b.at for a, b in pairwise(entries)):
                raise ValueError("its entries are not in the order of their moments")
        return self
