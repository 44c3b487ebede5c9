"""A deployment in two regions, on moto's server, which has all regions."""

from __future__ import annotations

import os

import boto3
import pytest

from keepfit.infra import deployment
from keepfit.infra.aws import AwsError, client
from keepfit.infra.deployment import OtherRegion
from keepfit.job.commands.deployment.regions import in_region
from tests.infra.conftest import keepfit, refused, use_endpoint
from tests.servers.moto import reset

FIRST, SECOND, THIRD = "us-east-1", "eu-west-1", "us-west-2"


def parameters(region):
    """Return the parameters of the region's compute stack."""
    client = boto3.client("cloudformation", region_name=region)
    (stack,) = client.describe_stacks(StackName="keepfit-compute")["Stacks"]
    return {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]}


def stacks(region):
    """Return the names of the region's stacks."""
    client = boto3.client("cloudformation", region_name=region)
    return {stack["StackName"] for stack in client.describe_stacks()["Stacks"]}


@pytest.fixture(scope="module")
def account(moto_server):
    """One account for the tests of this module that delete nothing."""
    reset(moto_server)
    with pytest.MonkeyPatch.context() as monkeypatch:
        use_endpoint(moto_server, monkeypatch)
        yield


@pytest.fixture(scope="module")
def first(account):
    """The first region's deployment, as it was before there was a second one."""
    return up_first()


@pytest.fixture(scope="module")
def printed(first):
    """What `up` has printed when it added the second region."""
    return up_second(first, "--move-after", "20min")


def up_first():
    keepfit("up", "--yes", "--max-vcpus", "16", "--instance-types", "c6i,g4dn.xlarge")
    return find(FIRST)


def up_second(first, *more):
    return keepfit("up", "--yes", "--region", SECOND, "--store", first.store, *more).stdout


def find(region):
    return deployment.find_deployment(boto3.client("cloudformation", region_name=region))


def test_the_second_region(first, printed):
    """It has machines and a queue of its own, and the store, image and role of the first one."""
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
    assert here.other == OtherRegion(SECOND, there.queue, there.job, takes_over=True)
    assert there.other == OtherRegion(FIRST, here.queue, here.job, takes_over=False)
    assert here.logs == there.logs
    assert parameters(FIRST)["MoveAfter"] == "20"
    batch = boto3.client("batch", region_name=SECOND)
    (job,) = batch.describe_job_definitions(jobDefinitions=[there.job])["jobDefinitions"]
    variables = {v["name"]: v["value"] for v in job["containerProperties"]["environment"]}
    assert (variables["KEEPFIT_STORE"], variables["AWS_REGION"]) == (first.store, SECOND)


def test_up_again(first, printed):
    """`up` in each region keeps the link, the other parameters and the single storage stack."""
    before = parameters(FIRST), parameters(SECOND)
    keepfit("up", "--yes")
    keepfit("up", "--yes", "--region", SECOND, "--on-demand-vcpus", "4", "--move-after", "1h")
    assert parameters(SECOND) == {**before[1], "OnDemandVcpus": "4"}
    assert parameters(FIRST) == {**before[0], "MoveAfter": "60"}
    assert stacks(SECOND) == {"keepfit-compute"}


def test_status(printed):
    """It names the other region; the second one has no storage stack."""
    assert f"OtherRegion  {SECOND}" in keepfit("status").stdout
    shown = keepfit("status", "--region", SECOND).stdout
    assert "keepfit-storage" not in shown
    assert f"HomeRegion   {FIRST}" in shown


def test_refusals(first, printed):
    """What can't be a second region is refused, before anything is created."""
    store = ("up", "--yes", "--store", first.store)
    assert "its bucket is in us-east-1, too" in refused(*store, code=78)
    second = (*store, "--region", SECOND)
    assert "from 10min to 24h" in refused(*second, "--move-after", "5min", code=2)
    assert "belong to the storage stack" in refused(*second, "--prefix", "x", code=78)
    third = ("up", "--yes", "--region", THIRD, "--store")
    assert "bucket nowhere-at-all" in refused(*third, "s3://nowhere-at-all", code=78)
    assert f"is {first.store}" in refused(*third, f"{first.store}2", code=78)
    line = refused(*third, first.store, "--name", "other", code=78)
    assert "no deployment 'other'" in line
    assert f"second region already, {SECOND}" in refused(*third, first.store, code=78)
    assert stacks(THIRD) == set()
    with pytest.raises(AwsError, match=f"'keepfit-storage' in region {THIRD}"):
        find(THIRD)


def test_a_region_with_a_store_of_its_own(first, printed):
    """Its deployment stays as it is."""
    keepfit("up", "--yes", "--region", THIRD)
    line = refused("up", "--yes", "--region", THIRD, "--store", first.store, code=78)
    assert "a store of its own" in line


def test_down(aws):
    """The second region is deleted first, and the first one unlinked; then that can be deleted."""
    up_second(up_first())
    line = refused("down", "--yes", code=78)
    assert f"`keepfit infra down --region {SECOND}`" in line
    keepfit("down", "--yes", "--region", SECOND)
    assert stacks(SECOND) == set()
    assert find(FIRST).other is None
    keepfit("down", "--yes")
    assert stacks(FIRST) == set()


@pytest.mark.parametrize("before", [None, THIRD])
def test_the_region_of_a_command(before, monkeypatch):
    """The option has the effect of AWS_REGION, for this command only."""
    if before is None:
        monkeypatch.delenv("AWS_REGION", raising=False)
    else:
        monkeypatch.setenv("AWS_REGION", before)
    with in_region(SECOND):
        assert client("batch").meta.region_name == SECOND
    with in_region(None):
        assert os.environ.get("AWS_REGION") == before
    assert os.environ.get("AWS_REGION") == before
