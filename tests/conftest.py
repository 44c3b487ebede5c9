"""Fixtures of all test packages: a client of the S3 server, and a bucket in it."""

from __future__ import annotations

import os
import uuid

import boto3
import pytest

from keepfit.callbacks.logs import logger
from keepfit.job import runner
from tests.e2e.process import share_fork_server


def pytest_configure(config):
    """Let all workers of a session use one fork server: each would import TensorFlow again."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        share_fork_server()


@pytest.fixture(autouse=True)
def reset_logging():
    """Reset the logging that a command has configured: its output is closed by then."""
    yield
    logger.reset()


@pytest.fixture(autouse=True)
def live_on(monkeypatch):
    """Let a command that is called in this process not end it, whatever threads tests have left."""
    monkeypatch.setattr(runner, "_limit_exit_time", lambda code: None)


@pytest.fixture(scope="session")
def s3():
    """A client of the S3 server that scripts/test starts."""
    assert "AWS_ENDPOINT_URL_S3" in os.environ, (
        "tests need an S3 server: run them with scripts/test, which starts one, or start "
        "scripts/localstack yourself and set AWS_ENDPOINT_URL_S3=http://127.0.0.1:4566"
    )
    return boto3.client("s3")


@pytest.fixture(scope="session")
def bucket(s3):
    """The address of an empty bucket."""
    name = f"keepfit-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return f"s3://{name}"
