"""A proxy between an S3 client and its server that injects faults.

    with Proxy() as proxy:
        store = store_at(proxy.url)
        proxy.arm(at(3, reset_after))
        ...
        assert len(proxy.requests) == 7

A fault is a function of an Exchange: a request that was received completely and not answered yet.
A plan maps the number of a request, counted since `arm`, and the request to a fault or None.
"""

import http.client
import os
import random
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}
"""Headers that apply to one connection, which the proxy sets for each side itself."""


@dataclass(frozen=True)
class Request:
    """A request of a client."""

    method: str
    path: str
    query: str
    headers: list = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def target(self):
        return f"{self.path}?{self.query}" if self.query else self.path


@dataclass
class Answer:
    """A response of the server, or one sent in its place."""

    status: int
    reason: str
    headers: list
    body: bytes
    bodyless: bool = False

    def head(self):
        lines = [f"HTTP/1.1 {self.status} {self.reason}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if not self.bodyless:
            lines.append(f"Content-Length: {len(self.body)}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def to_bytes(self):
        return self.head() + self.body

    def half(self):
        """Return the head and half of the body; only the first line if there is no body."""
        half = self.head() + self.body[: len(self.body) // 2]
        return half if self.body else self.first_line()

    def first_line(self):
        return self.head().partition(b"\r\n")[0] + b"\r\n"


class Proxy:
    """A proxy that listens on a port of its own until the `with` block ends.

    Attributes:
        requests: the requests that were received completely since `arm`.
        strip: names of request headers that are not forwarded to the server.
    """

    def __init__(self, server=None, strip=(), listener=None):
        self._server = urlsplit(server or os.environ["AWS_ENDPOINT_URL_S3"])
        self.strip = {name.lower() for name in strip}
        self._listener = listener or socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.closed = threading.Event()
        self._clients = set()
        self._lock = threading.Condition()
        self.arm()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closed.set()
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()
        with self._lock:
            for client in self._clients:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)

    def arm(self, plan=None):
        """Restart the count of requests, and follow this plan."""
        with self._lock:
            self._plan = plan or (lambda number, request: None)
            self.requests = []

    def wait_for_requests(self, number):
        """Wait until this number of requests has been received since `arm`."""
        with self._lock:
            assert self._lock.wait_for(lambda: len(self.requests) >= number, 60)

    def wait_until_idle(self):
        """Wait until no client is connected, so that no request of a killed one is in progress."""
        with self._lock:
            assert self._lock.wait_for(lambda: not self._clients, 30)

    def connect(self):
        """Return a new connection to the server."""
        return http.client.HTTPConnection(self._server.hostname, self._server.port)

    def fault_of(self, request):
        """Record the request; return the fault that the plan has for it, if any."""
        with self._lock:
            self.requests.append(request)
            self._lock.notify_all()
            return self._plan(len(self.requests) - 1, request)

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._clients.add(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        connection = Connection(self, client)
        try:
            connection.serve()
        except (OSError, http.client.HTTPException):
            pass  # the client has closed the connection, or was killed
        finally:
            connection.close()
            with self._lock:
                self._clients.discard(client)
                self._lock.notify_all()


class Connection:
    """A client's connection, and the connection to the server that serves it."""

    def __init__(self, proxy, client):
        self.proxy = proxy
        self.client = client
        self._file = client.makefile("rb")
        self._upstream = None

    def serve(self):
        while request := self._next():
            exchange = Exchange(self, request)
            (self.proxy.fault_of(request) or pass_through)(exchange)
            if exchange.over:
                return

    def ask(self, request):
        """Send the request to the server and return its answer."""
        sent = [(k, v) for k, v in request.headers if k.lower() not in HOP | self.proxy.strip]
        # LocalStack closes idle connections, so a request that finds one closed opens a new one;
        # nothing is sent twice.
        if self._upstream and self._is_closed(self._upstream.sock):
            self._upstream.close()
            self._upstream = None
        self._upstream = self._upstream or self.proxy.connect()
        self._upstream.putrequest(
            request.method, request.target, skip_host=True, skip_accept_encoding=True
        )
        for name, value in sent:
            self._upstream.putheader(name, value)
        if request.body or request.method in ("PUT", "POST"):
            self._upstream.putheader("Content-Length", str(len(request.body)))
        self._upstream.endheaders(request.body or None)
        found = self._upstream.getresponse()
        headers = [(k, v) for k, v in found.getheaders() if k.lower() not in HOP]
        body = found.read()
        bodyless = found.status in (204, 304) or request.method == "HEAD"
        if request.method == "HEAD":
            headers.append(("Content-Length", found.getheader("Content-Length", "0")))
        return Answer(found.status, found.reason, headers, body, bodyless)

    def close(self):
        self._file.close()
        self.client.close()
        if self._upstream:
            self._upstream.close()

    def _next(self):
        """Return the next request; None if the client has closed the connection."""
        line = self._file.readline()
        if not line.strip():
            return None
        method, target, _ = line.decode("latin-1").split()
        headers = []
        while (line := self._file.readline()) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name, value.strip()))
        named = {name.lower(): value for name, value in headers}
        if named.get("expect", "").lower() == "100-continue":
            self.client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._body(named)
        if body is None:
            return None
        path, _, query = target.partition("?")
        return Request(method, path, query, headers, body)

    def _body(self, named):
        if "chunked" in named.get("transfer-encoding", ""):
            return self._chunks()
        size = int(named.get("content-length", 0))
        body = self._file.read(size)
        return body if len(body) == size else None

    def _chunks(self):
        body = b""
        while size := int(self._file.readline().split(b";")[0] or b"0", 16):
            body += self._file.read(size)
            self._file.readline()
        while self._file.readline().strip():
            pass
        return body

    def _is_closed(self, sock):
        """Return True if the server has closed the connection while it was idle."""
        if sock is None:
            return True
        sock.setblocking(False)
        try:
            return sock.recv(1, socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
        finally:
            sock.setblocking(True)


class Exchange:
    """A request, and the ways to answer it.

    Attributes:
        over: the connection can't be used any more.
    """

    def __init__(self, connection, request):
        self._connection = connection
        self.request = request
        self.over = False

    def forward(self):
        """Let the server carry out the request; return its answer."""
        return self._connection.ask(self.request)

    def send(self, content):
        self._connection.client.sendall(content)

    def close(self):
        """Close the connection as a server does that has sent everything."""
        self.over = True

    def reset(self):
        """Close the connection with RST: the client may not even read what was sent."""
        linger = struct.pack("ii", 1, 0)
        self._connection.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.over = True

    def wait(self, seconds):
        self._connection.proxy.closed.wait(seconds)

    def wait_for_client_to_leave(self):
        """Wait until the client closes the connection."""
        while self._connection.client.recv(1 << 16):
            pass
        self.over = True


# Faults.


def pass_through(exchange):
    """Forward the request and its answer: no fault."""
    exchange.send(exchange.forward().to_bytes())


def delayed(seconds):
    """Return a fault that answers later, as over a slow network."""

    def fault(exchange):
        exchange.wait(seconds)
        pass_through(exchange)

    return fault


def s3_error(status, code, message="Sent by the proxy.", inside="", **headers):
    """Return a fault that answers with an error of S3 and does not forward the request."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>'
        f"<Message>{message}</Message>{inside}<RequestId>0000000000000000</RequestId></Error>"
    ).encode()
    named = [("Content-Type", "application/xml"), ("x-amz-request-id", "0000000000000000")]
    named += [(name.replace("_", "-"), value) for name, value in headers.items()]

    def fault(exchange):
        head = exchange.request.method == "HEAD"
        exchange.send(Answer(status, code, named, b"" if head else body).to_bytes())

    return fault


slow_down = s3_error(503, "SlowDown", "Please reduce your request rate.")
internal_error = s3_error(
    500, "InternalError", "We encountered an internal error. Please try again."
)
conflict = s3_error(409, "ConditionalRequestConflict", "A conflicting operation is in progress.")


def reset_before(exchange):
    """Reset the connection; the request never reaches the server."""
    exchange.reset()


def reset_after(exchange):
    """Reset the connection after the server has carried out the request; its answer is lost."""
    exchange.forward()
    exchange.reset()


def reset_midway(exchange):
    """Reset the connection in the middle of the answer."""
    exchange.send(exchange.forward().half())
    exchange.reset()


def truncated(exchange):
    """End the answer before its Content-Length."""
    exchange.send(exchange.forward().half())
    exchange.close()


def cut_after_first_line(exchange):
    """End the answer after its first line."""
    exchange.send(exchange.forward().first_line())
    exchange.close()


def shortened(exchange):
    """Send half of the body, with a Content-Length that matches it."""
    answer = exchange.forward()
    answer.body = answer.body[: len(answer.body) // 2]
    exchange.send(answer.to_bytes())


def flipped(exchange):
    """Flip one bit in the answer to a GET; leave other answers alone."""
    answer = exchange.forward()
    if exchange.request.method == "GET" and answer.status < 300 and answer.body:
        changed = bytearray(answer.body)
        changed[len(changed) // 2] ^= 1
        answer.body = bytes(changed)
    exchange.send(answer.to_bytes())


def stalled_before(exchange):
    """Never forward the request; keep the connection open."""
    exchange.wait_for_client_to_leave()


def stalled_after(exchange):
    """Let the server carry out the request, but never send its answer."""
    exchange.forward()
    exchange.wait_for_client_to_leave()


def stalled_midway(exchange):
    """Stop in the middle of the answer; keep the connection open."""
    exchange.send(exchange.forward().half())
    exchange.wait_for_client_to_leave()


def kill_before(kill):
    """Return a fault that calls `kill` and never forwards the request to the server."""

    def fault(exchange):
        kill()
        exchange.reset()

    return fault


def kill_after(kill):
    """Return a fault that calls `kill` after the server has carried out the request."""

    def fault(exchange):
        exchange.forward()
        kill()
        exchange.reset()

    return fault


# Plans.


def at(number, fault):
    """Return a plan with this fault for that one request."""
    return lambda n, _: fault if n == number else None


def since(number, fault):
    """Return a plan with this fault for that request and all after it."""
    return lambda n, _: fault if n >= number else None


def always(fault):
    """Return a plan with this fault for every request."""
    return lambda *_: fault


def scheduled(faults):
    """Return a plan with the faults of a dict, by number of the request."""
    return lambda n, _: faults.get(n)


def sometimes(seed, rate, faults):
    """Return a plan in which each request meets one of the faults with probability `rate`."""
    chance = random.Random(seed)
    return lambda *_: chance.choice(faults) if chance.random() < rate else None
