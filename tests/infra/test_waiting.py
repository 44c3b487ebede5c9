"""The function that ends or moves jobs without a machine, on moto's AWS Batch in two regions.

moto's jobs wait for a job that never ends: the tests make them RUNNABLE in its answers, and add
what moto does not keep.
"""

from __future__ import annotations

import ast
import os
import time
import uuid

import boto3
import pytest
from botocore.exceptions import ClientError
from cfnlint.decode.cfn_yaml import load

from keepfit.infra import deployment
from keepfit.infra.functions import waiting
from keepfit.infra.stacks import template
from tests.e2e.process import ROOT
from tests.iam.calls import of_call
from tests.iam.policies import Request, refused
from tests.iam.templates import SAMPLES, role_statements
from tests.infra.batch_events import queue_blocked, rule_matches
from tests.infra.conftest import create_topic, keepfit, own_actions, use_endpoint
from tests.servers.moto import end_at_once, reset, run_in_containers

FIRST, SECOND = "us-east-1", "eu-west-1"
SOURCE = (ROOT / "infra/functions/waiting.py").read_text()
NEEDS = [{"type": "VCPU", "value": "4"}, {"type": "MEMORY", "value": "8192"}]
DRY = "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY - Service cannot fulfill the capacity requested"
MINUTE = 60


@pytest.fixture(scope="module")
def aws(moto_server):
    """One account for all tests of this module; each test has its own run."""
    reset(moto_server)
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_endpoint(moto_server, monkeypatch)
        yield boto3.client


@pytest.fixture(scope="module")
def deployed(aws, moto_server):
    """A deployment in two regions; jobs move after 30 minutes."""
    keepfit("up", "--yes", "--max-vcpus", "16")
    store = deployment.find_deployment(aws("cloudformation")).store
    keepfit("up", "--yes", "--region", SECOND, "--store", store)
    run_in_containers(moto_server)
    return deployment.find_deployment(aws("cloudformation"))


@pytest.fixture
def environment(deployed, monkeypatch):
    """Give the function the variables that the template of the first region gives it."""
    variables = {
        "QUEUE": deployed.queue,
        "VCPUS": "16 0",
        "OTHER_REGION": SECOND,
        "OTHER_QUEUE": deployed.other.queue,
        "MOVE_AFTER": "30",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.fixture
def job(deployed, environment):
    """Return a function that submits a job whose run is its name, RUNNABLE for some minutes.

    DescribeJobs then reports the given attributes.
    """
    described = {}

    def list_runnable(params, context, **_):
        if context["client_region"] == FIRST and params.get("jobStatus") == "RUNNABLE":
            del params["jobStatus"]
            params["filters"] = [{"name": "JOB_NAME", "values": ["*"]}]

    def leave_out_others(parsed, context, **_):
        if context["client_region"] == FIRST:
            parsed["jobSummaryList"] = [
                found for found in parsed["jobSummaryList"] if found["jobId"] in described
            ]

    def keep_pending(params, **_):
        params.setdefault("dependsOn", [{"jobId": str(uuid.uuid4())}])

    def describe(parsed, context, **_):
        for found in parsed["jobs"]:
            given = described.get(found["jobId"], {})
            container = {"resourceRequirements": NEEDS, **given.get("container", {})}
            found |= {**given, "container": found["container"] | container}

    boto3.setup_default_session()
    events = boto3.DEFAULT_SESSION.events
    events.register("provide-client-params.batch.ListJobs", list_runnable)
    events.register("after-call.batch.ListJobs", leave_out_others)
    events.register("provide-client-params.batch.SubmitJob", keep_pending)
    events.register("after-call.batch.DescribeJobs", describe)

    def submit(minutes, reason=DRY, variables=None, name=None, **more):
        run = name or f"mnist-{uuid.uuid4().hex[:8]}"
        named = {"KEEPFIT_RUN": run, "KEEPFIT_OTHER_JOB": deployed.other.job, "MINE": "a b"}
        named |= variables or {}
        submitted = boto3.client("batch").submit_job(
            jobName=run,
            jobQueue=deployed.queue,
            jobDefinition=deployed.job,
            tags={"keepfit:run": run},
            containerOverrides={
                "command": ["run", "/job/train.py"],
                "environment": [{"name": k, "value": v} for k, v in named.items()],
            },
        )
        created = int((time.time() - minutes * MINUTE) * 1000)
        state = {"status": "RUNNABLE", "createdAt": created}
        state |= {"statusReason": reason} if reason else {}
        described[submitted["jobId"]] = state | more
        return submitted["jobId"], run

    return submit


@pytest.fixture
def there(deployed):
    """Return a function that returns the jobs of a run in the second region."""
    batch = boto3.client("batch", region_name=SECOND)

    def jobs(run):
        found = batch.list_jobs(
            jobQueue=deployed.other.queue, filters=[{"name": "JOB_NAME", "values": [run]}]
        )["jobSummaryList"]
        return batch.describe_jobs(jobs=[j["jobId"] for j in found])["jobs"] if found else []

    return jobs


@pytest.fixture
def call(job):
    """Return a function that calls the handler, and returns the jobs that it has ended.

    moto ends them half a second later.
    """
    ended = []

    def record(params, context, **_):
        ended.append((context["client_region"], params["jobId"], params["reason"]))

    def handle():
        boto3.DEFAULT_SESSION.events.register(
            "provide-client-params.batch.TerminateJob", record, unique_id="record"
        )
        del ended[:]
        waiting.handler({}, None)
        return list(ended)

    return handle


@pytest.fixture
def published(aws, environment):
    """Return a function that returns the messages of a topic, whose address the function has."""
    topic, messages = create_topic(aws, uuid.uuid4().hex)
    environment.setenv("TOPIC", topic)
    return messages


def variables_of(job):
    return {v["name"]: v["value"] for v in job["container"]["environment"]}


def test_a_job_goes_on_in_the_other_region(deployed, job, there, call, log_lines, published):
    """The same job is submitted there, with that region's definition; then it is ended here."""
    sent = []
    moved, run = job(31, variables={"KEEPFIT_MAX_WAIT": "3600", "AWS_REGION": FIRST})
    boto3.DEFAULT_SESSION.events.register(
        "provide-client-params.batch.SubmitJob", lambda params, **_: sent.append(params)
    )
    ended = call()
    (found,) = there(run)
    assert ended == [
        (FIRST, moved, f"no capacity for 31 minutes: goes on in {SECOND}, job {found['jobId']}")
    ]
    assert found["jobQueue"] == deployed.other.queue
    assert found["jobDefinition"] == deployed.other.job
    assert found["tags"] == {"keepfit:run": run}
    assert found["container"]["command"] == ["run", "/job/train.py"]
    assert sent[0]["containerOverrides"]["resourceRequirements"] == NEEDS
    variables = variables_of(found)
    since = int(variables.pop("KEEPFIT_WAITING_SINCE"))
    assert abs(time.time() - 31 * MINUTE - since) < 10
    assert variables["AWS_REGION"] == variables["AWS_DEFAULT_REGION"] == SECOND
    assert variables["MINE"] == "a b"
    assert "KEEPFIT_OTHER_JOB" not in variables
    assert variables["KEEPFIT_MAX_WAIT"] == "3600"
    assert variables["AWS_BATCH_JOB_ID"] == found["jobId"]
    (line,) = log_lines()
    assert line == f"job {run} ({moved}) goes on in {SECOND} as job {found['jobId']}: " + (
        "no capacity for 31 minutes"
    )
    assert published() == [f"keepfit: {line}"]


def test_it_is_moved_once(job, there, call):
    """A second call, and one after a call that was killed in between, find the job there."""
    moved, run = job(40)

    def killed(**_):
        raise KeyboardInterrupt

    events = boto3.DEFAULT_SESSION.events
    events.register("before-call.batch.TerminateJob", killed)
    with pytest.raises(KeyboardInterrupt):
        waiting.handler({}, None)
    assert len(there(run)) == 1
    events.unregister("before-call.batch.TerminateJob", killed)
    for _ in range(2):
        assert [one for _, one, _ in call()] == [moved]
        assert len(there(run)) == 1


def test_a_run_that_has_been_there(deployed, job, there, call, moto_server):
    """A job of the run that is over does not continue it."""
    _, run = job(40)
    end_at_once(moto_server)
    before = boto3.client("batch", region_name=SECOND).submit_job(
        jobName=run,
        jobQueue=deployed.other.queue,
        jobDefinition=deployed.other.job,
        containerOverrides={"environment": [{"name": "KEEPFIT_RUN", "value": run}]},
    )
    run_in_containers(moto_server)
    call()
    assert before["jobId"] in [found["jobId"] for found in there(run)]
    assert len(there(run)) == 2


def test_another_run_of_the_same_name(job, there, call):
    """AWS Batch's names are less exact than those of runs: such a job there is not this one."""
    name = f"name-{uuid.uuid4().hex[:8]}"
    for run in ("a.b", "a-b"):
        job(40, name=name, variables={"KEEPFIT_RUN": run})
    call()
    assert {variables_of(found)["KEEPFIT_RUN"] for found in there(name)} == {"a.b", "a-b"}


@pytest.mark.parametrize(
    ("minutes", "given"),
    [
        (29, {}),
        (500, {"reason": "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT - no machine is large enough"}),
        (500, {"variables": {"KEEPFIT_RUN": ""}}),
    ],
    ids=["not yet", "it fits no machine", "not keepfit's"],
)
def test_jobs_that_stay(job, there, call, minutes, given):
    """A job that waits for a short time, or for another reason, is left alone."""
    _, run = job(minutes, **given)
    if "variables" in given:
        boto3.DEFAULT_SESSION.events.register("after-call.batch.DescribeJobs", without_run)
    assert call() == []
    assert there(run) == []


def without_run(parsed, **_):
    """Let DescribeJobs return jobs of other programs."""
    for job in parsed["jobs"]:
        job["container"]["environment"] = []


def test_without_a_reason(job, there, call):
    """AWS Batch often gives none: a job that fits within the limit of vCPUs lacks capacity.

    A job behind it that does not fit waits for its turn, unless there is a reason.
    """
    runs = [job(50 - n, reason="")[1] for n in range(5)]  # 4 vCPUs each, of 16
    runs.append(job(40, reason=DRY)[1])
    assert len(call()) == 5
    assert [len(there(run)) for run in runs] == [1, 1, 1, 1, 0, 1]


def test_a_definition_of_its_own(job, there, call):
    """A job with another image goes on with the definition that its submission has named."""
    other = boto3.client("batch", region_name=SECOND).register_job_definition(
        jobDefinitionName="keepfit-compute-0123",
        type="container",
        containerProperties={"image": "mine:7", "vcpus": 1, "memory": 100},
    )["jobDefinitionArn"]
    _, run = job(40, variables={"KEEPFIT_OTHER_JOB": other})
    call()
    (found,) = there(run)
    assert found["jobDefinition"] == other


@pytest.mark.parametrize("kind", ["definition", "region", "secret"])
def test_what_the_other_region_lacks(deployed, job, there, call, log_lines, published, kind):
    """Such a job stays; each call logs it, and the topic learns of it once."""
    secret = {"secrets": [{"name": "KEY", "valueFrom": "arn:aws:ssm:…"}]}
    in_a_third = deployed.other.job.replace(SECOND, "us-west-2")
    given = {
        "definition": {"variables": {"KEEPFIT_OTHER_JOB": ""}},
        "region": {"variables": {"KEEPFIT_OTHER_JOB": in_a_third}},
        "secret": {"container": secret},
    }[kind]
    _, run = job(31, **given)
    _, late = job(40, **given)
    assert call() == []
    assert there(run) == there(late) == []
    lines = log_lines()
    assert len(lines) == 2
    assert all("eu-west-1 lacks the job's definition or its secrets" in line for line in lines)
    assert published() == [f"keepfit: {line}" for line in lines if run in line]


def test_it_still_has_its_own_limit(job, there, call):
    """A job that can't be moved is ended by --max-wait, which is longer."""
    secret = {"secrets": [{"name": "KEY", "valueFrom": "arn:aws:ssm:…"}]}
    waited, run = job(61, container=secret, variables={"KEEPFIT_MAX_WAIT": "3600"})
    assert [one for _, one, _ in call()] == [waited]
    assert there(run) == []


def test_max_wait(job, there, call, log_lines, published, environment):
    """A job that waits longer than its own limit is ended, with a reason; the run can go on."""
    variables = {"KEEPFIT_MAX_WAIT": "1200"}
    waited, run = job(21, variables=variables)
    job(19, variables=variables)
    assert call() == [(FIRST, waited, "waited 21 minutes for a machine (--max-wait)")]
    assert there(run) == []
    (line,) = log_lines()
    assert f"job {run} ({waited}) was ended" in line
    assert "`keepfit submit --resume` continues" in line
    assert published() == [f"keepfit: {line}"]
    for name in ("OTHER_REGION", "OTHER_QUEUE", "TOPIC"):
        environment.delenv(name)
    assert [one for _, one, _ in call()] == [waited]


@pytest.mark.parametrize(
    ("stopped", "since", "ends"),
    [(5, None, False), (25, None, True), (5, 60, False), (None, 25, True), (None, 15, False)],
)
def test_the_time_that_counts(job, call, stopped, since, ends):
    """It begins at the end of the last attempt; without one, also in the first region."""
    now = time.time()
    variables = {"KEEPFIT_MAX_WAIT": "1200"}
    variables |= {"KEEPFIT_WAITING_SINCE": str(int(now - since * MINUTE))} if since else {}
    stops = [] if stopped is None else [300, stopped]
    attempts = [{"stoppedAt": int((now - m * MINUTE) * 1000)} for m in stops]
    waited, _ = job(400 if stopped else 1, variables=variables, attempts=attempts)
    assert call() == ([(FIRST, waited, "waited 25 minutes for a machine (--max-wait)")] * ends)


def test_a_refusal_of_one_job(job, there, call, log_lines):
    """What AWS refuses for one job does not keep the others waiting."""
    _, refused = job(45)
    _, moved = job(40)

    def refuse(params, **_):
        if params["jobName"] == refused:
            error = {"Error": {"Code": "AccessDeniedException", "Message": "not authorized"}}
            raise ClientError(error, "SubmitJob")

    boto3.DEFAULT_SESSION.events.register("provide-client-params.batch.SubmitJob", refuse)
    assert len(call()) == 1
    assert (there(refused), len(there(moved))) == ([], 1)
    assert "AccessDeniedException" in log_lines()[0]


# The template.


@pytest.fixture(scope="module")
def compute():
    return load(str(ROOT / "infra/templates/compute.yaml"))["Resources"]


def test_the_template_contains_the_module(tmp_path):
    """The template that is sent has the module's source and all variables that it reads."""
    body = template.template_body("compute", [f"someone{n}@example.com" for n in range(20)])
    path = tmp_path / "compute.yaml"
    path.write_text(body)
    function = load(str(path))["Resources"]["Waiting"]["Properties"]
    code = function["Code"]["ZipFile"]
    assert ast.dump(ast.parse(code).body[-1]) in ast.dump(ast.parse(SOURCE))
    assert function["Handler"] == f"index.{waiting.handler.__name__}"
    assert len(body.encode()) <= 51_200
    read = {
        node.slice.value
        for node in ast.walk(ast.parse(SOURCE))
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ"
    }
    assert read == set(function["Environment"]["Variables"])


def test_its_role_is_minimal(compute):
    """It may read jobs and end them here, and submit to one queue there; nothing else."""
    (policy,) = compute["WaitingRole"]["Properties"]["Policies"]
    statements = [
        *policy["PolicyDocument"]["Statement"],
        *compute["WaitingMoves"]["Properties"]["PolicyDocument"]["Statement"],
        *compute["WaitingPublishes"]["Properties"]["PolicyDocument"]["Statement"],
    ]
    assert {s["Sid"]: s["Action"] for s in statements} == {
        "TheJobs": ["batch:ListJobs", "batch:DescribeJobs"],
        "TheirEnd": "batch:TerminateJob",
        "Logs": ["logs:CreateLogStream", "logs:PutLogEvents"],
        "InTheOtherRegion": ["batch:SubmitJob", "batch:TagResource"],
        "EndedOrMoved": "sns:Publish",
    }
    assert [s["Sid"] for s in statements if s["Resource"] == "*"] == ["TheJobs"]
    (move,) = [s for s in statements if s["Sid"] == "InTheOtherRegion"]
    queue, definitions, _ = move["Resource"]
    assert queue == {"Ref": "OtherQueue"}
    assert definitions["Fn::Sub"].endswith(":job-definition/${AWS::StackName}*")
    assert compute["WaitingMoves"]["Condition"] == "HasOtherRegion"
    (trust,) = compute["WaitingRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_its_role_allows_each_of_its_calls(deployed, job, published):
    """Of a job that is moved and one that is ended; in the other region it may end none."""
    topic = os.environ["TOPIC"]
    names = {"OtherQueue": deployed.other.queue, "OtherRegion": SECOND, "Topic": topic}
    statements = role_statements("compute", "WaitingRole", SAMPLES | names)
    job(31)
    ended, _ = job(31, variables={"KEEPFIT_MAX_WAIT": "600"})
    made = []

    def record(params, model, context, **_):
        service, operation = model.service_model.service_name, model.name
        if operation == "TerminateJob":
            arn = f"arn:aws:batch:{context['client_region']}:123456789012:job/{params['jobId']}"
            made.append(Request("batch:TerminateJob", arn))
        else:
            made.extend(of_call(service, operation, params))

    boto3.DEFAULT_SESSION.events.register("provide-client-params", record)
    waiting.handler({}, None)
    boto3.setup_default_session()
    assert refused(statements, made) == []
    assert {request.action for request in made} == own_actions(statements)
    others = [
        Request("batch:SubmitJob", deployed.queue),
        Request("batch:SubmitJob", f"{deployed.other.queue}-of-others"),
        Request("batch:SubmitJob", deployed.other.job.replace("/keepfit", "/another")),
        Request("batch:TerminateJob", f"arn:aws:batch:{SECOND}:123456789012:job/{ended}"),
    ]
    assert len(refused(statements, others)) == len(others)


def test_only_the_rule_may_call_it(compute):
    """Every five minutes, or if the queue is blocked; its log has a retention."""
    permission = compute["WaitPermission"]["Properties"]
    assert permission["SourceArn"] == {"Fn::GetAtt": ["Wait", "Arn"]}
    rule = compute["Wait"]["Properties"]
    assert rule["ScheduleExpression"] == "rate(5 minutes)"
    assert waiting.PERIOD == 5 * MINUTE
    (target,) = rule["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["Waiting", "Arn"]}
    assert compute["WaitingLogs"]["Properties"]["RetentionInDays"] == {"Ref": "LogDays"}


@pytest.mark.parametrize(
    ("event", "matches"),
    [
        (queue_blocked(), True),
        (queue_blocked(statusReason=DRY), True),
        (queue_blocked(statusReason="MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"), False),
        (queue_blocked(jobQueue="another"), False),
    ],
)
def test_the_rule(compute, local_aws, event, matches):
    """It matches queues of the stack that lack capacity; LocalStack evaluates it."""
    assert rule_matches(local_aws, compute["Wait"], event) is matches
