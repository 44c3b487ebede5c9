"""`keepfit push` with a program in place of docker, which records what it is given."""

from __future__ import annotations

import base64
import json
import sys

import boto3
import pytest
from botocore.stub import Stubber

from keepfit.infra.aws import AwsError
from keepfit.infra.jobs.registry import Credentials, find_credentials
from tests.job.conftest import keepfit, refused

ENGINE = f"""#!{sys.executable}
import json, os, sys
given = sys.stdin.read()
with open(os.environ["RECORD"], "a") as file:
    print(json.dumps([sys.argv[1:], given]), file=file)
if sys.argv[1] == os.environ.get("FAILING"):
    sys.exit("denied: " + (given or "no basic auth credentials"))
"""


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """Return a function that installs a program, and another that returns its calls so far."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    record = tmp_path / "record"
    monkeypatch.setenv("RECORD", str(record))

    def install(name):
        (folder / name).write_text(ENGINE)
        (folder / name).chmod(0o755)

    def calls():
        return [json.loads(line) for line in record.read_text().splitlines()]

    return install, calls


def test_push(deployed, engine):
    """Three commands are printed and run; the password is on standard input only."""
    install, calls = engine
    install("docker")
    install("podman")
    done = keepfit("push", "mine:3", "--tag", "v3")
    target, server = f"{deployed.repository}:v3", deployed.repository.partition("/")[0]
    (login, password), *others = calls()
    assert login == ["login", "--username", "AWS", "--password-stdin", server]
    assert others == [[["tag", "mine:3", target], ""], [["push", target], ""]]
    assert password
    assert password not in done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        f"$ docker login --username AWS --password-stdin {server}",
        f"$ docker tag mine:3 {target}",
        f"$ docker push {target}",
    ]
    assert target in done.stderr


def test_other_engines(deployed, engine):
    """podman is used where there is no docker; --engine names another program."""
    install, calls = engine
    assert "there is no docker and no podman on the PATH" in refused("push", code=2)
    install("podman")
    keepfit("push")
    assert [call[0][0] for call in calls()] == ["login", "tag", "push"]
    assert "there is no nerdctl on the PATH" in refused("push", "--engine", "nerdctl", code=2)
    install("nerdctl")
    assert "$ nerdctl push" in keepfit("push", "--engine", "nerdctl").stdout
    assert "Received: --tag='a b'" in refused("push", "--tag", "a b", code=2)


@pytest.mark.parametrize(
    ("action", "count"), [("login", 1), ("tag", 2), ("push", 3)], ids=["login", "tag", "push"]
)
def test_a_command_that_fails(deployed, engine, monkeypatch, action, count):
    """Its exit code and its last line are said, without the password; no further one is run."""
    install, calls = engine
    install("docker")
    monkeypatch.setenv("FAILING", action)
    done = keepfit("push", code=78)
    assert f"`docker {action}` ended with exit code 1: denied: " in done.stderr
    assert len(calls()) == count
    assert calls()[0][1] not in done.stdout + done.stderr
    assert ("***" in done.stderr) == (action == "login")


@pytest.mark.parametrize("token", ["no base64!", base64.b64encode(b"AWS").decode(), None])
def test_a_malformed_token(token):
    """A proxy may answer in place of ECR."""
    ecr = boto3.client(
        "ecr", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    data = [] if token is None else [{"authorizationToken": token}]
    with Stubber(ecr) as stub:
        stub.add_response("get_authorization_token", {"authorizationData": data})
        with pytest.raises(AwsError, match="ECR's token is malformed"):
            find_credentials(ecr, "repository")


def test_the_password_is_not_shown():
    """It is not in the text of the value, as in a traceback."""
    assert "word" not in repr(Credentials("AWS", "word"))
