"""`keepfit infra`, from the first `up` to the last `down`, at moto's server.

moto creates no S3::BucketPolicy, knows of stacks only that they begin and end, fails in no
creation, and applies no changed parameter to a resource; tests/servers/moto.py says what it is
helped with. What fails is tested on LocalStack.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from keepfit.infra import deployment
from keepfit.infra.aws import AwsError
from keepfit.infra.stacks import network, request
from tests.infra.conftest import keepfit, refused
from tests.servers.moto import run_in_containers
from tests.servers.processes import free_port


def stacks(aws):
    """The state of each stack."""
    found = aws("cloudformation").describe_stacks()["Stacks"]
    return {stack["StackName"]: stack["StackStatus"] for stack in found}


def parameters(aws):
    """Those of the compute stack."""
    (stack,) = aws("cloudformation").describe_stacks(StackName="keepfit-compute")["Stacks"]
    return {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}


@pytest.fixture
def deployed(aws):
    keepfit("up", "--yes")
    return deployment.find_deployment(aws("cloudformation"))


def test_up_makes_what_submit_needs(aws):
    """Both stacks, their changes shown first; the job has its store, its image and its log."""
    printed = keepfit("up", "--yes").stdout
    assert printed.index("Add     Bucket") < printed.index("CREATE_COMPLETE")
    found = deployment.find_deployment(aws("cloudformation"))
    assert found.store == f"s3://{found.bucket}/runs"
    (job,) = aws("batch").describe_job_definitions(jobDefinitions=[found.job])["jobDefinitions"]
    container = job["containerProperties"]
    assert container["image"] == f"{found.repository}:latest"
    assert {"name": "KEEPFIT_STORE", "value": found.store} in container["environment"]
    assert container["jobRoleArn"] == found.job_role
    assert aws("s3").list_objects_v2(Bucket=found.bucket)["KeyCount"] == 0
    (queue,) = aws("batch").describe_job_queues(jobQueues=[found.queue])["jobQueues"]
    assert queue["state"] == "ENABLED"
    vpc = aws("ec2").describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])
    assert parameters(aws)["Vpc"] == vpc["Vpcs"][0]["VpcId"]


def test_up_again_changes_nothing(deployed, aws):
    """It says so, and does nothing."""
    printed = keepfit("up", "--yes").stdout
    assert "keepfit-storage: nothing changes" in printed
    assert "keepfit-compute: nothing changes" in printed
    assert set(stacks(aws).values()) == {"CREATE_COMPLETE"}


def test_what_is_not_given_stays(aws):
    """A later `up` changes what its flags name, and nothing else."""
    keepfit("up", "--yes", "--gpu", "--max-vcpus", "8", "--image", "mine:1", "--prefix", "a/b")
    first = parameters(aws)
    assert first["InstanceTypes"] == request.GPU_TYPES
    assert (first["Gpu"], first["Prefix"]) == ("true", "a/b")
    keepfit("up", "--yes", "--max-vcpus", "16", "--on-demand-vcpus", "4")
    assert parameters(aws) == {**first, "MaxVcpus": "16", "OnDemandVcpus": "4"}


def test_machines_fit_the_image(aws):
    """--gpu and --no-gpu bring their usual types along; types that were named stay."""
    before = {"Gpu": "true", "InstanceTypes": "g5.xlarge", "Vpc": "vpc-1"}
    asked = {
        given: request.region_parameters(request.DeploymentRequest(gpu=given), before, aws("ec2"))
        for given in (None, True, False)
    }
    assert (asked[None], asked[True]) == ({}, {})
    assert asked[False] == {"InstanceTypes": request.CPU_TYPES}


def test_a_region_with_fewer_machines(aws):
    """Of the usual families, those that it has; AWS Batch would refuse the others, and all."""
    ec2 = aws("ec2")
    assert network.offered_types(ec2, ["c6i", "c99x", "g5"]) == ("c6i", "g5")
    with pytest.raises(AwsError, match=r"c99x.*--instance-types"):
        network.offered_types(ec2, ["c99x"])


def test_a_network_of_ones_own(aws):
    """--vpc takes all of its subnets, --subnets tells the VPC; what does not fit is refused."""
    ec2 = aws("ec2")
    vpcs = [ec2.create_vpc(CidrBlock=f"10.{n}.0.0/16")["Vpc"]["VpcId"] for n in (1, 2)]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.{n}.{k}.0/24")["Subnet"]["SubnetId"]
        for n, vpc in zip((1, 2), vpcs, strict=True)
        for k in (0, 1)
    ]
    other, mixed = ",".join(subnets[2:]), ",".join(subnets[1:3])
    assert "not of one VPC" in refused("up", "--yes", "--subnets", mixed, code=78)
    assert "not of vpc" in refused("up", "--yes", "--vpc", vpcs[0], "--subnets", other, code=78)
    assert "no VPC vpc-0" in refused("up", "--yes", "--vpc", "vpc-0", code=78)
    assert "subnet-0" in refused("up", "--yes", "--subnets", "subnet-0", code=78)
    assert stacks(aws) == {}
    keepfit("up", "--yes", "--subnets", subnets[2])
    assert (parameters(aws)["Vpc"], parameters(aws)["Subnets"]) == (vpcs[1], subnets[2])
    keepfit("up", "--yes", "--vpc", vpcs[0])
    assert parameters(aws)["Subnets"] == ",".join(sorted(subnets[:2]))


def test_no_default_vpc(aws):
    """One line with the way out, before anything is made."""
    ec2 = aws("ec2")
    (vpc,) = ec2.describe_vpcs()["Vpcs"]
    for subnet in ec2.describe_subnets()["Subnets"]:
        ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    ec2.delete_vpc(VpcId=vpc["VpcId"])
    line = refused("up", "--yes", code=78)
    assert "no default VPC" in line
    assert "--vpc" in line
    assert stacks(aws) == {}


def test_status(deployed, aws):
    """Every part with its state, as a table and as JSON; what is disabled is seen."""
    found = json.loads(keepfit("status", "--json").stdout)
    kinds = [part["kind"] for part in found["parts"]]
    assert kinds == ["stack", "stack", "job queue", "compute environment"]
    assert found["outputs"]["Store"] == deployed.store
    assert {part["status"] for part in found["parts"][2:]} == {"ENABLED, VALID"}
    aws("batch").update_job_queue(jobQueue=deployed.queue, state="DISABLED")
    (line,) = (line for line in keepfit("status").stdout.splitlines() if "job queue" in line)
    assert "DISABLED, VALID" in line


def test_down_keeps_the_data(deployed, aws):
    """The stacks go; the bucket with its runs and the repository stay, and are named."""
    aws("s3").put_object(Bucket=deployed.bucket, Key="runs/a/HEAD.json", Body=b"{}")
    ended = keepfit("down", "--yes")
    assert stacks(aws) == {}
    assert deployed.bucket in ended.stderr
    assert deployed.repository in ended.stderr
    assert aws("s3").list_objects_v2(Bucket=deployed.bucket)["KeyCount"] == 1
    assert len(aws("ecr").describe_repositories()["repositories"]) == 1
    keepfit("up", "--yes")


def test_down_deletes_data_by_name_only(deployed, aws):
    """Another name deletes nothing; the right one every version, upload and image."""
    s3 = aws("s3")
    s3.put_bucket_versioning(Bucket=deployed.bucket, VersioningConfiguration={"Status": "Enabled"})
    for _ in range(2):
        s3.put_object(Bucket=deployed.bucket, Key="runs/a/HEAD.json", Body=b"{}")
    s3.delete_object(Bucket=deployed.bucket, Key="runs/a/HEAD.json")
    s3.create_multipart_upload(Bucket=deployed.bucket, Key="runs/a/shard")
    assert deployed.bucket in refused("down", "--yes", "--delete-data", "runs", code=78)
    assert len(stacks(aws)) == 2
    keepfit("down", "--yes", "--delete-data", deployed.bucket)
    assert stacks(aws) == {}
    assert s3.list_buckets()["Buckets"] == []
    assert aws("ecr").describe_repositories()["repositories"] == []


def test_down_leaves_jobs_alone(deployed, aws, moto_server):
    """While one is not over, nothing is deleted, unless --force."""
    run_in_containers(moto_server)
    # One that waits for another that never ends is the only job that moto keeps without a Docker.
    waiting = aws("batch").submit_job(
        jobName="waiting",
        jobQueue=deployed.queue,
        jobDefinition=deployed.job,
        dependsOn=[{"jobId": str(uuid.uuid4())}],
    )
    line = refused("down", "--yes", code=78)
    assert waiting["jobId"] in line
    assert "keepfit cancel" in line
    assert len(stacks(aws)) == 2
    keepfit("down", "--yes", "--force")
    assert stacks(aws) == {}


def test_nothing_there(aws):
    """One line for `status` and for `down`."""
    for command in (["status"], ["status", "--json"], ["down", "--yes"]):
        assert "there is no deployment 'keepfit'" in refused(*command, code=78)


@pytest.mark.parametrize("name", ["", "1st", "a_b", "a b", "-a", "x" * 49, "ü"])
def test_a_name_that_no_stack_can_have(aws, name):
    """It is a mistake in the command, and AWS is not asked."""
    for command in ("up", "down", "status"):
        assert "--name" in refused(command, "--name", name, code=2)


def test_nobody_to_ask(aws):
    """Without a terminal and without --yes, nothing is begun."""
    for command in ("up", "down"):
        assert "--yes" in refused(command, code=2)
    assert stacks(aws) == {}


def at_a_terminal(answer, *args):
    """The command as a process, with the answer typed."""
    here, there = pty.openpty()
    os.write(here, answer)
    command = [Path(sys.executable).with_name("keepfit"), "infra", *args]
    try:
        return subprocess.run(command, stdin=there, capture_output=True, text=True, check=False)
    finally:
        os.close(here)
        os.close(there)


def test_declined(aws):
    """At a terminal, "n" leaves nothing behind, not even a stack under review."""
    ended = at_a_terminal(b"n\n", "up")
    assert ended.returncode == 1, ended.stderr
    assert "Add     Bucket" in ended.stdout
    assert "Make these changes to keepfit-storage?" in ended.stderr
    assert '"event": "changes_declined"' in ended.stderr
    assert stacks(aws) == {}


def test_data_is_asked_for_twice(deployed, aws):
    """Without --yes, the bucket's name has to be typed once more."""
    ended = at_a_terminal(b"y\n", "down", "--delete-data", deployed.bucket)
    assert ended.returncode == 1, ended.stderr
    assert len(stacks(aws)) == 2
    ended = at_a_terminal(f"{deployed.bucket}\n".encode(), "down", "--delete-data", deployed.bucket)
    assert ended.returncode == 0, ended.stderr
    assert aws("s3").list_buckets()["Buckets"] == []


def test_no_region(aws, monkeypatch):
    """One line with the way out."""
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "AWS_REGION" in refused("up", "--yes", code=78)


def test_no_credentials(aws, monkeypatch):
    """One line with the way out."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no AWS credentials were found" in refused("up", "--yes", code=78)


def test_no_such_profile(aws, monkeypatch):
    """One line that names it."""
    monkeypatch.setenv("AWS_PROFILE", "elsewhere")
    assert "elsewhere" in refused("status", code=78)


def test_nobody_answers(aws, monkeypatch):
    """It may do so later: exit code 75."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "AWS was not reached" in refused("status", code=75)


def test_an_answer_that_is_not_of_aws(aws):
    """One line, and the stack that was under review is gone."""
    # moto answers in another format than CloudFormation where AWS Batch refuses something.
    line = refused("up", "--yes", "--instance-types", "no-such-family", code=75)
    assert "stack keepfit-compute: what answered is not AWS" in line
    assert stacks(aws) == {"keepfit-storage": "CREATE_COMPLETE"}
