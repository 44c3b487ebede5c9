"""The interface of a source of notices, and the messages that it returns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Protocol

from keepfit.job.notices.documents import MachineWarning

UNREACHABLE = "unreachable"
"""The usual kind of failure: no answer, or one that says so."""


class SourceUnavailable(Exception):
    """The source can't be used.

    Args:
        cause: what is wrong, with the name of the source.
        kind: failures of one kind in a row are logged once.
        fix: what to do, if that is known.
    """

    def __init__(self, cause: str, *, kind: str = UNREACHABLE, fix: str | None = None) -> None:
        super().__init__(cause)
        self.kind = kind
        self.fix = fix


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

    def fetch(self) -> Iterable[SourceMessage]:
        """Return all present messages, each as soon as it is there.

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
    except (ValueError, OverflowError, IndexError):  # what the parser raises for odd texts
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
