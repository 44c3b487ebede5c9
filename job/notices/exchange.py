"""HTTP exchanges whose answers are limited in size and in total time, whatever the server does.

The time-out of a socket holds for each `recv`, so a server that sends a byte a second never exceeds
it. Here, each `recv` gets what is left of the time of the whole exchange: look-up of the name,
connection, TLS, headers and body. Every byte of an answer is counted, those of its headers, of
interim answers (100) and of the framing of chunks too. Redirects are not followed, and compressed
answers are not accepted.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, NoReturn

from keepfit.callbacks.masking import mask_known, mask_url
from keepfit.job.notices.lookup import Lookup
from keepfit.job.notices.source import UNREACHABLE, SourceUnavailable, parse_http_date

TIMEOUT = 2.0
"""Seconds for a whole exchange."""

MAX_BYTES = 65536
"""Bytes of an answer, with its headers: documents of the metadata service have less than 1 KB."""


@dataclass(frozen=True)
class Answer:
    """An answer: its status, its time by the server's clock if it is known, and its body.

    The body is read only of an answer 200, as others are told by their status.
    """

    status: int
    date: datetime | None
    text: str


class _Unacceptable(Exception):
    """The answer is not accepted: the kind of failure, its cause, and the fix."""

    def __init__(self, kind: str, cause: str, fix: str) -> None:
        super().__init__(cause)
        self.kind, self.cause, self.fix = kind, cause, fix


def _too_large() -> _Unacceptable:
    return _Unacceptable(
        "too_large",
        f"answers with more than {MAX_BYTES} bytes",
        "a notice is a short text; name the address of one",
    )


class Budget:
    """The remaining time and bytes of one exchange."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._bytes = 0
        self.ended = False  # the server has closed the connection

    @property
    def began(self) -> bool:
        """A part of the answer has arrived."""
        return self._bytes > 0

    def seconds_left(self) -> float:
        """Return the rest of the time, more than 0.

        Raises:
            TimeoutError: there is none.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left

    def readable(self, size: int) -> int:
        """Return how many bytes to read, `size` at most: one more than allowed shows an excess."""
        return min(size, MAX_BYTES + 1 - self._bytes)

    def count(self, size: int) -> None:
        """Count bytes that were read.

        Raises:
            _Unacceptable: they exceed MAX_BYTES.
        """
        self._bytes += size
        if self._bytes > MAX_BYTES:
            raise _too_large()


class _LimitedStream(io.RawIOBase):
    """The bytes that arrive at a socket, within a budget."""

    def __init__(self, sock: socket.socket, budget: Budget) -> None:
        self._sock = sock
        self._stream = sock.makefile("rb", buffering=0)
        self._budget = budget

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._budget.seconds_left())
        with memoryview(buffer) as view:
            size = self._stream.readinto(view[: self._budget.readable(len(view))])
        self._budget.count(size or 0)
        self._budget.ended = size == 0
        return size

    def close(self) -> None:
        self._stream.close()
        super().close()


class _LimitedResponse(http.client.HTTPResponse):
    """A response that is read within a budget, from its first byte on."""

    def __init__(self, sock: socket.socket, *args: Any, budget: Budget, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_LimitedStream(sock, budget))


class _Limited(http.client.HTTPConnection):
    """A connection that is made, and whose responses are read, within a budget."""

    def __init__(self, *args: Any, budget: Budget, lookup: Lookup, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A function that returns a response is enough for http.client.
        self.response_class = partial(_LimitedResponse, budget=budget)  # type: ignore[assignment]
        # http.client keeps this function in an attribute so that it can be replaced.
        self._create_connection = partial(_connect, budget, lookup)


class _LimitedTls(_Limited, http.client.HTTPSConnection):
    """The same with TLS, whose handshake takes the time-out of the socket in all."""


class _Handler(urllib.request.AbstractHTTPHandler):
    """Opens http:// and https:// URLs by connections with a budget."""

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def __init__(self, **limits: Any) -> None:
        super().__init__()
        self._limits = limits

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Limited, **self._limits), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_LimitedTls, **self._limits), req)


class HttpClient:
    """Sends requests to one server. Not thread-safe: one thread polls.

    Args:
        url: an address of the server, whose secrets must not be in an error.
        timeout: seconds for a whole exchange.
        use_proxies: use the proxies that the environment names.
        name: the name of the server in errors; its address by default.
        reads_body: read the body of an answer 200; otherwise its text is empty.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        use_proxies: bool = True,
        name: str | None = None,
        reads_body: bool = True,
    ) -> None:
        self._url = url
        self._shown = name or mask_url(url)
        self._timeout = timeout
        self._use_proxies = use_proxies
        self._reads_body = reads_body
        self._lookup = Lookup()

    def send(self, make_request: Callable[[], urllib.request.Request]) -> Answer:
        """Send the request that `make_request` returns.

        Raises:
            SourceUnavailable: there is no complete answer within the limits.
        """
        budget = Budget(self._timeout)
        try:
            with self._opener(budget).open(make_request()) as response:
                return _read(response, budget, body=self._reads_body)
        except _Unacceptable as error:
            self._fail(error.kind, error.cause, error.fix)
        except TimeoutError as error:
            self._fail_late(budget, error)
        except (OSError, ValueError, OverflowError, http.client.HTTPException) as error:
            if isinstance(getattr(error, "reason", None), TimeoutError):
                self._fail_late(budget, error)
            self._fail(UNREACHABLE, f"does not answer: {mask_known(_cause(error), [self._url])}")

    def _opener(self, budget: Budget) -> urllib.request.OpenerDirector:
        """Return an opener that follows no redirect and treats no status as an error."""
        opener = urllib.request.OpenerDirector()
        opener.add_handler(urllib.request.ProxyHandler(None if self._use_proxies else {}))
        opener.add_handler(_Handler(budget=budget, lookup=self._lookup))
        opener.add_handler(urllib.request.UnknownHandler())
        return opener

    def _fail_late(self, budget: Budget, error: Exception) -> NoReturn:
        if budget.began:
            self._fail(
                "too_slow",
                f"does not end its answer within {self._timeout:g} s",
                "look why the server is slow; it is asked again, more rarely",
            )
        cause = getattr(error, "reason", error)
        self._fail(UNREACHABLE, f"does not answer: {cause}")

    def _fail(self, kind: str, cause: str, fix: str | None = None) -> NoReturn:
        raise SourceUnavailable(f"{self._shown} {cause}", kind=kind, fix=fix) from None


def _cause(error: Exception) -> str:
    """Return the words of the operating system if there are some: "Connection refused"."""
    reason = getattr(error, "reason", error)
    system = reason.strerror if isinstance(reason, OSError) else None
    return system or str(error) or type(error).__name__


def _read(response: http.client.HTTPResponse, budget: Budget, *, body: bool) -> Answer:
    """Read the body if the status is 200 and `body` is true.

    Raises:
        _Unacceptable: it is too large, or compressed.
        HTTPException: the connection has ended before it.
    """
    if budget.ended:  # http.client takes this for the end of the headers
        raise http.client.HTTPException("the connection has ended within the headers")
    date = parse_http_date(response.headers["Date"])
    if response.status != http.client.OK or not body:
        return Answer(response.status, date, "")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() != "identity":
        raise _Unacceptable(
            "compressed",
            "answers with a compressed text, though none was asked for",
            "turn off compression for this address",
        )
    if (response.length or 0) > MAX_BYTES:
        raise _too_large()
    # With a size: `read()` would allocate as many bytes as the server says that there are.
    content = response.read(MAX_BYTES + 1)
    if response.length:
        raise http.client.IncompleteRead(content, response.length)
    return Answer(response.status, date, content.decode(errors="replace"))


def _connect(budget: Budget, lookup: Lookup, address: tuple[str, int], *_: object) -> socket.socket:
    """Connect to the first address of the name that accepts; each gets its share of the time."""
    found = lookup.addresses(*address, budget.seconds_left())
    failure: OSError = OSError("its name has no address")
    for number, (family, kind, protocol, _name, target) in enumerate(found):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(budget.seconds_left() / (len(found) - number))
            sock.connect(target)
            sock.settimeout(budget.seconds_left())
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    raise failure
