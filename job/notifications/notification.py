"""The notifications, as JSON documents: their fields, and one line for people in each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from keepfit.callbacks.errors import (
    EXIT_CANCELLED,
    EXIT_FENCED,
    EXIT_LIMIT,
    EXIT_REFUSED,
    EXIT_UNSAVED,
)


class Kind(StrEnum):
    """The events of an attempt that are notified."""

    RESUMED = "resumed"
    STALLED = "stalled"
    PREEMPTED = "preempted"
    FINISHED = "finished"
    FAILED = "failed"


_REASONS: Final = {
    EXIT_UNSAVED: "the final state could not be saved",
    EXIT_FENCED: "another attempt owns the run",
    EXIT_CANCELLED: "the job was cancelled",
    EXIT_LIMIT: "the limit of --max-hours or --max-cost is reached",
    EXIT_REFUSED: "refused: the configuration or a checkpoint does not fit, see the log",
}

_WORDS: Final = {
    Kind.RESUMED: "continues",
    Kind.STALLED: "has stalled",
    Kind.PREEMPTED: "was preempted",
    Kind.FINISHED: "has finished",
    Kind.FAILED: "has failed",
}


@dataclass(frozen=True)
class AttemptEnd:
    """The end of an attempt.

    Attributes:
        code: the exit code of the process.
        preempted: the exit code means a preemption.
        source: the source of the notice that has ended the attempt, if one has.
        error: the name of the class of the exception that has ended the script, if one has.
    """

    code: int
    preempted: bool = False
    source: str | None = None
    error: str = ""

    @property
    def kind(self) -> Kind:
        """The event that this end is."""
        if self.preempted:
            return Kind.PREEMPTED
        return Kind.FAILED if self.code else Kind.FINISHED

    @property
    def reason(self) -> str | None:
        """The cause in words, without any text of the script, which may contain secrets."""
        if self.preempted:
            return self.source or "the store did not answer"
        if not self.code:
            return None
        if self.error:
            return f"an error of the script: {self.error}"
        return _REASONS.get(self.code, "the script has ended with this exit code, see the log")


@dataclass(frozen=True)
class Notification:
    """One event of an attempt; what is not known is None.

    Attributes:
        attempt: the number of the attempt in the run.
        step: batches done in the run.
        epoch: the epoch under way, from 1.
        time: the time of the event, in UTC.
        reason: the cause, without secrets.
        exit_code: the exit code of the process, at its end.
    """

    event: Kind
    run: str | None
    attempt: int | None
    step: int | None
    epoch: int | None
    time: datetime
    host: str
    reason: str | None = None
    exit_code: int | None = None

    @property
    def text(self) -> str:
        """One line for people, which Slack and servers like it show."""
        attempt = "an attempt" if self.attempt is None else f"attempt {self.attempt}"
        position = [
            f"{name} {value}"
            for name, value in (("epoch", self.epoch), ("step", self.step))
            if value is not None
        ]
        where = f" at {', '.join(position)}" if position else ""
        code = f" (exit code {self.exit_code})" if self.exit_code else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.run}: {attempt} on {self.host} {_WORDS[self.event]}{where}{code}{why}"

    def document(self) -> dict[str, Any]:
        """Return the JSON document to send."""
        return {
            **asdict(self),
            "event": self.event.value,
            "time": f"{self.time:%Y-%m-%dT%H:%M:%SZ}",
            "text": self.text,
        }
