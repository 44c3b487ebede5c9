"""Servers in processes of their own, which are killed when they are no longer needed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.e2e.process import ROOT

LIMIT = 240
"""Seconds within which a server has to answer; it may have to be installed first."""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextmanager
def running(command: Sequence[str], environment: Mapping[str, str], health: str) -> Iterator[None]:
    """Run a server for the block, which starts when the address `health` answers."""
    server = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def answers() -> None:
        assert server.poll() is None, f"{command[0]} ended with {server.returncode}"
        with urllib.request.urlopen(health, timeout=LIMIT):  # nosec B310 # of loopback
            pass

    try:
        waiting = retry_if_exception_type((urllib.error.URLError, ConnectionError))
        Retrying(retry=waiting, stop=stop_after_delay(LIMIT), wait=wait_fixed(0.1))(answers)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
