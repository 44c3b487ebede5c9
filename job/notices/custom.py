"""A file or URL whose existence is a notice: the interface for other clouds and schedulers.

Its content may be a JSON object: `{"time": "2026-11-23T12:00:00Z", "action": "leave"}`.
"""

from __future__ import annotations

import base64
import http.client
import os
import stat
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from keepfit.callbacks.masking import mask_url, without_userinfo
from keepfit.job.notices.documents import MachineWarning, load_json, seconds_until
from keepfit.job.notices.exchange import MAX_BYTES, TIMEOUT, HttpClient
from keepfit.job.notices.source import SourceMessage, SourceUnavailable


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
    except ValueError as error:
        described = f"{source} (its time is ignored: {error})"
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
            # Without waiting for a writer, should it be a pipe.
            with os.fdopen(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise SourceUnavailable(f"{self._path} is a pipe or a device, not a file")
                text = file.read(MAX_BYTES).decode(errors="replace")
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise SourceUnavailable(f"{self._path} can't be read: {error}") from error
        return [SourceMessage(str(self._path), text)]

    def parse(self, message: SourceMessage, now: datetime) -> MachineWarning | None:
        return parse_notice(message.path, message.text, now, self._grace)


class WatchedUrl:
    """A source whose notice is that a URL answers 200."""

    def __init__(self, url: str, grace: float, *, timeout: float = TIMEOUT) -> None:
        self._url = url
        self._shown = mask_url(url)
        self._client = HttpClient(url, timeout=timeout)
        self._grace = grace

    def describe(self) -> dict[str, object]:
        return {"url": self._shown}

    def fetch(self) -> list[SourceMessage]:
        answer = self._client.send(lambda: request_of(self._url))
        match answer.status:
            case http.client.OK:
                return [SourceMessage(self._shown, answer.text, answer.date)]
            case http.client.NOT_FOUND:
                return []
            case status if 200 <= status < 300:
                return []
            case 301 | 302 | 303 | 307 | 308 as status:
                raise SourceUnavailable(
                    f"{self._shown} answers {status}; redirects are not followed",
                    kind="redirect",
                    fix="watch the address to which it redirects",
                )
            case status:
                raise SourceUnavailable(f"{self._shown} answers {status}")

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


def request_of(url: str, body: bytes | None = None) -> urllib.request.Request:
    """Return the request for a URL, with its userinfo in a header: urllib takes it for a host.

    Args:
        body: a JSON document to POST; None for a GET.
    """
    address, userinfo = without_userinfo(url)
    # Some servers refuse the name that urllib would give.
    headers = {"Content-Type": "application/json", "User-Agent": "keepfit"} if body else {}
    request = urllib.request.Request(address, body, headers)  # noqa: S310
    if userinfo:
        credentials = base64.b64encode(unquote(userinfo).encode()).decode()
        request.add_header("Authorization", f"Basic {credentials}")
    return request


def _parse_object(text: str) -> dict[str, Any]:
    try:
        value = load_json(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
