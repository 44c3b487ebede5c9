"""A proxy between an S3 client and its server, which does harm as it is told.

    with Proxy() as proxy:
        store = store_at(proxy.url)
        proxy.arm(at(3, reset_after))
        ...
        assert len(proxy.requests) == 7

A fault is a function of an Exchange: a request that has arrived whole and was not answered yet.
A plan says which request meets which fault; requests are counted from `arm` on.
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
"""Headers of one connection, which the proxy sets anew for each side."""


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

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
    """What the server answered, or what is said in its place."""

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
        """The first half of the body and all before it; the first line where there is no body."""
        half = self.head() + self.body[: len(self.body) // 2]
        return half if self.body else self.first_line()

    def first_line(self):
        return self.head().partition(b"\r\n")[0] + b"\r\n"


class Proxy:
    """Listens on a port of its own until the block ends.

    Attributes:
        requests: what has arrived since `arm`, whole.
        strip: names of request headers that the server never sees.
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
        """Count anew, and do what the plan says."""
        with self._lock:
            self._plan = plan or (lambda number, request: None)
            self.requests = []

    def wait_for_requests(self, number):
        """Until so many have arrived since `arm`."""
        with self._lock:
            assert self._lock.wait_for(lambda: len(self.requests) >= number, 60)

    def wait_until_all_left(self):
        """Until nothing is under way of what killed clients have asked for."""
        with self._lock:
            assert self._lock.wait_for(lambda: not self._clients, 30)

    def connect(self):
        """A new connection to the server."""
        return http.client.HTTPConnection(self._server.hostname, self._server.port)

    def fault_of(self, request):
        """Record the request; the fault that it meets, if any."""
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
            pass  # the client has left, or was killed
        finally:
            connection.close()
            with self._lock:
                self._clients.discard(client)
                self._lock.notify_all()


class Connection:
    """A client's connection, and the one to the server that serves it."""

    def __init__(self, proxy, client):
        self.proxy = proxy
        self.client = client
        self._file = client.makefile("rb")
        self._upstream = None

    def serve(self):
        while request := self._next():
            exchange = Exchange(self, request)
            (self.proxy.fault_of(request) or pass_on)(exchange)
            if exchange.over:
                return

    def ask(self, request):
        """The server's answer."""
        sent = [(k, v) for k, v in request.headers if k.lower() not in HOP | self.proxy.strip]
        # LocalStack closes connections that idle, so each request that finds one closed has its
        # own; nothing is sent twice.
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
        """The next request; None when the client has closed the connection."""
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
        """Whether the server has closed the connection while nothing was asked of it."""
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
    """A request, and what can be done about it.

    Attributes:
        over: the connection is of no use any more.
    """

    def __init__(self, connection, request):
        self._connection = connection
        self.request = request
        self.over = False

    def forward(self):
        """Let the server do what is asked, and hear its answer."""
        return self._connection.ask(self.request)

    def send(self, content):
        self._connection.client.sendall(content)

    def close(self):
        """End the connection as a server does that has sent everything."""
        self.over = True

    def reset(self):
        """End the connection with RST: what was sent may not even be read."""
        linger = struct.pack("ii", 1, 0)
        self._connection.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.over = True

    def wait(self, seconds):
        self._connection.proxy.closed.wait(seconds)

    def wait_for_client_to_leave(self):
        while self._connection.client.recv(1 << 16):
            pass
        self.over = True


# Faults.


def pass_on(exchange):
    """No fault."""
    exchange.send(exchange.forward().to_bytes())


def late(seconds):
    """A slow network."""

    def fault(exchange):
        exchange.wait(seconds)
        pass_on(exchange)

    return fault


def says(status, code, message="Said by the proxy.", inside="", **headers):
    """An error of S3's, in place of doing what was asked."""
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


slow_down = says(503, "SlowDown", "Please reduce your request rate.")
internal_error = says(500, "InternalError", "We encountered an internal error. Please try again.")
conflict = says(409, "ConditionalRequestConflict", "A conflicting operation is in progress.")


def reset_before(exchange):
    """The request never reaches the server."""
    exchange.reset()


def reset_after(exchange):
    """The server has done what was asked, and nobody hears of it."""
    exchange.forward()
    exchange.reset()


def reset_midway(exchange):
    """The connection breaks in the middle of the answer."""
    exchange.send(exchange.forward().half())
    exchange.reset()


def truncated(exchange):
    """The answer ends before its Content-Length."""
    exchange.send(exchange.forward().half())
    exchange.close()


def beheaded(exchange):
    """The answer ends after its first line."""
    exchange.send(exchange.forward().first_line())
    exchange.close()


def shortened(exchange):
    """Half an answer whose Content-Length agrees with it."""
    answer = exchange.forward()
    answer.body = answer.body[: len(answer.body) // 2]
    exchange.send(answer.to_bytes())


def flipped(exchange):
    """One bit of the answer to a GET is another; anything else is left alone."""
    answer = exchange.forward()
    if exchange.request.method == "GET" and answer.status < 300 and answer.body:
        changed = bytearray(answer.body)
        changed[len(changed) // 2] ^= 1
        answer.body = bytes(changed)
    exchange.send(answer.to_bytes())


def stalled_before(exchange):
    """The request goes nowhere, and the connection stays open."""
    exchange.wait_for_client_to_leave()


def stalled_after(exchange):
    """The server has done what was asked, and its answer never comes."""
    exchange.forward()
    exchange.wait_for_client_to_leave()


def stalled_midway(exchange):
    """The answer stops in its middle, and the connection stays open."""
    exchange.send(exchange.forward().half())
    exchange.wait_for_client_to_leave()


def dies_before(kill):
    """Calls `kill` when the request has left the client; the server never hears of it."""

    def fault(exchange):
        kill()
        exchange.reset()

    return fault


def dies_after(kill):
    """Calls `kill` when the server has done what was asked; the client never hears of it."""

    def fault(exchange):
        exchange.forward()
        kill()
        exchange.reset()

    return fault


# Plans.


def at(number, fault):
    """The fault meets that one request."""
    return lambda n, _: fault if n == number else None


def since(number, fault):
    """The fault meets that request and all after it."""
    return lambda n, _: fault if n >= number else None


def always(fault):
    """The fault meets every request."""
    return lambda *_: fault


def scheduled(faults):
    """Each fault meets the request whose number it is given for."""
    return lambda n, _: faults.get(n)


def sometimes(seed, rate, faults):
    """Each request meets one of the faults, with the probability `rate`."""
    chance = random.Random(seed)
    return lambda *_: chance.choice(faults) if chance.random() < rate else None
