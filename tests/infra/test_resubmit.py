"""The function that resubmits jobs, on moto's AWS Batch, and the rule that calls it.

moto runs no retries and keeps neither exit codes nor resource requirements of a job: the tests add
them to its answers before the function gets them.
"""

from __future__ import annotations

import ast
import json
import os
import re
import uuid

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from cfnlint.decode.cfn_yaml import load

from keepfit.callbacks.checkpoint.format.keys import head_key, manifest_key
from keepfit.infra import deployment
from keepfit.infra.functions import resubmit
from keepfit.infra.stacks import template
from tests.e2e.process import ROOT
from tests.iam.calls import of_call
from tests.iam.policies import Request, refused
from tests.iam.templates import SAMPLES, role_statements
from tests.infra.batch_events import HOST_GONE, rule_matches, state_change
from tests.infra.conftest import create_topic, keepfit, own_actions, use_endpoint
from tests.servers.moto import reset

SOURCE = (ROOT / "infra/functions/resubmit.py").read_text()
CODE = re.sub(r'^ +"""(.|\n)*?"""\n', "", SOURCE.split('"""\n\n', 1)[1], flags=re.MULTILINE)
ORDINARY = "Essential container in task exited"
COMMAND = ["run", "--save-every", "30s", "/job/train.py", "--epochs", "10"]
NEEDS = [{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "8192"}]


@pytest.fixture(scope="module")
def compute():
    return load(str(ROOT / "infra/templates/compute.yaml"))["Resources"]


@pytest.fixture(scope="module")
def aws(moto_server):
    """One account for all tests of this module; each test has its own run."""
    reset(moto_server)
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_endpoint(moto_server, monkeypatch)
        yield boto3.client


@pytest.fixture(autouse=True)
def hooks_end():
    """Let the hooks of a test on the calls of boto3's default session end with it."""
    yield
    boto3.setup_default_session()


@pytest.fixture(scope="module")
def deployed(aws):
    keepfit("up", "--yes")
    return deployment.find_deployment(aws("cloudformation"))


@pytest.fixture
def run():
    return f"mnist-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def saved(deployed, aws, run):
    """Return a function that stores a checkpoint's manifest under keepfit's key."""

    def save(step, run=run, attempt=1, sequence=0):
        key = f"runs/{manifest_key(run, step, attempt, sequence)}"
        aws("s3").put_object(Bucket=deployed.bucket, Key=key, Body=b"{}")

    return save


@pytest.fixture
def failed_job(deployed, aws, run):
    """Return a function that submits a job and returns the event of its failure.

    DescribeJobs then reports the given exit code, reason and other attributes.
    """

    def end(exit_code=75, reason=ORDINARY, since=None, of_container="", **more):
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

        def add_failure(parsed, **_):
            for job in parsed["jobs"]:
                job |= {"status": "FAILED", "statusReason": reason, **more}
                job["container"] |= {"exitCode": exit_code, "resourceRequirements": NEEDS}
                job["container"] |= {"reason": of_container} if of_container else {}

        boto3.setup_default_session()
        session = boto3.DEFAULT_SESSION
        session.events.register("after-call.batch.DescribeJobs", add_failure)
        return {"detail": {"jobId": submitted["jobId"], "jobQueue": deployed.queue}}

    return end


@pytest.fixture
def published(aws, run, monkeypatch):
    """Return a function that returns the messages of a topic, whose address the function has."""
    topic, messages = create_topic(aws, run)
    monkeypatch.setenv("TOPIC", topic)
    return messages


def describe(aws, job):
    (description,) = aws("batch").describe_jobs(jobs=[job])["jobs"]
    variables = {v["name"]: v["value"] for v in description["container"]["environment"]}
    return description, variables


def test_a_run_that_progressed(aws, deployed, failed_job, saved, log_lines, run):
    """The same job is resubmitted: queue, definition, command, environment, resources and tags."""
    sent = []
    for step in (5, 40, 9):
        saved(step)
    saved(7_000_000_000, attempt=12, run="another")
    event = failed_job(since=30)
    boto3.DEFAULT_SESSION.events.register(
        "provide-client-params.batch.SubmitJob", lambda params, **_: sent.append(params)
    )
    job = resubmit.handler(event, None)
    (parameters,) = sent
    assert parameters["containerOverrides"]["resourceRequirements"] == NEEDS
    description, variables = describe(aws, job)
    assert (description["jobName"], description["jobQueue"]) == ("mnist", deployed.queue)
    assert description["jobDefinition"] == deployed.job
    assert description["container"]["command"] == COMMAND
    assert description["tags"] == {"keepfit:run": run}
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
        "TMPDIR": "/tmp",
    }
    (line,) = log_lines()
    assert f"is submitted again as {job}: run {run} is at batch 40" in line


def test_the_options_of_the_job_apply(failed_job, saved):
    """The listing expects the bucket's owner and agrees to pay if the job's own requests do."""
    saved(5)
    asked = []

    def add_variables(parsed, **_):
        for job in parsed["jobs"]:
            job["container"]["environment"] += [
                {"name": "KEEPFIT_S3_EXPECTED_BUCKET_OWNER", "value": "123456789012"},
                {"name": "KEEPFIT_S3_REQUEST_PAYER", "value": "True"},
            ]

    event = failed_job()
    events = boto3.DEFAULT_SESSION.events
    events.register("after-call.batch.DescribeJobs", add_variables)
    events.register("provide-client-params.s3", lambda params, **_: asked.append(params))
    assert resubmit.handler(event, None)
    (parameters,) = asked
    assert parameters["ExpectedBucketOwner"] == "123456789012"
    assert parameters["RequestPayer"] == "requester"


@pytest.mark.parametrize(("step", "since"), [(40, 40), (None, None), (None, 7), (12, 40)])
def test_a_run_that_did_not_progress(failed_job, saved, log_lines, published, run, step, since):
    """It is not resubmitted, as it would cost money forever; log and topic name the run."""
    if step is not None:
        saved(step)
    assert resubmit.handler(failed_job(since=since), None) is None
    (line,) = log_lines()
    assert published() == [f"keepfit: {line}"]
    assert f"run {run} got no further" in line
    assert "logs" in line


@pytest.mark.parametrize(
    ("status", "of_container"),
    [
        (HOST_GONE, ""),
        (ORDINARY, "CannotInspectContainerError: Could not transition to inspecting"),
        ("Task failed to start", "CannotPullContainerError: manifest unknown"),
        ("Task failed to start", "DockerTimeoutError: Could not transition to created"),
    ],
)
def test_an_interruption_by_the_host(failed_job, saved, published, status, of_container):
    """A job without an exit code, because of its host, is resubmitted if its run has progressed.

    A wrong image prevents each attempt, so the mail has the reason of AWS.
    """
    failure = {"exit_code": None, "reason": status, "of_container": of_container}
    assert resubmit.handler(failed_job(**failure), None) is None
    (mail,) = published()
    assert f"(the last one: {of_container or status})" in mail
    saved(1)
    assert resubmit.handler(failed_job(**failure), None)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ({"isTerminated": True}, "it was terminated or cancelled"),
        ({"isCancelled": True}, "it was terminated or cancelled"),
        ({"exit_code": 1}, "was not interrupted (exit code 1"),
        ({"exit_code": 76}, "was not interrupted"),
        ({"exit_code": 78}, "was not interrupted"),
        ({"exit_code": 137, "reason": "OutOfMemoryError"}, "was not interrupted"),
    ],
)
def test_other_failures(failed_job, saved, log_lines, published, failure, reason):
    """Errors and cancelled jobs (which exit with 75, too) are not resubmitted.

    Who has cancelled a job knows that it ends; of the others the topic learns.
    """
    saved(1)
    assert resubmit.handler(failed_job(**failure), None) is None
    (line,) = log_lines()
    assert reason in line
    assert published() == ([] if "cancelled" in reason else [f"keepfit: {line}"])


def test_without_a_topic(failed_job, log_lines, monkeypatch):
    """A deployment without addresses has the log only."""
    monkeypatch.delenv("TOPIC", raising=False)
    assert resubmit.handler(failed_job(), None) is None
    assert len(log_lines()) == 1


def test_only_manifests_count(aws, deployed, saved, run):
    """HEAD, shards and other objects are not counted as checkpoints."""
    for key in (head_key(run), f"{run}/shards/9999999999-0001-0000.json", f"{run}/checkpoints/x"):
        aws("s3").put_object(Bucket=deployed.bucket, Key=f"runs/{key}", Body=b"{}")
    assert resubmit.newest_step(deployed.store, run, {}) == 0
    saved(3)
    assert resubmit.newest_step(f"{deployed.store}/", run, {}) == 3
    assert resubmit.newest_step(f"s3://{deployed.bucket}", f"runs/{run}", {}) == 3


def test_the_template_contains_the_module(tmp_path):
    """The template that is sent has the module's source, within CloudFormation's limits."""
    body = template.template_body("compute")
    path = tmp_path / "compute.yaml"
    path.write_text(body)
    code = load(str(path))["Resources"]["Resubmit"]["Properties"]["Code"]["ZipFile"]
    assert code == CODE
    compile(code, "index.py", "exec")
    assert len(body.encode()) <= 51_200
    assert "infra/functions" not in body
    handler = load(str(path))["Resources"]["Resubmit"]["Properties"]["Handler"]
    assert handler == f"index.{resubmit.handler.__name__}"


def test_it_imports_only_modules_of_lambda():
    """The function imports only the standard library and boto3."""
    imported = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(SOURCE))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert imported == {"__future__", "logging", "os", "re", "typing", "boto3"}


def test_its_role_is_minimal(compute):
    """It may list the store's prefix, describe jobs, and submit to this queue; nothing else."""
    (policy,) = compute["ResubmitRole"]["Properties"]["Policies"]
    statements = {s["Sid"]: s for s in policy["PolicyDocument"]["Statement"]}
    actions = {sid: statement["Action"] for sid, statement in statements.items()}
    assert actions == {
        "NewestStep": "s3:ListBucket",
        "TheJob": "batch:DescribeJobs",
        "ItsSuccessor": ["batch:SubmitJob", "batch:TagResource"],
        "Logs": ["logs:CreateLogStream", "logs:PutLogEvents"],
    }
    assert [sid for sid, s in statements.items() if s["Resource"] == "*"] == ["TheJob"]
    (trust,) = compute["ResubmitRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_its_role_allows_each_of_its_calls(failed_job, saved, deployed, published):
    """A job that is submitted again, and one that is given up; with tags, and without."""
    topic = os.environ["TOPIC"]
    names = {"Queue": deployed.queue, "Bucket": deployed.bucket, "Topic": topic}
    statements = role_statements("compute", "ResubmitRole", SAMPLES | names)
    made = []

    def record(params, model, **_):
        made.extend(of_call(model.service_model.service_name, model.name, params))

    def handle(**failure):
        event = failed_job(**failure)
        boto3.DEFAULT_SESSION.events.register("provide-client-params", record)
        try:
            return resubmit.handler(event, None)
        finally:
            boto3.setup_default_session()

    saved(40)
    assert handle()
    assert handle(since=40) is None
    assert refused(statements, made) == []
    assert {request.action for request in made} == own_actions(statements)
    tagged = {r.resource for r in made if r.action == "batch:TagResource"}
    assert {deployed.queue, deployed.job} < tagged
    others = [
        Request("batch:SubmitJob", f"{deployed.queue}-of-others"),
        Request("batch:SubmitJob", deployed.job.replace("/keepfit", "/another")),
        Request("s3:ListBucket", f"arn:aws:s3:::{deployed.bucket}", {"s3:prefix": "x"}),
        Request("s3:GetObject", f"arn:aws:s3:::{deployed.bucket}/runs/x"),
    ]
    assert len(refused(statements, others)) == len(others)


def test_a_role_that_may_not_tag(failed_job, saved, aws, log_lines):
    """The job is submitted without its tags, once, and the log has AWS' reason."""
    saved(1)
    event, sent = failed_job(), []

    def refuse_tags(params, request_signer, model, **_):
        sent.append(json.loads(params["body"]))
        if sent[-1].get("tags"):
            return denied("batch:TagResource", "job-definition/keepfit-compute:1")
        return None

    boto3.DEFAULT_SESSION.events.register("before-call.batch.SubmitJob", refuse_tags)
    job = resubmit.handler(event, None)
    assert [bool(request.get("tags")) for request in sent] == [True, False]
    description, _ = describe(aws, job)
    assert description["container"]["command"] == COMMAND
    warning, line = log_lines()
    assert "without its tags" in warning
    assert "not authorized to perform: batch:TagResource" in warning
    assert f"submitted again as {job}" in line


def test_a_role_that_may_not_submit(failed_job, saved):
    """Any other refusal is the function's failure, of which the topic learns."""
    saved(1)
    event, sent = failed_job(), []

    def refuse(params, **_):
        sent.append(params)
        return denied("batch:SubmitJob", "job-queue/q")

    boto3.DEFAULT_SESSION.events.register("before-call.batch.SubmitJob", refuse)
    with pytest.raises(ClientError, match="batch:SubmitJob"):
        resubmit.handler(event, None)
    assert len(sent) == 1


def denied(action, resource):
    """Return AWS Batch's answer to a request that is not allowed, as botocore has parsed it."""
    who = "arn:aws:sts::123456789012:assumed-role/keepfit-compute-ResubmitRole/resubmit"
    message = (
        f"User: {who} is not authorized to perform: {action} on resource: "
        f"arn:aws:batch:us-east-1:123456789012:{resource}"
    )
    answer = {
        "Error": {"Code": "AccessDeniedException", "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": 403},
    }
    return AWSResponse("", 403, {}, None), answer


def test_only_the_rule_may_call_it(compute):
    """Its permission names the rule, and its log has a retention."""
    permission = compute["ResubmissionPermission"]["Properties"]
    assert permission["SourceArn"] == {"Fn::GetAtt": ["Resubmission", "Arn"]}
    (target,) = compute["Resubmission"]["Properties"]["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["Resubmit", "Arn"]}
    assert compute["ResubmitLogs"]["Properties"]["RetentionInDays"] == {"Ref": "LogDays"}


@pytest.mark.parametrize(
    ("event", "matches"),
    [
        (state_change(container={"exitCode": 75}), True),
        (state_change(container={}, statusReason=HOST_GONE), True),
        (state_change(container={"exitCode": 137}, statusReason=HOST_GONE), True),
        (state_change(container={"exitCode": 1}), False),
        (state_change(container={"exitCode": 78}), False),
        (state_change(container={"exitCode": 75}, jobQueue="another"), False),
        (state_change(container={"exitCode": 75}, status="runNABLE"), False),
        ({**state_change(container={"exitCode": 75}), "source": "mine"}, False),
        ({**state_change(container={"exitCode": 75}), "detail-type": "Other"}, False),
    ],
)
def test_the_rule(compute, local_aws, event, matches):
    """It matches the failed jobs of its queue that were interrupted; LocalStack evaluates it."""
    assert rule_matches(local_aws, compute["Resubmission"], event) is matches
