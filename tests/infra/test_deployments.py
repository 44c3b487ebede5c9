"""`keepfit infra`, from the first `up` to the last `down`, on moto's server.

moto creates no S3::BucketPolicy, has only the start and end states of stacks, never fails to create
one, and applies no changed parameter to a resource; tests/servers/moto.py lists the fixes of moto.
Failing stacks are tested on LocalStack.
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
from botocore.exceptions import ClientError

from keepfit.callbacks.storage.s3.options import RequestOptions
from keepfit.infra import deployment
from keepfit.infra.aws import AwsError, explain_errors
from keepfit.infra.stacks import network, request
from tests.infra.conftest import keepfit, refused
from tests.servers.moto import run_in_containers
from tests.servers.processes import free_port


def stacks(aws):
    """Return the state of each stack by name."""
    described = aws("cloudformation").describe_stacks()["Stacks"]
    return {stack["StackName"]: stack["StackStatus"] for stack in described}


def parameters(aws):
    """Return the parameters of the compute stack."""
    (stack,) = aws("cloudformation").describe_stacks(StackName="keepfit-compute")["Stacks"]
    return {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}


@pytest.fixture
def deployed(aws):
    keepfit("up", "--yes")
    return deployment.find_deployment(aws("cloudformation"))


def test_up_creates_all_that_submit_needs(aws):
    """Both stacks, with their changes printed first; the job has its store, image and role."""
    printed = keepfit("up", "--yes").stdout
    assert printed.index("Add     Bucket") < printed.index("CREATE_COMPLETE")
    made = deployment.find_deployment(aws("cloudformation"))
    assert made.store == f"s3://{made.bucket}/runs"
    (job,) = aws("batch").describe_job_definitions(jobDefinitions=[made.job])["jobDefinitions"]
    container = job["containerProperties"]
    assert container["image"] == f"{made.repository}:latest"
    assert {"name": "KEEPFIT_STORE", "value": made.store} in container["environment"]
    assert container["jobRoleArn"] == made.job_role
    assert aws("s3").list_objects_v2(Bucket=made.bucket)["KeyCount"] == 0
    (queue,) = aws("batch").describe_job_queues(jobQueues=[made.queue])["jobQueues"]
    assert queue["state"] == "ENABLED"
    vpc = aws("ec2").describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])
    assert parameters(aws)["Vpc"] == vpc["Vpcs"][0]["VpcId"]


def test_up_again_changes_nothing(deployed, aws):
    """A second `up` prints that nothing changes, and does nothing."""
    printed = keepfit("up", "--yes").stdout
    assert "keepfit-storage: nothing changes" in printed
    assert "keepfit-compute: nothing changes" in printed
    assert set(stacks(aws).values()) == {"CREATE_COMPLETE"}


def test_up_keeps_other_parameters(aws):
    """A later `up` changes the parameters of its flags, and nothing else."""
    keepfit("up", "--yes", "--gpu", "--max-vcpus", "8", "--image", "mine:1", "--prefix", "a/b")
    first = parameters(aws)
    assert first["InstanceTypes"] == request.GPU_TYPES
    assert (first["Gpu"], first["Prefix"]) == ("true", "a/b")
    keepfit("up", "--yes", "--max-vcpus", "16", "--on-demand-vcpus", "4")
    assert parameters(aws) == {**first, "MaxVcpus": "16", "OnDemandVcpus": "4"}


KEY = "arn:aws:kms:us-east-1:123456789012:key/0ab3f8e2-8a57-4c5c-9d9b-0123456789ab"


def test_a_kms_key(aws):
    """The bucket's default encryption, the role's actions and the jobs' variables have the key."""
    assert "by its ARN" in refused("up", "--yes", "--kms-key", "alias/runs", code=78)
    assert stacks(aws) == {}
    keepfit("up", "--yes", "--kms-key", KEY)
    made = deployment.find_deployment(aws("cloudformation"))
    encryption = aws("s3").get_bucket_encryption(Bucket=made.bucket)
    (rule,) = encryption["ServerSideEncryptionConfiguration"]["Rules"]
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
    assert rule["ApplyServerSideEncryptionByDefault"] == default
    role = made.job_role.rpartition("/")[2]
    policy = aws("iam").get_role_policy(RoleName=role, PolicyName="key")["PolicyDocument"]
    (statement,) = policy["Statement"]
    assert statement["Action"] == ["kms:GenerateDataKey", "kms:Decrypt"]
    assert statement["Resource"] == KEY
    (job,) = aws("batch").describe_job_definitions(jobDefinitions=[made.job])["jobDefinitions"]
    variables = {v["name"]: v["value"] for v in job["containerProperties"]["environment"]}
    assert RequestOptions.of(variables) == RequestOptions("aws:kms", KEY, bucket_key=True)
    assert "keepfit-storage: nothing changes" in keepfit("up", "--yes").stdout
    line = refused("up", "--yes", "--kms-key", KEY.replace("ab", "cd"), code=78)
    assert f"encrypted with {KEY}" in line
    assert "--name" in line


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("alias/runs", "not by an alias"),
        (KEY.rpartition("/")[2], "arn:aws:kms:REGION:ACCOUNT:key/ID"),
        (KEY.replace("us-east-1", "eu-west-1"), "the bucket's region us-east-1 only"),
        ("", "by its ARN"),
    ],
)
def test_a_kms_key_that_can_not_be_used(key, words):
    """It is refused in one line, with the value that was received."""
    asked = request.DeploymentRequest(kms_key=key)
    with pytest.raises(AwsError) as caught:
        request.check_kms_key(asked, {}, "us-east-1")
    assert words in str(caught.value)
    assert str(caught.value).endswith(f"Received: --kms-key={key!r}")


def test_instance_types_fit_the_image(aws):
    """--gpu and --no-gpu set their usual instance types; types that were named stay."""
    before = {"Gpu": "true", "InstanceTypes": "g5.xlarge", "Vpc": "vpc-1"}
    changes = {
        gpu: request.region_parameters(request.DeploymentRequest(gpu=gpu), before, aws("ec2"))
        for gpu in (None, True, False)
    }
    assert (changes[None], changes[True]) == ({}, {})
    assert changes[False] == {"InstanceTypes": request.CPU_TYPES}


def test_a_region_with_fewer_machines(aws):
    """Only families that the region offers are used: one unknown family fails the whole stack."""
    ec2 = aws("ec2")
    assert network.offered_types(ec2, ["c6i", "c99x", "g5"]) == ("c6i", "g5")
    with pytest.raises(AwsError, match=r"c99x.*--instance-types"):
        network.offered_types(ec2, ["c99x"])


def connect(ec2, vpc, subnets):
    """Give these subnets of a VPC a way to the internet."""
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    within = [{"Name": "vpc-id", "Values": [vpc]}]
    (table,) = ec2.describe_route_tables(Filters=within)["RouteTables"]
    ec2.create_route(
        RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway
    )
    for subnet in subnets:
        ec2.modify_subnet_attribute(SubnetId=subnet, MapPublicIpOnLaunch={"Value": True})


def test_an_own_network(aws):
    """--vpc uses all of its subnets, --subnets implies the VPC; a mismatch is refused."""
    ec2 = aws("ec2")
    vpcs = [ec2.create_vpc(CidrBlock=f"10.{n}.0.0/16")["Vpc"]["VpcId"] for n in (1, 2)]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.{n}.{k}.0/24")["Subnet"]["SubnetId"]
        for n, vpc in zip((1, 2), vpcs, strict=True)
        for k in (0, 1)
    ]
    other, mixed = ",".join(subnets[2:]), ",".join(subnets[1:3])
    assert "not in one VPC" in refused("up", "--yes", "--subnets", mixed, code=78)
    assert "not in vpc" in refused("up", "--yes", "--vpc", vpcs[0], "--subnets", other, code=78)
    assert "no VPC vpc-0" in refused("up", "--yes", "--vpc", "vpc-0", code=78)
    assert "subnet-0" in refused("up", "--yes", "--subnets", "subnet-0", code=78)
    assert stacks(aws) == {}
    connect(ec2, vpcs[1], subnets[2:])
    keepfit("up", "--yes", "--subnets", subnets[2])
    assert (parameters(aws)["Vpc"], parameters(aws)["Subnets"]) == (vpcs[1], subnets[2])
    connect(ec2, vpcs[0], subnets[:2])
    keepfit("up", "--yes", "--vpc", vpcs[0])
    assert parameters(aws)["Subnets"] == ",".join(sorted(subnets[:2]))


def test_no_default_vpc(aws):
    """One line with the fix, before anything is created."""
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
    """Every part with its state, as a table and as JSON; a disabled part is shown."""
    status = json.loads(keepfit("status", "--json").stdout)
    kinds = [part["kind"] for part in status["parts"]]
    assert kinds == ["stack", "stack", "job queue", "compute environment"]
    assert status["outputs"]["Store"] == deployed.store
    assert {part["status"] for part in status["parts"][2:]} == {"ENABLED, VALID"}
    aws("batch").update_job_queue(jobQueue=deployed.queue, state="DISABLED")
    (line,) = (line for line in keepfit("status").stdout.splitlines() if "job queue" in line)
    assert "DISABLED, VALID" in line


def test_down_keeps_the_data(deployed, aws):
    """The stacks are deleted; the bucket with its runs and the repository stay, and are named."""
    aws("s3").put_object(Bucket=deployed.bucket, Key="runs/a/HEAD.json", Body=b"{}")
    ended = keepfit("down", "--yes")
    assert stacks(aws) == {}
    assert deployed.bucket in ended.stderr
    assert deployed.repository in ended.stderr
    assert aws("s3").list_objects_v2(Bucket=deployed.bucket)["KeyCount"] == 1
    assert len(aws("ecr").describe_repositories()["repositories"]) == 1
    keepfit("up", "--yes")


def test_down_deletes_data_by_name_only(deployed, aws, monkeypatch):
    """A wrong name deletes nothing; the right one deletes all versions, uploads and images."""
    s3 = aws("s3")
    s3.put_bucket_versioning(Bucket=deployed.bucket, VersioningConfiguration={"Status": "Enabled"})
    for _ in range(2):
        s3.put_object(Bucket=deployed.bucket, Key="runs/a/HEAD.json", Body=b"{}")
    s3.delete_object(Bucket=deployed.bucket, Key="runs/a/HEAD.json")
    s3.create_multipart_upload(Bucket=deployed.bucket, Key="runs/a/shard")
    assert deployed.bucket in refused("down", "--yes", "--delete-data", "runs", code=78)
    assert len(stacks(aws)) == 2
    monkeypatch.setenv("KEEPFIT_S3_REQUEST_PAYER", "owner")
    line = refused("down", "--yes", "--delete-data", deployed.bucket, code=78)
    assert "KEEPFIT_S3_REQUEST_PAYER must be 1 or 0" in line
    assert len(stacks(aws)) == 2
    monkeypatch.setenv("KEEPFIT_S3_REQUEST_PAYER", "1")
    keepfit("down", "--yes", "--delete-data", deployed.bucket)
    assert stacks(aws) == {}
    assert s3.list_buckets()["Buckets"] == []
    assert aws("ecr").describe_repositories()["repositories"] == []


def test_down_with_an_active_job(deployed, aws, moto_server):
    """While a job is active, nothing is deleted without --force."""
    run_in_containers(moto_server)
    # A job that depends on one that never ends is the only job that moto keeps without Docker.
    pending = aws("batch").submit_job(
        jobName="pending",
        jobQueue=deployed.queue,
        jobDefinition=deployed.job,
        dependsOn=[{"jobId": str(uuid.uuid4())}],
    )
    line = refused("down", "--yes", code=78)
    assert pending["jobId"] in line
    assert "keepfit cancel" in line
    assert len(stacks(aws)) == 2
    keepfit("down", "--yes", "--force")
    assert stacks(aws) == {}


def test_no_deployment(aws):
    """`status` and `down` refuse in one line."""
    for command in (["status"], ["status", "--json"], ["down", "--yes"]):
        assert "there is no deployment 'keepfit'" in refused(*command, code=78)


@pytest.mark.parametrize("name", ["", "1st", "a_b", "a b", "-a", "x" * 49, "ü"])
def test_an_invalid_name(aws, name):
    """A name that no stack can have is a usage error, without a request to AWS."""
    for command in ("up", "down", "status"):
        assert "--name" in refused(command, "--name", name, code=2)


def test_without_a_terminal(aws):
    """Without a terminal and without --yes, nothing is started."""
    for command in ("up", "down"):
        assert "--yes" in refused(command, code=2)
    assert stacks(aws) == {}


def at_a_terminal(answer, *args):
    """Run the command in a process with a terminal, and type the answer."""
    controller, terminal = pty.openpty()
    os.write(controller, answer)
    command = [Path(sys.executable).with_name("keepfit"), "infra", *args]
    try:
        return subprocess.run(command, stdin=terminal, capture_output=True, text=True, check=False)
    finally:
        os.close(controller)
        os.close(terminal)


def test_declined(aws):
    """The answer "n" at a terminal leaves nothing, not even a stack under review."""
    ended = at_a_terminal(b"n\n", "up")
    assert ended.returncode == 1, ended.stderr
    assert "Add     Bucket" in ended.stdout
    assert "Make these changes to keepfit-storage?" in ended.stderr
    assert "warning: changes declined" in ended.stderr
    assert stacks(aws) == {}


def test_deleting_data_is_confirmed_by_name(deployed, aws):
    """Without --yes, the bucket's name has to be typed once more."""
    ended = at_a_terminal(b"y\n", "down", "--delete-data", deployed.bucket)
    assert ended.returncode == 1, ended.stderr
    assert len(stacks(aws)) == 2
    ended = at_a_terminal(f"{deployed.bucket}\n".encode(), "down", "--delete-data", deployed.bucket)
    assert ended.returncode == 0, ended.stderr
    assert aws("s3").list_buckets()["Buckets"] == []


def test_no_region(aws, monkeypatch):
    """A missing region is one line with the fix."""
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "AWS_REGION" in refused("up", "--yes", code=78)


def test_no_credentials(aws, monkeypatch):
    """Missing credentials are one line with the fix."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no AWS credentials were found" in refused("up", "--yes", code=78)


def test_a_denial_has_the_reason_of_aws():
    """The line has AWS' own message, which names the action and the policy."""
    message = "User: x is not authorized to perform: s3:ListBucketVersions because no …"
    answer = {"Error": {"Code": "AccessDenied", "Message": message}}
    with pytest.raises(AwsError) as caught, explain_errors("bucket x can't be emptied"):
        raise ClientError(answer, "ListObjectVersions")
    assert "ListObjectVersions is not allowed for these credentials" in str(caught.value)
    assert message in str(caught.value)


def test_no_such_profile(aws, monkeypatch):
    """A missing profile is one line that names it."""
    monkeypatch.setenv("AWS_PROFILE", "elsewhere")
    assert "elsewhere" in refused("status", code=78)


def test_unreachable_aws(aws, monkeypatch):
    """An unreachable AWS exits with 75, as a retry may succeed."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "AWS was not reached" in refused("status", code=75)


def test_an_answer_that_is_not_from_aws(aws):
    """One line, and the stack that was under review is deleted."""
    # moto answers in another format than CloudFormation if AWS Batch refuses a request.
    line = refused("up", "--yes", "--instance-types", "no-such-family", code=75)
    assert "stack keepfit-compute: the response is not from AWS" in line
    assert stacks(aws) == {"keepfit-storage": "CREATE_COMPLETE"}
