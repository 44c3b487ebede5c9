"""`keepfit submit`, `status`, `logs` and `cancel` in two regions, and `submit --max-wait`."""

from __future__ import annotations

import json
import time
import uuid

import boto3
import pytest

from keepfit.callbacks.storage import open_store
from keepfit.infra import deployment
from keepfit.job.cancellation import is_cancelled
from tests.infra.conftest import use_endpoint
from tests.job.conftest import keepfit, push, refused
from tests.s3.proxy import Proxy, always, pass_through, s3_error
from tests.servers.moto import end_at_once, reset, run_in_containers

FIRST, SECOND = "us-east-1", "eu-west-1"


@pytest.fixture(scope="module")
def deployed(moto_server):
    """A deployment with a second region, for all tests of this module; each has its own runs."""
    reset(moto_server)
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_endpoint(moto_server, monkeypatch)
        keepfit("infra", "up", "--yes")
        store = find().store
        keepfit("infra", "up", "--yes", "--region", SECOND, "--store", store)
        for tag in ("latest", "mine"):
            push(boto3.client, find().repository.partition("/")[2], tag)
        yield find()


@pytest.fixture
def both(deployed, moto_server, monkeypatch):
    """The deployment; jobs succeed at once, and are polled often."""
    end_at_once(moto_server)
    monkeypatch.setattr("keepfit.job.commands.batch.job_polling.POLL_SECONDS", 0.2)
    return deployed


def find():
    return deployment.find_deployment(boto3.client("cloudformation"))


def jobs_in(region, queue, run="*"):
    """Return the jobs of a queue, the newest first, as AWS Batch describes them."""
    batch = boto3.client("batch", region_name=region)
    named = [{"name": "JOB_NAME", "values": [run]}]
    listed = batch.list_jobs(jobQueue=queue, filters=named)["jobSummaryList"]
    found = batch.describe_jobs(jobs=[job["jobId"] for job in listed])["jobs"] if listed else []
    return sorted(found, key=lambda job: job["createdAt"], reverse=True)


def variables(job):
    return {v["name"]: v["value"] for v in job["container"]["environment"]}


def definition_of(region, arn):
    batch = boto3.client("batch", region_name=region)
    (found,) = batch.describe_job_definitions(jobDefinitions=[arn])["jobDefinitions"]
    return found


def submit_there(both, run):
    """Submit a job of the run in the second region that stays pending, as the function would."""
    return submit_pending(SECOND, both.other, run)


def submit_pending(region, place, run):
    answer = boto3.client("batch", region_name=region).submit_job(
        jobName=run,
        jobQueue=place.queue,
        jobDefinition=place.job,
        dependsOn=[{"jobId": str(uuid.uuid4())}],
        containerOverrides={"environment": [{"name": "KEEPFIT_RUN", "value": run}]},
    )
    return answer["jobId"]


def defines_there(request):
    """Return whether the request is about a job definition in the second region."""
    signed = dict(request.headers)["Authorization"]
    return f"/{SECOND}/batch/" in signed and "jobdefinition" in request.path


def test_submit(both, script, moto_server, monkeypatch):
    """The job names its definition in the other region, with the same image and no secret."""
    keepfit("submit", "--run", "first", "--max-wait", "2h", script)
    job = jobs_in(FIRST, both.queue)[0]
    pinned = definition_of(SECOND, variables(job)["KEEPFIT_OTHER_JOB"])
    assert f"{both.repository}@sha256:" in pinned["containerProperties"]["image"]
    assert variables(job)["KEEPFIT_MAX_WAIT"] == "7200"
    image = f"{both.repository}:mine"
    keepfit("submit", "--run", "second", "--image", image, "--env", "KEEPFIT_MAX_WAIT=5min", script)
    job = jobs_in(FIRST, both.queue)[0]
    assert variables(job)["KEEPFIT_MAX_WAIT"] == "300"
    own = definition_of(FIRST, job["jobDefinition"])
    other = definition_of(SECOND, variables(job)["KEEPFIT_OTHER_JOB"])
    assert own["containerProperties"]["image"] == other["containerProperties"]["image"]
    assert other["jobDefinitionName"].startswith("keepfit-compute-")
    environment = {v["name"]: v["value"] for v in other["containerProperties"]["environment"]}
    assert environment["AWS_REGION"] == SECOND
    denied = s3_error(403, "AccessDeniedException")
    with Proxy(moto_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.arm(lambda _, request: denied if defines_there(request) else None)
        ended = keepfit("submit", "--run", "third", script)
        (job,) = jobs_in(FIRST, both.queue)[:1]
    assert "other region unused: region eu-west-1" in ended.stderr
    assert "KEEPFIT_OTHER_JOB" not in variables(job)


def test_a_moved_job(both, script, moto_server):
    """`submit`, `status`, `logs` and `cancel` find the job of the run in the other region."""
    keepfit("submit", "--run", "moved", script)
    run_in_containers(moto_server)
    moved = submit_there(both, "moved")
    line = refused("submit", "--run", "moved", "--resume", script, code=2)
    assert f"has a job already, {moved}" in line
    found = json.loads(keepfit("status", "moved", "--json").stdout)
    assert found["id"] == moved
    assert [attempt["queue"] for attempt in found["attempts"]] == [both.queue]
    runs = json.loads(keepfit("status", "--name", "keepfit", "--json").stdout)["runs"]
    assert [run["job"]["id"] for run in runs if run["run"] == "moved"] == [moved]
    keepfit("cancel", "moved")
    (job,) = jobs_in(SECOND, both.other.queue, "moved")
    assert (job["status"], job["statusReason"]) == ("FAILED", "keepfit cancel")
    assert is_cancelled(open_store(both.store), moved)


def test_cancel_while_it_moves(both, moto_server, monkeypatch):
    """A job that appears in the other region while this one is cancelled is cancelled, too."""
    run_in_containers(moto_server)
    first, moved = submit_pending(FIRST, both, "moving"), []

    def move(exchange):
        if not moved:
            moved.append(submit_there(both, "moving"))
        pass_through(exchange)

    with Proxy(moto_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.arm(lambda _, request: move if "terminatejob" in request.path else None)
        keepfit("cancel", "moving")
        ended = [
            *jobs_in(FIRST, both.queue, "moving"),
            *jobs_in(SECOND, both.other.queue, "moving"),
        ]
        assert is_cancelled(open_store(both.store), moved[0])
    assert [(job["jobId"], job["status"]) for job in ended] == [
        (first, "FAILED"), (moved[0], "FAILED"),
    ]  # fmt: skip


def test_logs_of_both_regions(both, script):
    """The attempts of the first region come before those of the second one."""
    keepfit("submit", "--run", "logged", script)
    boto3.client("batch", region_name=SECOND).submit_job(
        jobName="logged",
        jobQueue=both.other.queue,
        jobDefinition=both.other.job,
        containerOverrides={"environment": [{"name": "KEEPFIT_RUN", "value": "logged"}]},
    )
    for region, queue in ((FIRST, both.queue), (SECOND, both.other.queue)):
        (job,) = jobs_in(region, queue, "logged")
        (attempt,) = job["attempts"]
        stream = attempt["container"]["logStreamName"]
        logs = boto3.client("logs", region_name=region)
        logs.create_log_stream(logGroupName=both.logs, logStreamName=stream)
        event = {"timestamp": int(time.time() * 1000), "message": f"from {region}"}
        logs.put_log_events(logGroupName=both.logs, logStreamName=stream, logEvents=[event])
    assert keepfit("logs", "logged").stdout.splitlines() == [
        "=== attempt 1 ===", f"from {FIRST}", "=== attempt 2 ===", f"from {SECOND}",
    ]  # fmt: skip


def test_max_wait_without_effect(both, script, moto_server, monkeypatch):
    """A time that is none, another queue, and a deployment of an older version are refused."""
    line = refused("submit", "--max-wait", "1min", script, code=2)
    assert "at least 5min" in line
    assert "--max-wait='1min'" in line
    batch = boto3.client("batch")
    spot = batch.describe_compute_environments()["computeEnvironments"][0]
    order = [{"order": 1, "computeEnvironment": spot["computeEnvironmentArn"]}]
    batch.create_job_queue(
        jobQueueName="other", state="ENABLED", priority=1, computeEnvironmentOrder=order
    )
    line = refused("submit", "--max-wait", "1h", "--queue", "other", script, code=2)
    assert "own queue" in line
    with Proxy(moto_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        proxy.arm(always(of_an_older_version))
        line = refused("submit", "--max-wait", "1h", script, code=2)
    assert "`keepfit infra up` creates it" in line


def of_an_older_version(exchange):
    """Let CloudFormation answer without the output that came with the function."""
    answer = exchange.forward()
    answer.body = answer.body.replace(b"HomeRegion", b"OtherThing")
    exchange.send(answer.to_bytes())
