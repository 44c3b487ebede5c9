"""Servers that break the rules: each is a function that gets a connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Server:
    """A server on loopback.

    Attributes:
        talk: called with each connection, after a request has arrived on it.
        accept: wraps each connection.
        connections: how many there have been.
        released: set at the end, so that servers that wait or repeat return.
    """

    talk: Callable[[Server, socket.socket], None]
    accept: Callable[[socket.socket], socket.socket]
    connections: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def repeat(self, connection: socket.socket, piece: bytes, pause: float = 0.0) -> None:
        """Send a piece again and again, until the client closes the connection."""
        while not self.released.wait(pause):
            connection.sendall(piece)


@contextmanager
def serving(
    talk: Callable[[Server, socket.socket], None],
    accept: Callable[[socket.socket], socket.socket] = lambda connection: connection,
) -> Iterator[Server]:
    """Answer each connection by `talk`, on a thread of its own, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/notice"
        server = Server(talk, accept, url=url)
        accepting = threading.Thread(target=_accept, args=(server, listener), daemon=True)
        accepting.start()
        try:
            yield server
        finally:
            server.released.set()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(server: Server, listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            server.connections += 1
            threading.Thread(target=_talk, args=(server, connection), daemon=True).start()


def _talk(server: Server, connection: socket.socket) -> None:
    with suppress(OSError), server.accept(connection) as accepted:
        accepted.recv(65536)
        server.talk(server, accepted)
        accepted.shutdown(socket.SHUT_RDWR)
    connection.close()


def sending(*pieces: bytes) -> Callable[[Server, socket.socket], None]:
    """Return a server that sends these bytes and closes the connection."""
    return lambda _, connection: connection.sendall(b"".join(pieces))


def flooding(piece: bytes, before: bytes = b"") -> Callable[[Server, socket.socket], None]:
    """Return a server that sends `before`, then `piece` without end, as fast as it can."""

    def talk(server: Server, connection: socket.socket) -> None:
        connection.sendall(before)
        server.repeat(connection, piece)

    return talk


def dripping(piece: bytes, before: bytes = b"") -> Callable[[Server, socket.socket], None]:
    """Return a server that sends `before`, then `piece` without end, slowly."""

    def talk(server: Server, connection: socket.socket) -> None:
        connection.sendall(before)
        server.repeat(connection, piece, pause=0.02)

    return talk


def silent(server: Server, connection: socket.socket) -> None:
    """Accept the connection and say nothing."""
    server.released.wait()
