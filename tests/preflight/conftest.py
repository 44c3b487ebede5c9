"""Clients of a server with AWS' answers, and a deployment on moto's server."""

from __future__ import annotations

import pytest

from keepfit.infra import aws as clients
from tests.infra.conftest import use_endpoint
from tests.job.conftest import aws, deployed, moto_server, script
from tests.preflight.samples import ANSWERS
from tests.servers.aws_answers import aws_answers

__all__ = ["aws", "deployed", "moto_server", "script"]


@pytest.fixture
def answers(monkeypatch):
    """A server with the answers of `ANSWERS`, which every client uses."""
    with aws_answers(dict(ANSWERS)) as server:
        use_endpoint(server.url, monkeypatch)
        yield server


@pytest.fixture
def client(answers):
    """Create clients of that server."""
    return lambda service: clients.client(service, attempts=1)
