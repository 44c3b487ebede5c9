"""The command line in this process, and a deployment on moto's server."""

from __future__ import annotations

import json
import uuid

import boto3
import pytest
from typer.testing import CliRunner

from keepfit.infra import deployment
from keepfit.job.cli import app
from tests.infra.conftest import aws, moto_server
from tests.servers.moto import run_in_containers

__all__ = ["aws", "moto_server"]


def keepfit(*args, code=0):
    """Run `keepfit` and assert its exit code. Return the result with its output."""
    ended = CliRunner().invoke(app, list(map(str, args)))
    assert not ended.exception or isinstance(ended.exception, SystemExit), ended.exception
    assert ended.exit_code == code, ended.output
    return ended


def refused(*args, code):
    """Run `keepfit` and return its only line on stderr: the reason of the refusal."""
    (line,) = keepfit(*args, code=code).stderr.splitlines()
    return line


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    """Let this process unpack code into a folder of the test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.fixture
def deployed(aws, monkeypatch):
    """A deployment with an image in its repository; jobs are polled often."""
    monkeypatch.setattr("keepfit.job.commands.batch.job_polling.POLL_SECONDS", 0.2)
    keepfit("infra", "up", "--yes")
    deployed = deployment.find_deployment(boto3.client("cloudformation"))
    push(aws, deployed.repository.partition("/")[2], "latest")
    return deployed


def push(aws, repository, tag, *layers):
    """Add an image to ECR, as `docker push` would. moto's digest is that of the layers."""
    layers = [{"digest": layer} for layer in layers]
    manifest = json.dumps({"schemaVersion": 2, "mediaType": "x", "config": {}, "layers": layers})
    aws("ecr").put_image(repositoryName=repository, imageManifest=manifest, imageTag=tag)


@pytest.fixture
def script(tmp_path):
    """A user's script, in a folder with other files."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    (folder / "train.py").write_text("import helper, sys\nprint(helper.NAME, sys.argv[1:])\n")
    (folder / "helper.py").write_text("NAME = 'helper of mine'\n")
    (folder / "data/large.bin").write_bytes(b"x" * 3_000_000)
    (folder / ".dockerignore").write_text("# not needed by the job\ndata\n")
    return folder / "train.py"


def submit_pending_job(aws, deployed, server, run):
    """Submit a job of the run that stays pending: it depends on one that never ends. Return its id.

    For other jobs, moto reports success at once.
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
