"""Fixtures: a proxy in front of the S3 server, a client, and empty stores."""

import uuid

import pytest

from tests.s3.proxy import Proxy
from tests.s3.samples import client_at, server, store_of


@pytest.fixture
def proxy(s3):
    """Return a running proxy in front of the S3 server."""
    with Proxy() as proxy:
        yield proxy


@pytest.fixture(scope="session")
def direct(s3):
    """Return a client that uses the server without the proxy."""
    return client_at(server())


@pytest.fixture
def fresh(bucket, direct):
    """Return a function that opens a new empty store, without the proxy."""
    return lambda: store_of(direct, f"{bucket}/{uuid.uuid4().hex}")
