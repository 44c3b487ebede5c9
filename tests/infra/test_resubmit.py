"""The function that submits jobs again, at moto's AWS Batch, and the rule that calls it.

moto runs no retries and knows neither exit codes nor resource requirements of a job: these are
put into its answers on their way to the function.
"""

from __future__ import annotations

import ast
import json
import logging
import uuid

import boto3
import pytest
from cfnlint.decode.cfn_yaml import load

from keepfit.callbacks.checkpoint.manifest import head_key, manifest_key
from keepfit.infra import deployment
from keepfit.infra.functions import resubmit
from keepfit.infra.stacks import template
from tests.e2e.process import ROOT
from tests.infra.conftest import keepfit, use
from tests.servers.moto import empty

SOURCE = (ROOT / "infra/functions/resubmit.py").read_text()
HOST_GONE = "Host EC2 (instance i-0a1) terminated."
COMMAND = ["run", "--save-every", "30s", "/job/train.py", "--epochs", "10"]
NEEDS = [{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "8192"}]


@pytest.fixture(scope="module")
def compute():
    return load(str(ROOT / "infra/templates/compute.yaml"))["Resources"]


@pytest.fixture(scope="module")
def aws(moto_server):
    """One account for all of these tests; each has its own run."""
    empty(moto_server)
    with pytest.MonkeyPatch.context() as monkeypatch:
        use(moto_server, monkeypatch)
        yield boto3.client


@pytest.fixture(scope="module")
def deployed(aws):
    keepfit("up", "--yes")
    return deployment.find_deployment(aws("cloudformation"))


@pytest.fixture
def run():
    return f"mnist-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def said(caplog):
    """Gives the lines of the function's log."""
    caplog.set_level(logging.INFO, "keepfit")
    return lambda: [r.getMessage() for r in caplog.records if r.name == "keepfit"]


@pytest.fixture
def saved(deployed, aws, run):
    """Puts a checkpoint's manifest where keepfit does."""

    def save(step, run=run, attempt=1, sequence=0):
        key = f"runs/{manifest_key(run, step, attempt, sequence)}"
        aws("s3").put_object(Bucket=deployed.bucket, Key=key, Body=b"{}")

    return save


@pytest.fixture
def given_up(deployed, aws, run):
    """Submits a job, and gives the event of its end; what else ended it is said to the function."""

    def end(exit_code=75, reason="Essential container in task exited", since=None, **more):
        environment = {"KEEPFIT_RUN": run, "MINE": "a b", "KEEPFIT_FRESH": "true"}
        environment |= {} if since is None else {resubmit.SINCE: str(since)}
        submitted = aws("batch").submit_job(
            jobName="mnist",
            jobQueue=deployed.queue,
            jobDefinition=deployed.job,
            tags={"keepfit:run": run},
            containerOverrides={
                "command": COMMAND,
                "environment": [{"name": k, "value": v} for k, v in environment.items()],
                "resourceRequirements": NEEDS,
            },
        )

        def as_batch_says_it(parsed, **_):
            for job in parsed["jobs"]:
                job |= {"status": "FAILED", "statusReason": reason, **more}
                job["container"] |= {"exitCode": exit_code, "resourceRequirements": NEEDS}

        boto3.setup_default_session()
        session = boto3.DEFAULT_SESSION
        session.events.register("after-call.batch.DescribeJobs", as_batch_says_it)
        return {"detail": {"jobId": submitted["jobId"], "jobQueue": deployed.queue}}

    return end


def described(aws, job):
    (found,) = aws("batch").describe_jobs(jobs=[job])["jobs"]
    variables = {v["name"]: v["value"] for v in found["container"]["environment"]}
    return found, variables


def test_a_run_that_progressed(aws, deployed, given_up, saved, said, run):
    """The same job is submitted: queue, definition, command, environment, resources and tags."""
    sent = []
    for step in (5, 40, 9):
        saved(step)
    saved(7_000_000_000, attempt=12, run="another")
    event = given_up(since=30)
    boto3.DEFAULT_SESSION.events.register(
        "provide-client-params.batch.SubmitJob", lambda params, **_: sent.append(params)
    )
    job = resubmit.handler(event, None)
    (asked,) = sent
    assert asked["containerOverrides"]["resourceRequirements"] == NEEDS
    found, variables = described(aws, job)
    assert (found["jobName"], found["jobQueue"]) == ("mnist", deployed.queue)
    assert found["jobDefinition"] == deployed.job
    assert found["container"]["command"] == COMMAND
    assert found["tags"] == {"keepfit:run": run}
    assert variables["AWS_BATCH_JOB_ID"] == job
    assert variables | {"AWS_BATCH_JOB_ID": ""} == {
        "AWS_BATCH_JOB_ID": "",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "KEEPFIT_STORE": deployed.store,
        "KEEPFIT_GRACE": "100s",
        "KEEPFIT_RUN": run,
        "MINE": "a b",
        "KEEPFIT_RESUBMITTED_AT": "40",
    }
    (line,) = said()
    assert f"is submitted again as {job}: run {run} is at batch 40" in line


@pytest.mark.parametrize(("step", "since"), [(40, 40), (None, None), (None, 7), (12, 40)])
def test_a_run_that_did_not_progress(given_up, saved, said, run, step, since):
    """It would cost money for ever; the log names the run and says where to look."""
    if step is not None:
        saved(step)
    assert resubmit.handler(given_up(since=since), None) is None
    (line,) = said()
    assert f"run {run} got no further" in line
    assert "logs" in line


def test_an_interruption_by_the_host(given_up, saved):
    """Without an exit code of the container, it is the host's end that counts."""
    saved(1)
    assert resubmit.handler(given_up(exit_code=None, reason=HOST_GONE), None)


@pytest.mark.parametrize(
    ("ending", "why"),
    [
        ({"isTerminated": True}, "somebody ended it"),
        ({"isCancelled": True}, "somebody ended it"),
        ({"exit_code": 1}, "was not interrupted (exit code 1"),
        ({"exit_code": 76}, "was not interrupted"),
        ({"exit_code": 78}, "was not interrupted"),
        ({"exit_code": 137, "reason": "OutOfMemoryError"}, "was not interrupted"),
    ],
)
def test_other_ends(given_up, saved, said, ending, why):
    """A mistake, and a job that somebody cancelled (which saves, too), are not submitted again."""
    saved(1)
    assert resubmit.handler(given_up(**ending), None) is None
    (line,) = said()
    assert why in line


def test_only_manifests_count(aws, deployed, saved, run):
    """Neither HEAD nor shards nor what else stands beside them is taken for a checkpoint."""
    for key in (head_key(run), f"{run}/shards/9999999999-0001-0000.json", f"{run}/checkpoints/x"):
        aws("s3").put_object(Bucket=deployed.bucket, Key=f"runs/{key}", Body=b"{}")
    assert resubmit.newest_step(deployed.store, run) == 0
    saved(3)
    assert resubmit.newest_step(f"{deployed.store}/", run) == 3
    assert resubmit.newest_step(f"s3://{deployed.bucket}", f"runs/{run}") == 3


def test_what_is_sent_is_the_module(tmp_path):
    """The template as it is sent holds its source, and keeps within CloudFormation's limits."""
    body = template.template_body("compute")
    sent = tmp_path / "compute.yaml"
    sent.write_text(body)
    code = load(str(sent))["Resources"]["Resubmit"]["Properties"]["Code"]["ZipFile"]
    assert code == SOURCE
    assert len(SOURCE) <= 4096
    assert len(body.encode()) <= 51_200
    assert "infra/functions" not in body
    handler = load(str(sent))["Resources"]["Resubmit"]["Properties"]["Handler"]
    assert handler == f"index.{resubmit.handler.__name__}"


def test_it_needs_what_lambda_has():
    """The standard library and boto3."""
    imported = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(SOURCE))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert imported == {"__future__", "logging", "re", "typing", "boto3"}


def test_it_may_do_what_it_does_and_no_more(compute):
    """List the store's prefix, look at jobs, submit to this queue; no keys of any other kind."""
    (policy,) = compute["ResubmitRole"]["Properties"]["Policies"]
    statements = {s["Sid"]: s for s in policy["PolicyDocument"]["Statement"]}
    actions = {sid: statement["Action"] for sid, statement in statements.items()}
    assert actions == {
        "NewestStep": "s3:ListBucket",
        "TheJob": "batch:DescribeJobs",
        "ItsSuccessor": "batch:SubmitJob",
        "Tags": "batch:TagResource",
        "Logs": ["logs:CreateLogStream", "logs:PutLogEvents"],
    }
    assert statements["NewestStep"]["Condition"] == {
        "StringLike": {"s3:prefix": {"Fn::Sub": "${Prefix}/*"}}
    }
    queue, definition = statements["ItsSuccessor"]["Resource"]
    assert queue == {"Ref": "Queue"}
    assert definition["Fn::Sub"].endswith(":job-definition/${AWS::StackName}*")
    assert [sid for sid, s in statements.items() if s["Resource"] == "*"] == ["TheJob"]
    (trust,) = compute["ResubmitRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_only_the_rule_may_call_it(compute):
    """And its log ends."""
    permission = compute["ResubmissionPermission"]["Properties"]
    assert permission["SourceArn"] == {"Fn::GetAtt": ["Resubmission", "Arn"]}
    (target,) = compute["Resubmission"]["Properties"]["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["Resubmit", "Arn"]}
    assert compute["ResubmitLogs"]["Properties"]["RetentionInDays"] == {"Ref": "LogDays"}


def happened(**detail):
    """A job's change of state, as AWS Batch tells EventBridge."""
    job = {"jobQueue": "queue", "status": "FAILED", "statusReason": "Essential container exited"}
    return {
        "version": "0",
        "id": "c8f9c4b5-76e5-d76a-f980-7011e206042b",
        "source": "aws.batch",
        "detail-type": "Batch Job State Change",
        "account": "123456789012",
        "time": "2026-11-23T12:00:00Z",
        "region": "us-east-1",
        "resources": ["arn:aws:batch:us-east-1:123456789012:job/4c7599ae"],
        "detail": {**job, **detail},
    }


@pytest.mark.parametrize(
    ("event", "matches"),
    [
        (happened(container={"exitCode": 75}), True),
        (happened(container={}, statusReason=HOST_GONE), True),
        (happened(container={"exitCode": 137}, statusReason=HOST_GONE), True),
        (happened(container={"exitCode": 1}), False),
        (happened(container={"exitCode": 78}), False),
        (happened(container={"exitCode": 75}, jobQueue="another"), False),
        (happened(container={"exitCode": 75}, status="runNABLE"), False),
        ({**happened(container={"exitCode": 75}), "source": "mine"}, False),
        ({**happened(container={"exitCode": 75}), "detail-type": "Other"}, False),
    ],
)
def test_the_rule(compute, local_aws, event, matches):
    """It matches the failed jobs of its queue that were interrupted; LocalStack evaluates it."""
    pattern = json.loads(json.dumps(compute["Resubmission"]["Properties"]["EventPattern"]))
    assert pattern["detail"]["jobQueue"] == [{"Ref": "Queue"}]
    pattern["detail"]["jobQueue"] = ["queue"]
    evaluated = local_aws("events").test_event_pattern(
        EventPattern=json.dumps(pattern), Event=json.dumps(event)
    )
    assert evaluated["Result"] is matches
