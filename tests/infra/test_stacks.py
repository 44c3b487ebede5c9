"""Stacks on LocalStack: the storage stack from its template, and stacks that fail.

Unsupported resource types fail there, as configured by scripts/localstack. LocalStack ignores the
bucket's encryption, public access block and lifecycle, which are asserted of the template only; the
repository exists by name only. Retained resources are deleted with their stack.
"""

from __future__ import annotations

import json
import uuid

import pytest
from tenacity import Retrying, retry_if_result, wait_fixed

from keepfit.infra.stacks import stack as stacks
from keepfit.infra.stacks.changes import ChangeSet, StackDeployer, ready
from keepfit.infra.stacks.retained_data import empty_bucket
from keepfit.infra.stacks.stack import StackFailed, describe_stack

NO_BUCKET = """
Resources:
  Policy:
    Type: AWS::S3::BucketPolicy
    Properties:
      Bucket: {bucket}
      PolicyDocument: {{Version: "2012-10-17", Statement: []}}
"""
NOT_CREATED = "JobKeyPolicy"
"""A resource whose condition is false: LocalStack reports it like a created one."""

GROUP = "Resources:\n  Group: {Type: AWS::IAM::Group}"


@pytest.fixture
def cloudformation(local_aws):
    return local_aws("cloudformation")


@pytest.fixture
def name():
    return f"keepfit-{uuid.uuid4().hex[:8]}"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Poll the local server more often than CloudFormation."""
    monkeypatch.setattr(stacks, "POLL_SECONDS", 0.2)


def failing(name):
    return NO_BUCKET.format(bucket=f"{name}-nowhere")


def ignore(*_):
    """Ignore an event; confirm any question."""


def left_under_review(cloudformation, name, body=GROUP):
    """Leave a stack under review, like a process that was killed before the confirmation."""
    made = cloudformation.create_change_set(
        StackName=name, ChangeSetName="first", ChangeSetType="CREATE", TemplateBody=body
    )
    cloudformation.get_waiter("change_set_create_complete").wait(
        ChangeSetName=made["Id"], WaiterConfig={"Delay": 1}
    )
    return made["Id"]


def left_failed(cloudformation, name):
    """Leave a stack whose creation failed."""
    made = left_under_review(cloudformation, name, failing(name))
    cloudformation.execute_change_set(ChangeSetName=made, StackName=name)
    while_busy = retry_if_result(lambda stack: stack.busy)
    failed = Retrying(retry=while_busy, wait=wait_fixed(0.1))(describe_stack, cloudformation, name)
    assert failed.status in stacks.UNUSABLE_STATES


def test_the_storage_stack(cloudformation, local_aws, name):
    """It is created from its template, each resource is reported, and its bucket is usable."""
    reported = []
    deployer = StackDeployer(cloudformation, reported.append, ignore)
    made = deployer.deploy("storage", name, None, {"Prefix": "here/runs"})
    assert {"Bucket", "BucketPolicy", "Repository", "JobRole", "JobPricePolicy"} == {
        event.resource for event in reported if event.status == "CREATE_COMPLETE"
    } - {name, NOT_CREATED}
    bucket = made.outputs["Bucket"]
    assert made.outputs["Store"] == f"s3://{bucket}/here/runs"
    s3 = local_aws("s3")
    policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
    assert policy["Statement"][0]["Effect"] == "Deny"
    role = made.outputs["JobRole"].rpartition("/")[2]
    named = local_aws("iam").list_role_policies(RoleName=role)["PolicyNames"]
    assert sorted(named) == ["prices", "runs"]
    allowed = local_aws("iam").get_role_policy(RoleName=role, PolicyName="runs")["PolicyDocument"]
    assert allowed["Statement"][0]["Resource"] == f"arn:aws:s3:::{bucket}/here/runs/*"

    s3.put_object(Bucket=bucket, Key="here/runs/a/HEAD.json", Body=b"{}")
    s3.create_multipart_upload(Bucket=bucket, Key="here/runs/a/shard")
    assert empty_bucket(s3, bucket) == 1
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    stacks.delete_stack(cloudformation, made, ignore)
    assert describe_stack(cloudformation, name) is None


def test_a_creation_that_fails(cloudformation, name):
    """One line has the resource's own reason and the fix; no stack is left."""
    reported = []
    with ChangeSet(cloudformation, name, None, failing(name), {}) as change_set:
        assert [change.resource for change in change_set.changes] == ["Policy"]
        with pytest.raises(StackFailed) as failed:
            change_set.execute(reported.append)
    line = str(failed.value)
    assert f"stack {name} was not deployed: Policy (AWS::S3::BucketPolicy): " in line
    assert "The specified bucket does not exist" in line
    assert "the incomplete stack was deleted" in line
    assert "keepfit infra up" in line
    assert any(event.is_cause and event.resource == "Policy" for event in reported)
    assert describe_stack(cloudformation, name) is None


def test_a_change_that_fails(cloudformation, name):
    """One line has the resource's own reason; the stack stays."""
    with ChangeSet(cloudformation, name, None, GROUP, {}) as change_set:
        made = change_set.execute(ignore)
    more = GROUP + failing(name).partition("Resources:")[2]
    with (
        ChangeSet(cloudformation, name, made, more, {}) as change_set,
        pytest.raises(StackFailed, match="bucket does not exist; it is UPDATE_"),
    ):
        change_set.execute(ignore)
    after = describe_stack(cloudformation, name)
    assert after.id == made.id


@pytest.mark.parametrize("leave", [left_under_review, left_failed])
def test_unusable_stacks(cloudformation, name, leave):
    """A stack that an earlier process left unusable is deleted."""
    leave(cloudformation, name)
    assert ready(cloudformation, name, ignore) is None
    assert describe_stack(cloudformation, name) is None


def test_a_stack_that_is_being_changed(cloudformation, name, monkeypatch):
    """A stack that is being changed is refused, and left unchanged."""
    left_under_review(cloudformation, name)
    monkeypatch.setattr("keepfit.infra.stacks.changes.UNUSABLE_STATES", frozenset())
    with pytest.raises(Exception, match="is being changed"):
        ready(cloudformation, name, ignore)
    assert describe_stack(cloudformation, name) is not None


def test_a_template_that_is_refused(cloudformation, name):
    """An invalid template is one line, and leaves no stack under review."""
    with (
        pytest.raises(Exception, match=f"stack {name}: "),
        ChangeSet(cloudformation, name, None, "Resources: {A: {Type: 1}, B: {Ref: C}", {}),
    ):
        pass
    assert describe_stack(cloudformation, name) is None


def test_an_interruption_before_the_confirmation(cloudformation, name):
    """Ctrl-C at the question leaves no stack under review."""
    with pytest.raises(KeyboardInterrupt), ChangeSet(cloudformation, name, None, GROUP, {}):
        raise KeyboardInterrupt
    assert describe_stack(cloudformation, name) is None


def test_a_change_keeps_parameters(cloudformation, name):
    """Parameters that are not given keep their values; removed ones are not passed."""
    group = "{Type: AWS::IAM::Group}"
    rest = f"Resources:\n  First: {group}\nOutputs:\n  A: {{Value: !Ref A}}\n"
    body = "Description: x\nParameters:\n  A: {Type: String}\n  B: {Type: String}\n" + rest
    with ChangeSet(cloudformation, name, None, body, {"A": "1", "B": "2"}) as change_set:
        made = change_set.execute(ignore)
    less = body.replace("  B: {Type: String}\n", "").replace(
        "Outputs", f"  Second: {group}\nOutputs"
    )
    with ChangeSet(cloudformation, name, made, less, {}) as change_set:
        assert [(c.action, c.resource) for c in change_set.changes] == [("Add", "Second")]
        changed = change_set.execute(ignore)
    assert changed.outputs == {"A": "1"}
    stacks.delete_stack(cloudformation, changed, ignore)
