"""`infra up --notify`: the topic and its rules, in the template, on LocalStack and on moto.

moto creates no subscription of a template and confirms each at once; the tests subscribe addresses
themselves, and change its answer for one that is not confirmed.
"""

from __future__ import annotations

import json
import re
import uuid
from functools import reduce

import pytest
import typer
from cfnlint.decode.cfn_yaml import load

from keepfit.callbacks.logs.logger import capture_logs
from keepfit.infra.stacks import request, template
from keepfit.infra.stacks.status import read_status
from keepfit.job.commands.deployment import infra_options
from tests.infra.batch_events import HOST_GONE, queue_blocked, rule_matches, state_change
from tests.infra.conftest import keepfit

EMAILS = ("me+runs@example.com", "o'neil@mail.example.org")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The compute template as it is sent with two addresses."""
    path = tmp_path_factory.mktemp("template") / "compute.yaml"
    path.write_text(template.template_body("compute", EMAILS))
    return path


@pytest.fixture(scope="module")
def compute(path):
    return load(str(path))["Resources"]


def subscriptions(resources):
    """Return the addresses by the names of their resources."""
    return {
        name: str(resource["Properties"]["Endpoint"])
        for name, resource in resources.items()
        if resource["Type"] == "AWS::SNS::Subscription"
    }


def test_each_address_is_subscribed(compute, tmp_path):
    """By a resource whose name depends on the address only, so that others can come and go."""
    found = subscriptions(compute)
    assert sorted(found.values()) == sorted(EMAILS)
    other = tmp_path / "other.yaml"
    other.write_text(template.template_body("compute", EMAILS[1:]))
    assert subscriptions(load(str(other))["Resources"]).items() < found.items()
    other.write_text(template.template_body("compute"))
    assert subscriptions(load(str(other))["Resources"]) == {}


def test_without_addresses_there_is_nothing(compute):
    """Whatever sends mails exists with addresses only."""
    for name in ("Topic", "TopicPolicy", "JobsEnded", "QueueBlocked", *subscriptions(compute)):
        assert compute[name]["Condition"] == "HasEmails"
        assert "DeletionPolicy" not in compute[name]
    for name in ("ResubmitPublishes", "ResubmitFailures"):
        assert compute[name]["Condition"] == "HasEmails"
    condition, given, absent = compute["Resubmit"]["Properties"]["Environment"]["Fn::If"]
    assert (condition, absent) == ("HasEmails", {"Ref": "AWS::NoValue"})
    assert given == {"Variables": {"TOPIC": {"Ref": "Topic"}}}


def test_who_may_publish(compute):
    """EventBridge for the two rules of this stack, and the function; to this topic only."""
    (statement,) = compute["TopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Allow", "sns:Publish")
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Resource"] == {"Ref": "Topic"}
    rules = [{"Fn::GetAtt": ["JobsEnded", "Arn"]}, {"Fn::GetAtt": ["QueueBlocked", "Arn"]}]
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": rules}}
    publishes = compute["ResubmitPublishes"]["Properties"]
    assert publishes["Roles"] == [{"Ref": "ResubmitRole"}]
    (statement,) = publishes["PolicyDocument"]["Statement"]
    assert (statement["Action"], statement["Resource"]) == ("sns:Publish", {"Ref": "Topic"})


JOBS = [
    (state_change(status="SUCCEEDED", container={"exitCode": 0}), True),
    (state_change(container={"exitCode": 1}), True),
    (state_change(container={"exitCode": 137}, statusReason="OutOfMemoryError"), True),
    (state_change(container={}), True),
    (state_change(container={}, statusReason="Job timed out"), True),
    (state_change(container={"exitCode": 75}), False),
    (state_change(container={}, statusReason=HOST_GONE), False),
    (state_change(container={"exitCode": 137}, statusReason=HOST_GONE), False),
    (state_change(status="RUNNING", container={}), False),
    (state_change(status="SUCCEEDED", jobQueue="another"), False),
    (state_change(container={"exitCode": 1}, jobQueue="another"), False),
    ({**state_change(container={"exitCode": 1}), "source": "mine"}, False),
    (queue_blocked(), False),
]
BLOCKED = [
    (queue_blocked(), True),
    (queue_blocked(statusReason="MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT"), True),
    (queue_blocked(jobQueue="another"), False),
    ({**queue_blocked(), "source": "mine"}, False),
    (state_change(container={"exitCode": 1}), False),
]


def test_the_rules(compute, local_aws):
    """A failed job is either reported or left to the function, and no other queue counts."""
    for event, matches in JOBS:
        assert rule_matches(local_aws, compute["JobsEnded"], event) is matches, event
        if event["detail"]["status"] == "FAILED" and event["detail"]["jobQueue"] == "queue":
            left = rule_matches(local_aws, compute["Resubmission"], event)
            assert left is not matches or event["source"] == "mine"
    for event, matches in BLOCKED:
        assert rule_matches(local_aws, compute["QueueBlocked"], event) is matches, event


SENT = ("Topic", "TopicPolicy", "JobsEnded", "QueueBlocked")
"""The resources of the template that LocalStack creates."""


@pytest.fixture
def topic(path, local_aws):
    """The topic of a stack with these resources, whose queue is called "queue"."""
    whole = json.loads(json.dumps(load(str(path))))
    wanted = (*SENT, *subscriptions(whole["Resources"]))
    body = {
        "Parameters": {"Emails": whole["Parameters"]["Emails"], "Queue": {"Type": "String"}},
        "Conditions": {"HasEmails": whole["Conditions"]["HasEmails"]},
        "Resources": {name: whole["Resources"][name] for name in wanted},
        "Outputs": {"Topic": {"Value": {"Ref": "Topic"}}},
    }
    name = f"emails-{uuid.uuid4().hex[:8]}"
    cloudformation = local_aws("cloudformation")
    given = {"Emails": ",".join(EMAILS), "Queue": "queue"}
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=json.dumps(body),
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in given.items()],
    )
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=name, WaiterConfig={"Delay": 0.2, "MaxAttempts": 300}
    )
    (stack,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
    yield stack["Outputs"][0]["OutputValue"]
    cloudformation.delete_stack(StackName=name)


def test_localstack_creates_it(topic, local_aws):
    """Each address gets a subscription, and only the rules of the stack may send to the topic."""
    listed = local_aws("sns").list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert {(s["Protocol"], s["Endpoint"]) for s in listed} == {("email", e) for e in EMAILS}
    targets = {
        rule["Name"].split("-")[2]: rule["Arn"]
        for rule in local_aws("events").list_rules()["Rules"]
        for target in local_aws("events").list_targets_by_rule(Rule=rule["Name"])["Targets"]
        if target["Arn"] == topic
    }
    assert targets.keys() == {"JobsEnded", "QueueBlocked"}
    attributes = local_aws("sns").get_topic_attributes(TopicArn=topic)["Attributes"]
    (statement,) = json.loads(attributes["Policy"])["Statement"]
    assert statement["Resource"] == topic
    allowed = statement["Condition"]["ArnEquals"]["aws:SourceArn"]
    assert sorted(allowed) == sorted(targets.values())


JOB = {"jobName": "mnist", "jobId": "4c7599ae"}


@pytest.mark.parametrize(
    ("rule", "event", "text"),
    [
        (
            "JobsEnded",
            state_change(**JOB, container={"exitCode": 1}),
            "keepfit: job mnist has ended: FAILED (Essential container exited). Its id is "
            "4c7599ae, the time 2026-11-23T12:00:00Z. `keepfit status` shows more.",
        ),
        (
            "QueueBlocked",
            queue_blocked(**JOB),
            "keepfit: the queue is blocked by job mnist, which can't start: "
            "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY. Its id is 4c7599ae, the time "
            "2026-11-23T12:00:00Z. `keepfit infra status` shows the machines.",
        ),
    ],
)
def test_the_text_of_a_mail(compute, rule, event, text):
    """It is one sentence in quotes, as EventBridge requires of a text, with fields of the event.

    LocalStack can't transform events without a package that it does not install.
    """
    (target,) = compute[rule]["Properties"]["Targets"]
    transformer = target["InputTransformer"]
    found = transformer["InputTemplate"]
    for name, path in transformer["InputPathsMap"].items():
        value = reduce(lambda document, part: document[part], path.split(".")[1:], event)
        assert f"<{name}>" in found
        found = found.replace(f"<{name}>", value)
    assert found == f'"{text}"'


def test_a_deployment_with_addresses(aws):
    """They stay as they are, are shown with their state, and are removed; `down` removes the topic.

    moto updates no resource whose condition has changed.
    """
    printed = keepfit("up", "--yes", "--notify", EMAILS[0], "--notify", EMAILS[1])
    assert "confirmation awaited" in printed.stderr
    assert EMAILS[0] in printed.stderr
    again = keepfit("up", "--yes", "--max-vcpus", "8")
    assert "confirmation awaited" not in again.stderr
    sns = aws("sns")

    def emails():
        found = read_status(aws("cloudformation"), aws("batch"), sns, "keepfit")
        return {part.name: part.status for part in found.parts if part.kind == "email"}

    assert emails() == dict.fromkeys(EMAILS, "NOT SUBSCRIBED")
    (topic,) = sns.list_topics()["Topics"]
    sns.subscribe(TopicArn=topic["TopicArn"], Protocol="email", Endpoint=EMAILS[1])
    assert emails() == {EMAILS[0]: "NOT SUBSCRIBED", EMAILS[1]: "CONFIRMED"}

    def answer(parsed, **_):
        for subscription in parsed["Subscriptions"]:
            subscription["SubscriptionArn"] = "PendingConfirmation"

    sns.meta.events.register("after-call.sns.ListSubscriptionsByTopic", answer)
    assert emails() == {EMAILS[0]: "NOT SUBSCRIBED", EMAILS[1]: "NOT CONFIRMED"}
    lines = keepfit("status").stdout.splitlines()
    assert any(line.startswith(EMAILS[1]) and "CONFIRMED" in line for line in lines)

    printed = keepfit("up", "--yes", "--notify", "")
    assert len(re.findall(r"^Remove +Email.*AWS::SNS::Subscription", printed.stdout, re.M)) == 2
    assert re.search(r"^Topic +none$", printed.stdout, re.M)
    assert emails() == {}
    keepfit("down", "--yes")
    assert sns.list_topics()["Topics"] == []


@pytest.mark.parametrize(
    ("given", "read"),
    [(None, None), ([""], ()), (["", EMAILS[0], EMAILS[0]], EMAILS[:1]), ([*EMAILS], EMAILS)],
)
def test_the_option(given, read):
    """Not given, emptied, or the addresses without repetition."""
    assert infra_options.emails(given) == read
    parameters = request.compute_parameters(
        request.DeploymentRequest(image="x", emails=read),
        {},
        dict.fromkeys(("Bucket", "Prefix", "JobRole", "KmsKey"), ""),
    )
    assert parameters.get("Emails") == (None if read is None else ",".join(read))


@pytest.mark.parametrize(
    "address",
    ["me", "me@", "me@host", "a b@x.example", "a,b@x.example", 'a"@x.example', "me@x.example\n"],
)
def test_no_address(address):
    """One line names it, and nothing is done."""
    with capture_logs() as logs, pytest.raises(typer.Exit) as ended:
        infra_options.emails([EMAILS[0], address])
    (line,) = logs
    assert (ended.value.exit_code, repr(address) in line["reason"]) == (2, True)
