"""The command in this process, and a deployment at moto's server for it."""

from __future__ import annotations

import uuid

import boto3
import pytest
from typer.testing import CliRunner

from keepfit.infra import deployment
from keepfit.job.cli import app
from tests.infra.conftest import aws, log_as_before, moto_server
from tests.servers.moto import run_in_containers

__all__ = ["aws", "log_as_before", "moto_server"]


def keepfit(*args, code=0):
    """What `keepfit` prints; it must end with this code."""
    ended = CliRunner().invoke(app, list(map(str, args)))
    assert not ended.exception or isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code == code, ended.output
    return ended


def refused(*args, code):
    """The one line that says why not."""
    (line,) = keepfit(*args, code=code).stderr.splitlines()
    return line


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    """Where this process unpacks code."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def deployed(aws, monkeypatch):
    """With an image in its repository; whoever follows a job looks often."""
    monkeypatch.setattr("keepfit.job.commands.job_polling.POLL_SECONDS", 0.2)
    keepfit("infra", "up", "--yes")
    found = deployment.find_deployment(boto3.client("cloudformation"))
    push(aws, found.repository.partition("/")[2], "latest")
    return found


def push(aws, repository, tag):
    """What `docker push` would leave in ECR."""
    manifest = '{"schemaVersion": 2, "mediaType": "x", "config": {}, "layers": []}'
    aws("ecr").put_image(repositoryName=repository, imageManifest=manifest, imageTag=tag)


@pytest.fixture
def script(tmp_path):
    """A script of the user's, in a folder with more."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    (folder / "train.py").write_text("import helper, sys\nprint(helper.NAME, sys.argv[1:])\n")
    (folder / "helper.py").write_text("NAME = 'helper of mine'\n")
    (folder / "data/large.bin").write_bytes(b"x" * 3_000_000)
    (folder / ".dockerignore").write_text("# what the job does not need\ndata\n")
    return folder / "train.py"


def waiting(aws, deployed, server, run):
    """A job of the run that is not over: it waits for one that never ends. Gives its id.

    Of the others, moto says at once that they have succeeded.
    """
    run_in_containers(server)
    environment = [{"name": "KEEPFIT_RUN", "value": run}]
    answer = aws("batch").submit_job(
        jobName=run,
        jobQueue=deployed.queue,
        jobDefinition=deployed.job,
        dependsOn=[{"jobId": str(uuid.uuid4())}],
        containerOverrides={"environment": environment},
    )
    return answer["jobId"]
