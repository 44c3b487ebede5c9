"""A proxy in front of the S3 server, and empty prefixes to work in."""

import uuid

import pytest

from tests.s3.proxy import Proxy
from tests.s3.samples import client_at, server, store_of


@pytest.fixture
def proxy(s3):
    with Proxy() as proxy:
        yield proxy


@pytest.fixture(scope="session")
def direct(s3):
    """A client that speaks to the server itself."""
    return client_at(server())


@pytest.fixture
def fresh(bucket, direct):
    """Gives a new empty store each time, directly at the server."""
    return lambda: store_of(direct, f"{bucket}/{uuid.uuid4().hex}")
