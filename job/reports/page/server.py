"""Serve the page of a run on this machine, live: `keepfit report --serve`.

It answers two paths, `/` and `/data.json`, on 127.0.0.1 only. A page of another origin can't read
them: the server answers no Host header but its own, which a name that is bound to 127.0.0.1 in
secret (DNS rebinding) does not have.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import StorageError
from keepfit.job.reports.data import Report
from keepfit.job.reports.page.render import POLL_SECONDS, live_data_of, live_page_of

LOOPBACK: Final = "127.0.0.1"

PAUSE: Final = 20
"""The next read of the store waits this many times as long as the last one took. A run of many
attempts has as many journals, so reading it all the time would cost more than it is worth."""

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # the rest is in the page itself
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

log = get_logger()


@dataclass(frozen=True)
class Answer:
    """An answer to a request."""

    status: HTTPStatus
    content_type: str
    body: bytes


class LiveReport:
    """The newest report of a run, read again when a page asks for it, but not too often.

    Args:
        read: reads the report. Its StorageError is shown by the page, which goes on asking.
        first: the report as it was read at the start.
        clock: a monotonic clock.
    """

    def __init__(
        self,
        read: Callable[[], Report],
        first: Report,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._clock = clock
        self._lock = threading.Lock()
        self._report = first
        self._data = live_data_of(first)
        self._next = clock() + POLL_SECONDS
        self._problem: str | None = None

    def page(self) -> bytes:
        """Return the page, with the newest report that is known."""
        with self._lock:
            return live_page_of(self._report)

    def data(self) -> Answer:
        """Return `data.json`, or why the run can't be read."""
        with self._lock:
            if self._clock() >= self._next:
                self._renew()
            if self._problem is not None:
                body = json.dumps({"reason": self._problem}).encode()
                return Answer(HTTPStatus.SERVICE_UNAVAILABLE, "application/json", body)
            return Answer(HTTPStatus.OK, "application/json", self._data)

    def _renew(self) -> None:
        started = self._clock()
        try:
            report = self._read()
        except (StorageError, LookupError) as error:
            if self._problem is None:
                log.warning(events.REPORT_STALE, reason=str(error))
            self._problem = str(error)
        else:
            self._problem = None
            if report != self._report:
                self._report, self._data = report, live_data_of(report)
        ended = self._clock()
        self._next = ended + max(POLL_SECONDS * 0.9, PAUSE * (ended - started))


class ReportServer(ThreadingHTTPServer):
    """A server of one live report."""

    daemon_threads = True

    def __init__(self, report: LiveReport, port: int) -> None:
        super().__init__((LOOPBACK, port), _Handler)
        self.report = report

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def answer(self, host: str | None, path: str) -> Answer:
        """Return the answer to a request, except whether it was changed since the last one."""
        if host not in {f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")}:
            return _refusal(HTTPStatus.MISDIRECTED_REQUEST)
        match path:
            case "/":
                return Answer(HTTPStatus.OK, "text/html; charset=utf-8", self.report.page())
            case "/data.json":
                return self.report.data()
            case _:
                return _refusal(HTTPStatus.NOT_FOUND)


def _refusal(status: HTTPStatus) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", f"{status.phrase}\n".encode())


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    server: ReportServer
    server_version = "keepfit"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        """Send the answer, or that it has not changed since the last one."""
        answer = self.server.answer(self.headers.get("Host"), self.path)
        tag = f'"{hashlib.sha256(answer.body).hexdigest()[:32]}"'
        if answer.status is HTTPStatus.OK and self.headers.get("If-None-Match") == tag:
            self._send(HTTPStatus.NOT_MODIFIED, {"ETag": tag}, b"")
            return
        fields = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body))}
        self._send(answer.status, {**fields, "ETag": tag}, answer.body)

    def do_HEAD(self) -> None:
        """Send the headers of the answer."""
        self.do_GET()

    def _send(self, status: HTTPStatus, fields: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, **fields}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Write no line for each request."""
