"""A deployment in two regions, on moto's server, which has all regions."""

from __future__ import annotations

import boto3
import pytest

from keepfit.infra import deployment
from keepfit.infra.aws import AwsError
from tests.infra.conftest import keepfit, refused

FIRST, SECOND = "us-east-1", "eu-west-1"


def parameters(region):
    """Return the parameters of the region's compute stack."""
    client = boto3.client("cloudformation", region_name=region)
    (stack,) = client.describe_stacks(StackName="keepfit-compute")["Stacks"]
    return {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}


def stacks(region):
    """Return the names of the region's stacks."""
    client = boto3.client("cloudformation", region_name=region)
    return {stack["StackName"] for stack in client.describe_stacks()["Stacks"]}


@pytest.fixture
def first(aws):
    keepfit("up", "--yes", "--max-vcpus", "16", "--instance-types", "c6i,g4dn.xlarge")
    return deployment.find_deployment(aws("cloudformation"))


def up_second(first, *more):
    return keepfit("up", "--yes", "--region", SECOND, "--store", first.store, *more)


def find(region):
    return deployment.find_deployment(boto3.client("cloudformation", region_name=region))


def test_the_second_region(first, aws):
    """It has machines and a queue of its own, and the store, image and role of the first one."""
    printed = up_second(first, "--move-after", "20min").stdout
    assert f"keepfit-compute in {FIRST}:" in printed
    assert stacks(SECOND) == {"keepfit-compute"}
    own, here = parameters(SECOND), find(FIRST)
    assert (own["HomeRegion"], own["MaxVcpus"]) == (FIRST, "16")
    assert own["Image"] == f"{first.repository}:latest"
    assert own["InstanceTypes"] == "c6i,g4dn.xlarge"
    assert own["Vpc"] != parameters(FIRST)["Vpc"]
    there = find(SECOND)
    assert f":{SECOND}:" in there.queue
    assert (there.store, there.job_role, there.repository) == (
        first.store, first.job_role, first.repository,
    )  # fmt: skip
    assert here.other == deployment.OtherRegion(SECOND, there.queue, there.job)
    assert there.other == deployment.OtherRegion(FIRST, here.queue, here.job)
    assert here.logs == there.logs
    assert parameters(FIRST)["MoveAfter"] == "20"
    batch = aws("batch", region_name=SECOND)
    (job,) = batch.describe_job_definitions(jobDefinitions=[there.job])["jobDefinitions"]
    variables = {v["name"]: v["value"] for v in job["containerProperties"]["environment"]}
    assert (variables["KEEPFIT_STORE"], variables["AWS_REGION"]) == (first.store, SECOND)


def test_up_again(first):
    """`up` in each region keeps the link, the other parameters and the single storage stack."""
    up_second(first, "--max-vcpus", "8")
    before = parameters(FIRST), parameters(SECOND)
    keepfit("up", "--yes", "--region", SECOND)
    keepfit("up", "--yes")
    assert (parameters(FIRST), parameters(SECOND)) == before
    assert stacks(SECOND) == {"keepfit-compute"}
    keepfit("up", "--yes", "--region", SECOND, "--on-demand-vcpus", "4", "--move-after", "1h")
    assert parameters(SECOND) == {**before[1], "OnDemandVcpus": "4"}
    assert parameters(FIRST) == {**before[0], "MoveAfter": "60"}


def test_status_and_down(first):
    """`status` names the other region; the first one is deleted last."""
    up_second(first)
    assert SECOND in keepfit("status").stdout
    printed = keepfit("status", "--region", SECOND).stdout
    assert "keepfit-storage" not in printed
    assert f"HomeRegion   {FIRST}" in printed
    line = refused("down", "--yes", code=78)
    assert f"`keepfit infra down --region {SECOND}`" in line
    keepfit("down", "--yes", "--region", SECOND)
    assert stacks(SECOND) == set()
    assert find(FIRST).other is None
    keepfit("down", "--yes")
    assert stacks(FIRST) == set()


def test_refusals(first):
    """What can't be a second region is refused, before anything is created."""
    store = ("--yes", "--store", first.store)
    assert "its bucket is in us-east-1, too" in refused("up", *store, code=78)
    elsewhere = ("up", *store, "--region", SECOND)
    assert "from 10min to 24h" in refused(*elsewhere, "--move-after", "5min", code=2)
    assert "belong to the store" in refused(*elsewhere, "--prefix", "x", code=78)
    missing = ("up", "--yes", "--region", SECOND, "--store")
    assert "bucket nowhere-at-all" in refused(*missing, "s3://nowhere-at-all", code=78)
    assert f"is {first.store}" in refused(*missing, f"{first.store}2", code=78)
    assert "no deployment 'other'" in refused(*elsewhere, "--name", "other", code=78)
    assert stacks(SECOND) == set()
    with pytest.raises(AwsError, match="'keepfit-storage' in region eu-west-1"):
        find(SECOND)


def test_a_third_region(first):
    """A deployment has two regions at most; a region with a store of its own stays as it is."""
    up_second(first)
    third = ("up", "--yes", "--store", first.store, "--region", "us-west-2")
    assert f"second region already, {SECOND}" in refused(*third, code=78)
    keepfit("up", "--yes", "--region", "us-west-2")
    assert "a store of its own" in refused(*third, code=78)
