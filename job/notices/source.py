"""The interface of a source of notices, and the messages that it returns."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

from keepfit.job.notices.documents import MachineWarning


class SourceUnavailable(Exception):
    """The source can't be used; the message contains the cause and, if known, the fix."""


@dataclass(frozen=True)
class SourceMessage:
    """A message of a source.

    Attributes:
        path: the path or URL of the message.
        text: its content.
        at: the time on the source's own clock, which may differ from this machine's; or None.
    """

    path: str
    text: str
    at: datetime | None = None


class NoticeSource(Protocol):
    """A source of notices that is polled every few seconds."""

    def describe(self) -> dict[str, object]:
        """Return what is watched, for the log."""

    def fetch(self) -> list[SourceMessage]:
        """Return all present messages.

        Raises:
            SourceUnavailable: the source can't be used.
        """

    def parse(self, message: SourceMessage, now: datetime) -> MachineWarning | None:
        """Return the warning in a message, or None.

        Raises:
            ValueError, KeyError, TypeError: the message can't be parsed.
        """


def parse_http_date(header: str | None) -> datetime | None:
    """Return the time in an HTTP response's `Date` header, by the server's clock, or None."""
    try:
        date = parsedate_to_datetime(header or "")
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
