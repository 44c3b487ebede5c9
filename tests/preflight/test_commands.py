"""What `infra up` and `submit` print of the checks, and what `submit --dry-run` leaves alone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cfnlint.decode.cfn_yaml import load

from keepfit.infra.jobs.queues import JobSize
from keepfit.infra.preflight.check import check
from keepfit.job.commands.deployment import preflight
from keepfit.job.commands.deployment.infra_preflight import DEFAULT_MAX_VCPUS
from tests.e2e.process import ROOT
from tests.job.conftest import keepfit, refused
from tests.preflight.samples import STANDARD, STANDARD_NAME, asked
from tests.servers.aws_answers import aws_answers, quota

NOW = datetime(2026, 11, 29, 2, tzinfo=UTC)
TABLE = """\
the smallest machines of us-east-1 for a job of 4 vCPUs, 7000 MiB and 0 GPUs (larger ones, if \
several jobs run):
machine     vCPUs  GiB  GPUs  zones  Spot $/h  on demand $/h  saving
c6i.xlarge      4    8        a b      0.0670         0.1700     61%
m6i.xlarge      4   16        a        0.0768         0.1920     60%
r6i.xlarge      4   32                                0.2520
Spot placement score: 8 of 10 for all of these machines together
missing: quota 'All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests': 5 vCPUs; the \
deployment may use 64
  aws service-quotas request-service-quota-increase --service-code ec2 --quota-code L-34B43A08 \
--desired-value 64 --region us-east-1
"""


def test_the_table(answers, client, capsys):
    """The golden text: machines by Spot price, the score, what is missing with its command."""
    answers.replies["GetServiceQuota"] = quota(STANDARD, STANDARD_NAME, 5)
    preflight.show(check(asked(submitting=False), client, NOW, prices=True))
    assert capsys.readouterr().out == TABLE
    score = dict(answers.requests)["GetSpotPlacementScores"]
    assert (score["TargetCapacity"], score["TargetCapacityUnitType"]) == ("4", "vcpu")
    assert [score[f"InstanceType.{n}"] for n in (1, 2, 3)] == [
        *("c6i.xlarge", "m6i.xlarge", "r6i.xlarge"),
    ]


def test_a_table_without_permissions(answers, client, capsys):
    """Each price that is not allowed is an empty cell and a line; the command goes on."""
    for name in [n for n in answers.replies if n.startswith(("GetProducts", "DescribeSpot"))]:
        del answers.replies[name]
    del answers.replies["GetSpotPlacementScores"]
    preflight.show(check(asked(), client, NOW, prices=True))
    printed = capsys.readouterr().out
    assert "c6i.xlarge      4    8" in printed
    assert printed.endswith(
        "not known: Spot prices: not allowed: ec2:DescribeSpotPriceHistory\n"
        "not known: on-demand prices: not allowed: pricing:GetProducts\n"
        "not known: placement score: not allowed: ec2:GetSpotPlacementScores\n"
    )


def test_a_score_of_few_types_is_not_asked_for(answers, client):
    """EC2 documents that it is always low for one or two types."""
    check(asked(JobSize(8, 1)), client, NOW, prices=True)
    assert "GetSpotPlacementScores" not in answers.operations


@pytest.fixture
def quota_of(monkeypatch):
    """Let Service Quotas answer with this number of vCPUs, beside moto."""
    with aws_answers({}) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", server.url)

        def answer(vcpus):
            server.replies["GetServiceQuota"] = quota(STANDARD, STANDARD_NAME, vcpus)

        yield answer


def keys(aws, deployed):
    return [o["Key"] for o in aws("s3").list_objects_v2(Bucket=deployed.bucket).get("Contents", ())]


def definitions(aws):
    return aws("batch").describe_job_definitions()["jobDefinitions"]


def test_dry_run(deployed, aws, script, quota_of):
    """It shows the job and its machines, values of variables excepted, and changes nothing."""
    quota_of(64)
    before = definitions(aws)
    printed = keepfit(
        *("submit", "--dry-run", "--run", "first", "--vcpus", "4", "--env", "RATE=very-secret"),
        *("--image", "another:1", script, "--epochs", "3", "--api-key", "hidden"),
    ).stdout
    for text in (
        *("first", "keepfit-compute:1", "another:1", "4 vCPUs, 4096 MiB", "KEEPFIT_STORE RATE"),
        *("train.py --epochs 3", "c6i.xlarge", deployed.store),
    ):
        assert text in printed
    assert "very-secret" not in printed
    assert "hidden" not in printed
    assert keys(aws, deployed) == []
    assert definitions(aws) == before
    for status in ("SUBMITTED", "RUNNABLE", "SUCCEEDED"):
        assert not aws("batch").list_jobs(jobQueue=deployed.queue, jobStatus=status)[
            "jobSummaryList"
        ]


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_submit_above_the_quota(deployed, aws, script, quota_of, options):
    """It is refused with 78 and the command, before anything is uploaded."""
    quota_of(1)
    line = refused("submit", *options, script, code=78)
    assert "would wait forever; aws service-quotas request-service-quota-increase" in line
    assert keys(aws, deployed) == []


def test_submit_without_a_way_out(deployed, aws, script, quota_of):
    """The subnets lose their public addresses after `infra up`: the job would never start."""
    quota_of(64)
    for one in aws("ec2").describe_subnets()["Subnets"]:
        aws("ec2").modify_subnet_attribute(
            SubnetId=one["SubnetId"], MapPublicIpOnLaunch={"Value": False}
        )
    line = refused("submit", script, code=78)
    assert "aws ec2 modify-subnet-attribute --subnet-id" in line
    assert keys(aws, deployed) == []


def test_submit_without_permission(deployed, script, quota_of):
    """It goes on, and one line says what was not checked."""
    lines = keepfit("submit", script).stderr.splitlines()
    (line,) = (one for one in lines if "check skipped" in one)
    assert "not allowed: servicequotas:GetServiceQuota" in line


def test_infra_up_above_the_quota(aws, quota_of):
    """The deployment is created, after what is missing was said."""
    quota_of(5)
    printed = keepfit("infra", "up", "--yes").stdout
    assert printed.index("--desired-value 64") < printed.index("keepfit-storage:")
    assert "CREATE_COMPLETE             keepfit-compute" in printed


def test_infra_up_in_closed_subnets(aws, quota_of):
    """It is refused before anything is created; a VPC of one's own has no routes at first."""
    quota_of(64)
    vpc = aws("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    made = aws("ec2").create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    line = refused("infra", "up", "--yes", "--subnets", made, code=78)
    assert "no route to the internet, and no endpoint for ecs," in line
    assert aws("cloudformation").list_stacks()["StackSummaries"] == []


def test_the_default_of_max_vcpus():
    """The check knows the template's default."""
    parameters = load(str(ROOT / "infra/templates/compute.yaml"))["Parameters"]
    assert parameters["MaxVcpus"]["Default"] == DEFAULT_MAX_VCPUS
