"""A file or URL whose existence is a notice: the interface for other clouds and schedulers.

Its content may be a JSON object: `{"time": "2026-11-23T12:00:00Z", "action": "leave"}`.
"""

from __future__ import annotations

import base64
import http.client
import json
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from keepfit.callbacks.masking import mask_known, mask_url, without_userinfo
from keepfit.job.notices.documents import MachineWarning, seconds_until
from keepfit.job.notices.source import SourceMessage, SourceUnavailable, parse_http_date

TIMEOUT = 2.0
"""Seconds for a connection, and for each part of a response."""

MAX_SIZE = 65536
"""Bytes that are read at most: a notice is short."""


def parse_notice(source: str, text: str, now: datetime, grace: float) -> MachineWarning:
    """Return the warning in `text`. Its existence is a notice, even if it can't be parsed.

    Args:
        source: the file or URL that contains the text.
        now: the present time, by the source's clock if it reports one.
        grace: seconds until the deadline if the text contains no time.
    """
    document = _parse_object(text)
    if document.get("action") == "save":
        return MachineWarning(source, terminates=False)
    try:
        seconds = seconds_until(document["time"], now)
    except KeyError:
        return MachineWarning(source, terminates=True, seconds=grace, time_known=False)
    except (ValueError, TypeError):
        time = document["time"]
        described = f"{source} (its time {time!r} is not of the form 2026-11-23T12:00:00Z)"
        return MachineWarning(described, terminates=True, seconds=grace, time_known=False)
    return MachineWarning(source, terminates=True, seconds=seconds)


class WatchedFile:
    """A source whose notice is the existence of a file."""

    def __init__(self, path: Path, grace: float) -> None:
        self._path = path
        self._grace = grace

    def describe(self) -> dict[str, object]:
        return {"file": str(self._path)}

    def fetch(self) -> list[SourceMessage]:
        try:
            with self._path.open("rb") as file:
                text = file.read(MAX_SIZE).decode(errors="replace")
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise SourceUnavailable(f"{self._path} can't be read: {error}") from error
        return [SourceMessage(str(self._path), text)]

    def parse(self, message: SourceMessage, now: datetime) -> MachineWarning | None:
        return parse_notice(message.path, message.text, now, self._grace)


class WatchedUrl:
    """A source whose notice is that a URL answers 200."""

    def __init__(self, url: str, grace: float) -> None:
        self._url = url
        self._shown = mask_url(url)
        self._grace = grace

    def describe(self) -> dict[str, object]:
        return {"url": self._shown}

    def fetch(self) -> list[SourceMessage]:
        try:
            request = _request_of(self._url)
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
                text = response.read(MAX_SIZE).decode(errors="replace")
                at = parse_http_date(response.headers["Date"])
                status = response.status
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.client.NOT_FOUND:
                return []
            raise SourceUnavailable(f"{self._shown} answers {error.code}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = mask_known(str(error), [self._url])
            raise SourceUnavailable(f"{self._shown} does not answer: {reason}") from error
        return [SourceMessage(self._shown, text, at)] if status == http.client.OK else []

    def parse(self, message: SourceMessage, now: datetime) -> MachineWarning | None:
        return parse_notice(message.path, message.text, now, self._grace)


def custom_source(name: str, grace: float) -> WatchedFile | WatchedUrl:
    """Return the source for the file or URL that the user has named.

    Args:
        name: a path or an http(s):// URL.
        grace: seconds until the deadline if the notice contains no time.
    """
    if name.startswith(("http://", "https://")):
        return WatchedUrl(name, grace)
    return WatchedFile(Path(name).absolute(), grace)


def _request_of(url: str) -> urllib.request.Request:
    """Return the request for a URL, with its userinfo in a header: urllib takes it for a host."""
    address, userinfo = without_userinfo(url)
    request = urllib.request.Request(address)  # noqa: S310
    if userinfo:
        credentials = base64.b64encode(unquote(userinfo).encode()).decode()
        # Not for another server to which the watched one redirects.
        request.add_unredirected_header("Authorization", f"Basic {credentials}")
    return request


def _parse_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
