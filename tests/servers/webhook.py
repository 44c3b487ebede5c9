"""A webhook on loopback that records what is posted to it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LIMIT = 60.0
"""Seconds within which an expected request has to arrive."""


@dataclass
class Webhook:
    """A server that records requests.

    Attributes:
        statuses: the status of each answer in turn; the last one is repeated.
        location: the target of a redirect.
        documents: the documents of the requests that were answered with 2xx.
        requests: the path and the headers of each request.
        answering: while it is clear, no request is answered.
    """

    statuses: list[int]
    location: str = ""
    url: str = ""
    documents: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    answering: threading.Event = field(default_factory=threading.Event)
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def names(self) -> list[str]:
        """The events of the documents."""
        return [document["event"] for document in self.documents]

    def await_requests(self, number: int) -> None:
        """Wait until this number of requests has arrived."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.requests) >= number, LIMIT)

    def await_event(self, name: str) -> dict[str, Any]:
        """Wait for a document of this event. Return it."""
        with self.changed:
            assert self.changed.wait_for(lambda: name in self.names, LIMIT), self.names
        return self.documents[self.names.index(name)]

    def record(self, path: str, headers: dict[str, str]) -> int:
        """Record a request, and return the status of its answer."""
        with self.changed:
            self.requests.append((path, headers))
            self.changed.notify_all()
            return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def accept(self, body: bytes) -> None:
        """Record a document that is accepted."""
        with self.changed:
            self.documents.append(json.loads(body))
            self.changed.notify_all()


@contextmanager
def webhook(statuses: Sequence[int] = (200,), location: str = "") -> Iterator[Webhook]:
    """Start a webhook, which ends with the block."""
    hook = Webhook(list(statuses), location)
    hook.answering.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = hook.record(self.path, dict(self.headers))
            hook.answering.wait()
            if 200 <= status < 300:
                hook.accept(body)
            self.send_response(status)
            if hook.location:
                self.send_header("Location", hook.location)
            self.end_headers()

        def do_GET(self) -> None:
            hook.record(self.path, dict(self.headers))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hook.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        hook.answering.set()
        server.shutdown()
        server.server_close()
