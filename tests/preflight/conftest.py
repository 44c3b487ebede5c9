"""Clients of a server with AWS' answers, and a deployment on moto's server."""

from __future__ import annotations

import pytest

from keepfit.infra import aws as clients
from tests.infra.conftest import use_endpoint
from tests.job.conftest import aws, deployed, moto_server, script
from tests.preflight.samples import ANSWERS
from tests.servers.aws_answers import aws_answers

__all__ = ["aws", "deployed", "moto_server", "script"]


@pytest.fixture(scope="session")
def server():
    """A server whose answers each test sets."""
    with aws_answers({}) as server:
        yield server


@pytest.fixture
def answers(server, monkeypatch):
    """The server with the answers of `ANSWERS`, which every client uses."""
    server.replies = dict(ANSWERS)
    server.requests.clear()
    use_endpoint(server.url, monkeypatch)
    return server


@pytest.fixture(scope="session")
def created():
    """Clients of the server by service: the creation of one costs more than a test."""
    return {}


@pytest.fixture
def client(answers, created):
    """Return the server's client of a service."""

    def client_of(service):
        if service not in created:
            created[service] = clients.client(service, attempts=1)
        return created[service]

    return client_of
