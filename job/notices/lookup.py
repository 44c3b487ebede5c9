"""Look-ups of names with a limit of time: getaddrinfo has none, and can't be interrupted."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

Address = tuple[Any, Any, int, str, Any]
"""An address as socket.getaddrinfo returns it."""


class Lookup:
    """Looks up names on threads of their own, one a name at a time.

    A look-up that has taken too long goes on, and the next request waits for the same one: a name
    server that does not answer costs one thread, however often it is asked. The threads are
    daemons, so they don't delay the exit of the process. Not thread-safe: one thread polls.
    """

    def __init__(self) -> None:
        self._pending: dict[tuple[str, int], Future[list[Address]]] = {}

    def addresses(self, host: str, port: int, seconds: float) -> list[Address]:
        """Return the addresses of a name.

        Raises:
            TimeoutError: there is no answer yet.
            OSError, UnicodeError: the name has none, or is none.
        """
        with suppress(socket.gaierror):
            return socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
        pending = self._pending.get((host, port)) or self._start(host, port)
        try:
            found = pending.result(seconds)
        except TimeoutError:
            if not pending.done():
                raise TimeoutError(f"the address of {host} is not found in time") from None
            raise
        finally:
            if pending.done():
                self._pending.pop((host, port), None)
        return found

    def _start(self, host: str, port: int) -> Future[list[Address]]:
        outcome: Future[list[Address]] = Future()

        def work() -> None:
            try:
                outcome.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                outcome.set_exception(error)

        self._pending[host, port] = outcome
        threading.Thread(target=work, name="keepfit-lookup", daemon=True).start()
        return outcome
