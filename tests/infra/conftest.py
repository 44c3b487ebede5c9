"""AWS as far as two emulators know it, and the command against them."""

from __future__ import annotations

import boto3
import pytest
import structlog
from typer.testing import CliRunner

from keepfit.job.cli import app
from tests.servers.localstack import localstack
from tests.servers.moto import empty, moto


@pytest.fixture(autouse=True)
def log_as_before():
    """What a command has configured ends with the test."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def moto_server():
    with moto() as address:
        yield address


@pytest.fixture(scope="session")
def localstack_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("localstack")
    with localstack(folder, "s3", "cloudformation", "iam", "sts", "ecr", "events") as address:
        yield address


@pytest.fixture
def aws(moto_server, monkeypatch):
    """A new account at moto's server, where every client finds it; gives clients."""
    empty(moto_server)
    use(moto_server, monkeypatch)
    return boto3.client


@pytest.fixture
def local_aws(localstack_server, monkeypatch):
    """LocalStack's account; gives clients."""
    use(localstack_server, monkeypatch)
    return boto3.client


def use(address, monkeypatch):
    """Let all clients speak to that server."""
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    settings = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def keepfit(*args, code=0):
    """What `keepfit infra` prints; it must end with this code."""
    ended = CliRunner().invoke(app, ["infra", *args])
    assert not ended.exception or isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code == code, ended.output
    return ended


def refused(*args, code):
    """The one line that says why not."""
    ended = keepfit(*args, code=code)
    (line,) = ended.stderr.splitlines()
    return line
