"""Quotas: which one applies, and what a job or a deployment above it is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from keepfit.infra.jobs.queues import JobSize
from keepfit.infra.preflight.check import check
from keepfit.infra.preflight.findings import Severity
from keepfit.infra.preflight.quotas import Demand, group_of, groups_of, job_findings
from tests.preflight.samples import STANDARD, STANDARD_NAME, asked
from tests.servers.aws_answers import json_error, quota

NOW = datetime(2026, 11, 29, 2, tzinfo=UTC)
INCREASE = "aws service-quotas request-service-quota-increase --service-code ec2 --quota-code"


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("c7i", ("L-34B43A08", "L-1216C47A")),
        ("im4gn.large", ("L-34B43A08", "L-1216C47A")),
        ("optimal", ("L-34B43A08", "L-1216C47A")),
        ("default_arm64", ("L-34B43A08", "L-1216C47A")),
        ("g6e", ("L-3819A6DF", "L-DB2E81BA")),
        ("gr6.4xlarge", ("L-3819A6DF", "L-DB2E81BA")),
        ("vt1", ("L-3819A6DF", "L-DB2E81BA")),
        ("p5en.48xlarge", ("L-7212CCBC", "L-417A185B")),
        ("dl1", ("L-85EED4F7", "L-6E869C2A")),
        ("trn1n", ("L-5480EFD2", "L-2C3B7624")),
        ("inf2", ("L-B5D1601B", "L-1945791B")),
    ],
)
def test_the_quota_of_a_family(name, codes):
    """It follows from the letters before the family's number."""
    group = group_of(name)
    assert (group.spot, group.on_demand) == codes


@pytest.mark.parametrize("name", ["hpc7a", "mac2.metal", "u-6tb1", "7", ""])
def test_families_whose_quota_is_not_known(name):
    """Nothing is checked for them, rather than a wrong quota."""
    assert group_of(name) is None
    assert groups_of([name]) == ()


def test_a_job_above_the_quota(answers, client):
    """It is refused with the command that asks for what its smallest machine needs."""
    answers.replies["GetServiceQuota"] = quota(STANDARD, STANDARD_NAME, 2)
    (found,) = check(asked(), client, NOW, prices=False).findings
    assert found.severity is Severity.REFUSED
    assert str(found) == (
        f"quota {STANDARD_NAME!r}: 2 vCPUs, and the smallest machine for the job has 4: it would "
        f"wait forever; {INCREASE} L-34B43A08 --desired-value 4 --region us-east-1"
    )


@pytest.mark.parametrize(
    ("job", "refused"), [(JobSize(1, 5000), False), (JobSize(1, 9000), True), (JobSize(5, 1), True)]
)
def test_the_machine_counts_rather_than_the_job(answers, client, job, refused):
    """A job of one vCPU with much memory needs a machine of four."""
    answers.replies["GetServiceQuota"] = quota(STANDARD, STANDARD_NAME, 3)
    assert bool(check(asked(job), client, NOW, prices=False).findings) is refused


def test_a_large_quota_needs_no_sizes(answers, client):
    """Three requests: a machine that the deployment may start is within the quota."""
    assert check(asked(), client, NOW, prices=False).findings == ()
    expected = ["DescribeRouteTables", "DescribeSubnets", "GetServiceQuota"]
    assert sorted(answers.operations) == expected


def test_a_deployment_above_the_quota(answers, client):
    """It can be created; the warning has the command that asks for all that it may use."""
    answers.replies["GetServiceQuota"] = quota(STANDARD, STANDARD_NAME, 0)
    (found,) = check(asked(submitting=False), client, NOW, prices=False).findings
    assert found.severity is Severity.WARNING
    assert found.reason == "0 vCPUs, so no machine can start; the deployment may use 64"
    assert f"{INCREASE} L-34B43A08 --desired-value 64 --region us-east-1" in found.fix
    answers.replies["GetServiceQuota"] = quota(STANDARD, STANDARD_NAME, 63)
    (found,) = check(asked(submitting=False), client, NOW, prices=False).findings
    assert found.reason == "63 vCPUs; the deployment may use 64"


@pytest.mark.parametrize(
    ("spot", "on_demand", "expected"),
    [
        (0, 0, [Severity.REFUSED, Severity.REFUSED]),
        (0, 8, [Severity.WARNING]),
        (0, None, [Severity.WARNING]),
        (8, 0, [Severity.WARNING]),
        (8, 8, []),
        (4, 4, []),
    ],
)
def test_on_demand_machines_behind_spot(spot, on_demand, expected):
    """A job is refused only if neither kind of machine can start, as far as that is known."""
    group = group_of("c6i")
    demands = [Demand(group, "SPOT", 4, 64), Demand(group, "EC2", 4, 16)]
    values = {group.spot: spot, group.on_demand: on_demand}
    assert [f.severity for f in job_findings(demands, values, "r")] == expected


def test_a_family_with_a_quota_is_enough(answers, client):
    """The queue's other families have none, which is only a warning."""
    answers.replies["GetServiceQuota L-3819A6DF"] = quota("L-3819A6DF", "All G and VT", 0)
    request = asked(types=("c6i", "g6"))
    assert check(request, client, NOW, prices=False).of(Severity.REFUSED) == ()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (json_error("AccessDeniedException", "no"), "not allowed: servicequotas:GetServiceQuota"),
        (json_error("ServiceException", "internal"), "internal"),
    ],
)
def test_a_quota_that_aws_does_not_tell(answers, client, reply, reason):
    """The row is skipped, with the reason."""
    answers.replies["GetServiceQuota"] = reply
    (found,) = check(asked(), client, NOW, prices=False).findings
    assert found.severity is Severity.SKIPPED
    assert reason in found.reason
    assert found.thing == f"quota {STANDARD_NAME!r}"


def test_a_region_without_the_quota(answers, client):
    """It is not a limit."""
    answers.replies["GetServiceQuota"] = json_error("NoSuchResourceException", "none")
    assert check(asked(), client, NOW, prices=False).findings == ()


def test_types_that_batch_chooses(answers, client):
    """Their sizes are not known, so a machine as large as the job is assumed."""
    answers.replies["GetServiceQuota"] = quota(STANDARD, STANDARD_NAME, 3)
    request = asked(types=("optimal",))
    (found,) = check(request, client, NOW, prices=False).findings
    assert found.severity is Severity.REFUSED
    assert check(replace(request, job=JobSize(2, 1)), client, NOW, prices=False).findings == ()
