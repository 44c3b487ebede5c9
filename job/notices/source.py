"""Where a notice can come from, and what a source has said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

from keepfit.job.notices.documents import MachineWarning


class SourceUnavailable(Exception):
    """The source can't be used; the message says why, and what would help."""


@dataclass(frozen=True)
class SourceMessage:
    """Something that a source says.

    Attributes:
        path: where.
        at: the time by the source's own clock, which may differ from that of this machine.
    """

    path: str
    text: str
    at: datetime | None = None


class NoticeSource(Protocol):
    """Something that is asked every few seconds."""

    def describe(self) -> dict[str, object]:
        """What is watched, for the log."""

    def ask(self) -> list[SourceMessage]:
        """All that it says now. Raises NoAnswer."""

    def understand(self, said: SourceMessage, now: datetime) -> MachineWarning | None:
        """What it warns of, if of anything.

        Raises:
            ValueError, KeyError, TypeError: it makes no sense.
        """


def parse_http_date(header: str | None) -> datetime | None:
    """The time of an HTTP answer, by the clock of the server."""
    try:
        found = parsedate_to_datetime(header or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
