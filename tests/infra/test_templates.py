"""Properties of the templates that no emulator checks."""

from __future__ import annotations

import subprocess
import sys
from email import message_from_string
from fnmatch import fnmatch
from pathlib import Path

import pytest
from cfnlint.decode.cfn_yaml import load

from keepfit.callbacks.storage.s3.options import KMS_KEY, VARIABLES, RequestOptions
from keepfit.infra.jobs.request import resources
from keepfit.infra.stacks import template
from keepfit.infra.stacks.request import CPU_TYPES
from tests.e2e.process import ROOT


@pytest.fixture(scope="module")
def storage():
    return load(str(ROOT / "infra/templates/storage.yaml"))["Resources"]


@pytest.fixture(scope="module")
def compute():
    return load(str(ROOT / "infra/templates/compute.yaml"))["Resources"]


def properties(resources, name):
    return resources[name]["Properties"]


@pytest.mark.parametrize("kind", ["storage", "compute"])
def test_cfn_lint_finds_nothing(kind, tmp_path):
    """Every type, property and value is valid in CloudFormation, with all that is filled in."""
    path = tmp_path / f"{kind}.yaml"
    given = {
        "Emails": "me+a@example.com,o'neil@example.org",
        "EgressPorts": "5432,8080",
        "Reads": "s3://data-a,s3://data-b/some folder/x=1,s3://data-b/file.tfrecord",
    }
    path.write_text(template.template_of(kind, given))
    tool = Path(sys.executable).with_name("cfn-lint")
    ended = subprocess.run([tool, path], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_the_bucket_outlives_its_stack(storage):
    """Deleting or replacing the stack keeps the bucket and the repository."""
    for name in ("Bucket", "Repository"):
        assert storage[name]["DeletionPolicy"] == "Retain"
        assert storage[name]["UpdateReplacePolicy"] == "Retain"


def test_the_bucket_is_private(storage):
    """Encrypted, without ACLs, with all four public access blocks, and TLS only."""
    bucket = properties(storage, "Bucket")
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    blocks = bucket["PublicAccessBlockConfiguration"]
    assert len(blocks) == 4
    assert set(map(str, blocks.values())) <= {"True", "true"}
    (statement,) = properties(storage, "BucketPolicy")["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert len(statement["Resource"]) == 2


def test_unfinished_uploads_are_removed(storage):
    """Parts of unfinished uploads are deleted, and so not billed, after a few days."""
    (rule,) = properties(storage, "Bucket")["LifecycleConfiguration"]["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] <= 7
    assert "Prefix" not in rule


def statements(storage):
    (policy,) = properties(storage, "JobRole")["Policies"]
    return policy["PolicyDocument"]["Statement"]


def test_the_role_of_a_job_is_minimal(storage):
    """The statements list exactly the actions in docs/s3.md, on one prefix."""
    allowed = {action for statement in statements(storage) for action in statement["Action"]}
    page = (ROOT / "docs/s3.md").read_text()
    policy = page[page.index('{"Version": "2012-10-17"') :]
    policy = policy[: policy.index("```")]
    assert all(f'"{action}"' in policy for action in allowed)
    assert policy.count('"s3:') == len(allowed)
    objects, listings, uploads = statements(storage)
    assert objects["Resource"] == {"Fn::Sub": "${Bucket.Arn}/${Prefix}/*"}
    assert uploads == {
        "Sid": "UnfinishedUploads",
        "Effect": "Allow",
        "Action": ["s3:ListBucketMultipartUploads"],
        "Resource": {"Fn::GetAtt": ["Bucket", "Arn"]},
    }
    assert listings["Condition"]["StringLike"]["s3:prefix"] == [
        {"Ref": "Prefix"},
        {"Fn::Sub": "${Prefix}/*"},
    ]
    assert not any("*" in action for action in allowed)


def test_only_jobs_of_this_account_can_assume_the_role(storage):
    """The account condition prevents a confused deputy: tasks of other accounts are refused."""
    (trust,) = properties(storage, "JobRole")["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
    assert trust["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def test_a_container_can_reach_imds(compute):
    """IMDSv2 is required, with a hop limit that also reaches a container behind a bridge."""
    options = properties(compute, "LaunchTemplate")["LaunchTemplateData"]["MetadataOptions"]
    assert options["HttpTokens"] == "required"
    assert int(options["HttpPutResponseHopLimit"]) == 2


def test_user_data_is_multipart_and_drains(compute):
    """AWS Batch accepts MIME multi-part only; draining is off unless it is enabled."""
    data = properties(compute, "LaunchTemplate")["LaunchTemplateData"]["UserData"]["Fn::Base64"]
    message = message_from_string(data)
    assert message.get_content_type() == "multipart/mixed"
    (part,) = message.get_payload()
    assert part.get_content_type() == "text/x-shellscript"
    script = part.get_payload()
    assert script.startswith("#!/bin/sh\n")
    assert "ECS_ENABLE_SPOT_INSTANCE_DRAINING=true" in script
    checked = subprocess.run(["sh", "-n"], input=script, text=True, check=False)
    assert checked.returncode == 0


def test_disks_are_encrypted(compute):
    """Disks are encrypted, and deleted with their instance."""
    template = properties(compute, "LaunchTemplate")["LaunchTemplateData"]
    (disk,) = template["BlockDeviceMappings"]
    assert str(disk["Ebs"]["Encrypted"]).lower() == "true"
    assert str(disk["Ebs"]["DeleteOnTermination"]).lower() == "true"


def test_spot_comes_first(compute):
    """Spot is chosen by price and capacity, and scales to zero; on-demand is optional."""
    spot = properties(compute, "Spot")["ComputeResources"]
    assert spot["Type"] == "SPOT"
    assert spot["AllocationStrategy"] == "SPOT_PRICE_CAPACITY_OPTIMIZED"
    assert int(spot["MinvCpus"]) == 0
    assert compute["OnDemand"]["Condition"] == "HasOnDemand"
    first, second = properties(compute, "Queue")["ComputeEnvironmentOrder"]
    assert (int(first["Order"]), first["ComputeEnvironment"]) == (1, {"Ref": "Spot"})
    assert second["Fn::If"][0] == "HasOnDemand"


def retry_action(compute, **attempt):
    """Return what AWS Batch does after a failed attempt: the action of the first matching rule."""
    names = {"OnExitCode": "code", "OnStatusReason": "status", "OnReason": "reason"}
    for rule in properties(compute, "Job")["RetryStrategy"]["EvaluateOnExit"]:
        conditions = {names[key]: value for key, value in rule.items() if key in names}
        if all(fnmatch(attempt.get(key, ""), value) for key, value in conditions.items()):
            return rule["Action"]
    return "RETRY"


@pytest.mark.parametrize(
    ("attempt", "action"),
    [
        ({"code": "75", "status": "Essential container in task exited"}, "RETRY"),
        ({"code": "137", "status": "Host EC2 (instance i-0a1) terminated."}, "RETRY"),
        ({"status": "Task failed to start", "reason": "CannotPullContainerError: x"}, "RETRY"),
        ({"status": "Task failed to start", "reason": "DockerTimeoutError: x"}, "RETRY"),
        ({"status": "Essential container", "reason": "CannotInspectContainerError: x"}, "RETRY"),
        ({"code": "76", "status": "Essential container in task exited"}, "EXIT"),
        ({"code": "78", "status": "Essential container in task exited"}, "EXIT"),
        ({"code": "74", "status": "Essential container in task exited"}, "EXIT"),
        ({"code": "1", "status": "Essential container in task exited"}, "EXIT"),
        ({"code": "137", "reason": "OutOfMemoryError: killed"}, "EXIT"),
    ],
)
def test_retries(compute, attempt, action):
    """Interruptions are retried, with ten attempts at most; errors are not."""
    assert retry_action(compute, **attempt) == action
    assert int(properties(compute, "Job")["RetryStrategy"]["Attempts"]) == 10


def variables_of(job, *, with_key=False):
    """Return the variables of the job definition, as the stack has them with or without a key."""
    found = {}
    for entry in job["Environment"]:
        if "Fn::If" in entry:
            condition, then, otherwise = entry["Fn::If"]
            assert (condition, otherwise) == ("HasKmsKey", {"Ref": "AWS::NoValue"})
            entry = then if with_key else {}
        found |= {entry["Name"]: entry["Value"]} if entry else {}
    return found


def test_a_kms_key_applies_to_bucket_role_and_jobs(storage, compute):
    """With a key, and only then: default encryption, the role's actions through S3, the options."""
    (rule,) = properties(storage, "Bucket")["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    default = rule["ServerSideEncryptionByDefault"]
    absent = {"Ref": "AWS::NoValue"}
    assert default["SSEAlgorithm"] == {"Fn::If": ["HasKmsKey", "aws:kms", "AES256"]}
    assert default["KMSMasterKeyID"] == {"Fn::If": ["HasKmsKey", {"Ref": "KmsKey"}, absent]}
    condition, enabled, otherwise = rule["BucketKeyEnabled"]["Fn::If"]
    assert (condition, str(enabled).lower(), otherwise) == ("HasKmsKey", "true", absent)

    assert storage["JobKeyPolicy"]["Condition"] == "HasKmsKey"
    policy = properties(storage, "JobKeyPolicy")
    assert policy["Roles"] == [{"Ref": "JobRole"}]
    (statement,) = policy["PolicyDocument"]["Statement"]
    assert statement["Action"] == ["kms:GenerateDataKey", "kms:Decrypt"]
    assert statement["Resource"] == {"Ref": "KmsKey"}
    assert set(statement["Condition"]["StringLike"]) == {"kms:ViaService"}

    job = properties(compute, "Job")["ContainerProperties"]
    assert not any(name.startswith("KEEPFIT_S3_") for name in variables_of(job))
    variables = variables_of(job, with_key=True)
    variables[KMS_KEY] = "the-key" if variables[KMS_KEY] == {"Ref": "KmsKey"} else None
    options = RequestOptions.of({name: variables.get(name, "") for name in VARIABLES})
    assert options == RequestOptions("aws:kms", "the-key", bucket_key=True)


def test_the_grace_period_fits_the_stop_timeout(compute):
    """keepfit's grace period is shorter than the agent's timeout before SIGKILL."""
    job = properties(compute, "Job")["ContainerProperties"]
    variables = variables_of(job)
    data = properties(compute, "LaunchTemplate")["LaunchTemplateData"]["UserData"]["Fn::Base64"]
    stop = int(data.partition("ECS_CONTAINER_STOP_TIMEOUT=")[2].partition("s")[0])
    assert int(variables["KEEPFIT_GRACE"].removesuffix("s")) < stop <= 120


def test_the_region_of_a_job(compute):
    """The region is set under boto3's name and under the name of other SDKs."""
    job = properties(compute, "Job")["ContainerProperties"]
    variables = variables_of(job)
    assert variables["AWS_DEFAULT_REGION"] == variables["AWS_REGION"] == {"Ref": "AWS::Region"}


def test_the_container_is_hardened(compute):
    """No root user, no privileges, and a read-only root file system."""
    job = properties(compute, "Job")["ContainerProperties"]
    assert job["User"] == "1000:1000"
    assert str(job["Privileged"]).lower() == "false"
    assert str(job["ReadonlyRootFilesystem"]).lower() == "true"


def test_the_disk_of_a_job(compute):
    """/tmp is a volume of its own on the instance's disk, for any image; TMPDIR names it.

    The code is unpacked there, so runs of earlier versions, which had a tmpfs there, go on with the
    same paths.
    """
    job = properties(compute, "Job")["ContainerProperties"]
    (volume,) = job["Volumes"]
    (mount,) = job["MountPoints"]
    assert (mount["SourceVolume"], mount["ContainerPath"]) == (volume["Name"], "/tmp")
    # With a path on the host, the jobs of a machine would share it, and nothing would empty it.
    assert volume["Host"] == {}
    assert str(mount["ReadOnly"]).lower() == "false"
    assert "Tmpfs" not in job.get("LinuxParameters", {})
    assert variables_of(job)["TMPDIR"] == "/tmp"
    (disk,) = properties(compute, "LaunchTemplate")["LaunchTemplateData"]["BlockDeviceMappings"]
    assert disk["Ebs"]["VolumeSize"] == {"Ref": "DiskGib"}
    data = properties(compute, "LaunchTemplate")["LaunchTemplateData"]["UserData"]["Fn::Base64"]
    minutes = data.partition("ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION=")[2].partition("m\n")[0]
    assert 1 <= int(minutes) <= 30, "attempts that have ended would fill the disk"


def test_a_gpu_is_requested_of_machines_with_gpus(compute):
    """Without a requirement, ECS starts the container with Docker's own runtime, so no GPU."""
    needs = properties(compute, "Job")["ContainerProperties"]["ResourceRequirements"]
    (conditional,) = [need["Fn::If"] for need in needs if "Fn::If" in need]
    assert conditional == ["HasGpu", {"Type": "GPU", "Value": "1"}, {"Ref": "AWS::NoValue"}]
    base = {"containerProperties": {"resourceRequirements": [{"type": "GPU", "value": "1"}]}}
    assert resources({}, base) == [{"type": "GPU", "value": "1"}]
    assert resources({"gpus": 4}, base) == [{"type": "GPU", "value": "4"}]


def test_shared_memory(compute):
    """There is enough of it for NCCL on several GPUs; Docker's default is 64 MiB."""
    parameters = properties(compute, "Job")["ContainerProperties"]["LinuxParameters"]
    assert int(parameters["SharedMemorySize"]) >= 1024


def test_logs_do_not_block_a_job(compute):
    """A job goes on when CloudWatch does not answer."""
    options = properties(compute, "Job")["ContainerProperties"]["LogConfiguration"]["Options"]
    assert options["mode"] == "non-blocking"
    assert options["max-buffer-size"] == "25m"


def test_no_ingress(compute):
    """The security group permits no incoming traffic."""
    group = properties(compute, "SecurityGroup")
    assert "SecurityGroupIngress" not in group
    assert {int(rule["ToPort"]) for rule in group["SecurityGroupEgress"]} == {53, 443}


def test_logs_expire(compute):
    """Logs are kept for LogDays, not forever."""
    assert properties(compute, "Logs")["RetentionInDays"] == {"Ref": "LogDays"}


def test_jobs_that_can_never_start_are_cancelled(compute):
    """A job that fits no machine is cancelled; a job that waits for capacity is not."""
    actions = properties(compute, "Queue")["JobStateTimeLimitActions"]
    assert {action["Action"] for action in actions} == {"CANCEL"}
    assert all(action["Reason"].startswith("MISCONFIGURATION:") for action in actions)


def test_updates_do_not_terminate_jobs(compute):
    """An update does not terminate jobs, and older job definitions stay registered."""
    for name in ("Spot", "OnDemand"):
        policy = properties(compute, name)["UpdatePolicy"]
        assert str(policy["TerminateJobsOnUpdate"]).lower() == "false"
        # With a service role, AWS Batch could not update a compute environment in place.
        assert "ServiceRole" not in properties(compute, name)
    retention = properties(compute, "Job")["ResourceRetentionPolicy"]
    assert str(retention["SkipDeregisterOnUpdate"]).lower() == "true"


def test_the_s3_endpoint_is_optional(compute):
    """It is optional, as a second gateway endpoint for one route table would be refused."""
    assert compute["S3"]["Condition"] == "HasRouteTables"
    assert properties(compute, "S3")["VpcEndpointType"] == "Gateway"


@pytest.mark.parametrize("kind", ["storage", "compute"])
def test_template_parameters(kind):
    """The names of a template's parameters are read completely."""
    loaded = load(str(ROOT / f"infra/templates/{kind}.yaml"))["Parameters"]
    assert template.template_parameters(template.template_body(kind)) == set(loaded)
    if kind == "compute":
        assert loaded["InstanceTypes"]["Default"] == CPU_TYPES
