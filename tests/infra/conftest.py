"""AWS as two emulators implement it, and `keepfit infra` against them."""

from __future__ import annotations

import json
import logging

import boto3
import pytest
from typer.testing import CliRunner

from keepfit.job.cli import app
from tests.iam.policies import listed
from tests.servers.localstack import localstack
from tests.servers.moto import moto, reset


@pytest.fixture(scope="session")
def moto_server():
    with moto() as address:
        yield address


@pytest.fixture(scope="session")
def localstack_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("localstack")
    services = ("s3", "cloudformation", "iam", "sts", "ecr", "events", "sns")
    with localstack(folder, *services) as address:
        yield address


@pytest.fixture
def aws(moto_server, monkeypatch):
    """Let every client use a new account on moto's server. Return boto3.client."""
    reset(moto_server)
    use_endpoint(moto_server, monkeypatch)
    return boto3.client


@pytest.fixture
def local_aws(localstack_server, monkeypatch):
    """Let every client use LocalStack's account. Return boto3.client."""
    use_endpoint(localstack_server, monkeypatch)
    return boto3.client


def use_endpoint(address, monkeypatch):
    """Let all clients use the server at that address."""
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
    """Run `keepfit infra` and assert its exit code. Return the result with its output."""
    ended = CliRunner().invoke(app, ["infra", *args])
    assert not ended.exception or isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code == code, ended.output
    return ended


def refused(*args, code):
    """Run `keepfit infra` and return its only line on stderr: the reason of the refusal."""
    ended = keepfit(*args, code=code)
    (line,) = ended.stderr.splitlines()
    return line


@pytest.fixture
def log_lines(caplog):
    """Return a function that returns the lines of the function's log."""
    caplog.set_level(logging.INFO, "keepfit")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "keepfit"]


def create_topic(aws, name):
    """Create a topic with a queue. Return its ARN, and a function that returns new messages."""
    topic = aws("sns").create_topic(Name=name)["TopicArn"]
    queue = aws("sqs").create_queue(QueueName=name)["QueueUrl"]
    found = aws("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])
    endpoint = found["Attributes"]["QueueArn"]
    aws("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=endpoint)

    def messages():
        received = aws("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        return [json.loads(m["Body"])["Message"] for m in received.get("Messages", ())]

    return topic, messages


def own_actions(statements):
    """Return the actions of a function's role, without those of Lambda itself for its log."""
    return {
        action
        for statement in statements
        for action in listed(statement["Action"])
        if not action.startswith("logs:")
    }
