"""The terms of the journal: activities, reasons, price classes, and the end of a process.

They are apart from its schema, whose library the start of a process does not need.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

MAX_PRICE: Final = 10_000.0
"""Highest price of a machine in US dollars per hour."""


class PriceClass(StrEnum):
    """How a machine is paid, as EC2 names it (`instance-life-cycle` of its metadata)."""

    SPOT = "spot"
    ON_DEMAND = "on-demand"
    SCHEDULED = "scheduled"
    CAPACITY_BLOCK = "capacity-block"


class Activity(StrEnum):
    """The activities between which the time of an attempt is divided.

    Attributes:
        STARTUP: from the start of the process, or of a later `fit`, to the end of its first batch,
            in which TensorFlow traces the model; without RESTORE.
        RESTORE: a checkpoint is read, compared and restored.
        TRAINING: batches, with the callbacks and the input pipeline.
        VALIDATION: validation within `fit`.
        SAVING: training waits for a save: the capture of a snapshot, and the last save of a fit.
        OTHER: the script's own work between fits and after them.
    """

    STARTUP = "startup"
    RESTORE = "restore"
    TRAINING = "training"
    VALIDATION = "validation"
    SAVING = "saving"
    OTHER = "other"


class Reason(StrEnum):
    """Why an attempt ended.

    Attributes:
        FINISHED: the script came to its end.
        FAILED: the script has failed: an exception, or an exit code of its own.
        PREEMPTED: a notice ended it.
        UNREACHABLE: the store did not answer.
        FENCED: a newer attempt owns the run.
        REFUSED: keepfit refused to train on.
        CANCELLED: the job was cancelled.
        LIMIT: the run had used the hours or the dollars that it may.
        KILLED: the process ended without a chance to write.
    """

    FINISHED = "finished"
    FAILED = "failed"
    PREEMPTED = "preempted"
    UNREACHABLE = "unreachable"
    FENCED = "fenced"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    LIMIT = "limit reached"
    KILLED = "killed"


@dataclass(frozen=True)
class ProcessEnd:
    """How the process of the attempt before this one has ended, as seen from outside.

    Attributes:
        started, ended: in UTC.
        detail: one line about the cause: "killed by SIGKILL".
    """

    started: datetime
    ended: datetime
    reason: Reason | None
    detail: str = ""
