"""A separate LocalStack, with more services than the one that all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.processes import free_port, running


@contextmanager
def localstack(folder: Path, *services: str) -> Iterator[str]:
    """Start a server with these services and its files in `folder`. Yield its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = ["scripts/localstack", str(port), str(folder)]
    environment = {"SERVICES": ",".join(services)}
    with running(command, environment, f"{address}/_localstack/health"):
        yield address
