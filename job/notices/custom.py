"""A file, or an address, whose mere existence is a notice: how other clouds and schedulers connect.

What stands there may be a JSON object: `{"time": "2026-11-23T12:00:00Z", "action": "leave"}`.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

from keepfit.job.notices.documents import MachineWarning, seconds_until
from keepfit.job.notices.source import SourceMessage, SourceUnavailable, parse_http_date

TIMEOUT = 2.0
"""Seconds for a connection, and for each part of an answer."""

MAX_SIZE = 65536
"""Bytes that are read: a notice is short."""


def parse_notice(source: str, text: str, now: datetime, grace: float) -> MachineWarning:
    """What the text means. That it is there is a notice, even if it can't be understood."""
    said = _object(text)
    if said.get("action") == "save":
        return MachineWarning(source, leaves=False)
    try:
        seconds = seconds_until(said["time"], now)
    except KeyError:
        return MachineWarning(source, leaves=True, seconds=grace, known=False)
    except (ValueError, TypeError):
        unclear = f"{source} (its time {said['time']!r} is none, as in 2026-11-23T12:00:00Z)"
        return MachineWarning(unclear, leaves=True, seconds=grace, known=False)
    return MachineWarning(source, leaves=True, seconds=seconds)


class WatchedFile:
    """A notice as soon as the file exists."""

    def __init__(self, path: Path, grace: float) -> None:
        self._path = path
        self._grace = grace

    def describe(self) -> dict[str, object]:
        return {"file": str(self._path)}

    def ask(self) -> list[SourceMessage]:
        try:
            with self._path.open("rb") as file:
                text = file.read(MAX_SIZE).decode(errors="replace")
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise SourceUnavailable(f"{self._path} can't be read: {error}") from error
        return [SourceMessage(str(self._path), text)]

    def understand(self, said: SourceMessage, now: datetime) -> MachineWarning | None:
        return parse_notice(said.path, said.text, now, self._grace)


class WatchedUrl:
    """A notice as soon as the address answers 200."""

    def __init__(self, url: str, grace: float) -> None:
        self._url = url
        self._grace = grace

    def describe(self) -> dict[str, object]:
        return {"url": self._url}

    def ask(self) -> list[SourceMessage]:
        try:
            with urllib.request.urlopen(self._url, timeout=TIMEOUT) as answer:  # noqa: S310
                text = answer.read(MAX_SIZE).decode(errors="replace")
                at = parse_http_date(answer.headers["Date"])
                status = answer.status
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.client.NOT_FOUND:
                return []
            raise SourceUnavailable(f"{self._url} answers {error.code}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise SourceUnavailable(f"{self._url} does not answer: {error}") from error
        return [SourceMessage(self._url, text, at)] if status == http.client.OK else []

    def understand(self, said: SourceMessage, now: datetime) -> MachineWarning | None:
        return parse_notice(said.path, said.text, now, self._grace)


def custom_source(name: str, grace: float) -> WatchedFile | WatchedUrl:
    """What the user has named.

    Args:
        grace: seconds that are left where the notice names no time.
    """
    if name.startswith(("http://", "https://")):
        return WatchedUrl(name, grace)
    return WatchedFile(Path(name).absolute(), grace)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
