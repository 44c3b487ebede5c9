"""Subnets: routes, public addresses and endpoints, and what is missing in which words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from keepfit.infra.preflight.check import check
from keepfit.infra.preflight.findings import Severity
from keepfit.infra.preflight.subnets import NEEDED_SERVICES
from tests.preflight.samples import (
    INTERNET,
    LOCAL,
    asked,
    endpoint,
    endpoints,
    route,
    subnet,
    subnets,
    table,
    tables,
)
from tests.servers.aws_answers import Reply, ec2_error

NOW = datetime(2026, 11, 29, 2, tzinfo=UTC)
INTERFACES = [endpoint(service) for service in NEEDED_SERVICES]
S3 = endpoint("s3", tables=["rtb-1"])
PRIVATE = {
    "DescribeRouteTables": tables(table("rtb-1", LOCAL, main=True)),
    "DescribeVpcEndpoints": endpoints(),
}


def findings(answers, client, replies, **others):
    answers.replies |= replies
    return check(asked(**others), client, NOW, prices=False).findings


@pytest.mark.parametrize(
    "way",
    [
        route("0.0.0.0/0", natGatewayId="nat-1"),
        route("0.0.0.0/0", transitGatewayId="tgw-1"),
        route("0.0.0.0/0", networkInterfaceId="eni-1"),
        route("0.0.0.0/0", gatewayId="vgw-1"),
    ],
)
def test_ways_to_the_internet(answers, client, way):
    """No endpoint is asked for, and machines need no public address."""
    private = subnets(*(subnet(f"subnet-{z}", f"us-east-1{z}", public=False) for z in "ab"))
    routes = tables(table("rtb-1", LOCAL, way, main=True))
    assert not findings(
        answers, client, {"DescribeSubnets": private, "DescribeRouteTables": routes}
    )
    assert "DescribeVpcEndpoints" not in answers.operations


def test_no_public_address(answers, client):
    """A subnet with an internet gateway needs it; the other subnet works, so it is a warning."""
    one = subnets(subnet("subnet-a", "us-east-1a"), subnet("subnet-b", "us-east-1b", public=False))
    (found,) = findings(
        answers, client, {"DescribeSubnets": one, "DescribeVpcEndpoints": endpoints()}
    )
    assert found.severity is Severity.WARNING
    assert str(found) == (
        "subnet subnet-b (us-east-1b): its internet gateway needs public addresses, and machines "
        "get none: they never register; aws ec2 modify-subnet-attribute --subnet-id subnet-b "
        "--map-public-ip-on-launch --region us-east-1"
    )


def test_no_public_address_anywhere(answers, client):
    """No machine ever registers, so the job is refused."""
    private = subnets(*(subnet(f"subnet-{z}", f"us-east-1{z}", public=False) for z in "ab"))
    found = findings(
        answers, client, {"DescribeSubnets": private, "DescribeVpcEndpoints": endpoints()}
    )
    assert [f.severity for f in found] == [Severity.REFUSED, Severity.REFUSED]


def test_no_way_out(answers, client):
    """Subnets of a VPC share endpoints, so there is one finding with the commands for all."""
    (found,) = findings(answers, client, PRIVATE)
    assert found.severity is Severity.REFUSED
    assert str(found) == (
        "subnets subnet-a (us-east-1a), subnet-b (us-east-1b): no route to the internet, and no "
        "endpoint for ecs, ecs-agent, ecs-telemetry, ecr.api, ecr.dkr, logs, s3: machines there "
        "never register; for s in ecs ecs-agent ecs-telemetry ecr.api ecr.dkr logs; do aws ec2 "
        "create-vpc-endpoint --region us-east-1 --vpc-id vpc-1 --vpc-endpoint-type Interface "
        "--service-name com.amazonaws.us-east-1.$s --subnet-ids subnet-a subnet-b "
        "--security-group-ids GROUP_THAT_ADMITS_PORT_443; done && aws ec2 create-vpc-endpoint "
        "--region us-east-1 --vpc-id vpc-1 --vpc-endpoint-type Gateway --service-name "
        "com.amazonaws.us-east-1.s3 --route-table-ids rtb-1"
    )


@pytest.mark.parametrize(
    ("there", "services", "missing"),
    [
        ([*INTERFACES, S3], (), None),
        ([*INTERFACES, endpoint("s3")], (), None),
        (INTERFACES, (), "s3"),
        ([*INTERFACES, endpoint("s3", tables=["rtb-other"])], (), "s3"),
        ([*INTERFACES, S3], ("secretsmanager",), "secretsmanager"),
        ([*INTERFACES, S3, endpoint("ssm")], ("ssm",), None),
        ([*INTERFACES[1:], S3], (), "ecs"),
        ([*INTERFACES[1:], S3, endpoint("ecs", vpc="vpc-2")], (), "ecs"),
        ([*INTERFACES[1:], S3, endpoint("ecs", state="pendingAcceptance")], (), "ecs"),
        ([*INTERFACES[1:], S3, endpoint("ecs", private_dns=False)], (), "ecs"),
    ],
)
def test_endpoints(answers, client, there, services, missing):
    """Each service needs one that is available in the VPC, under the service's own name."""
    replies = PRIVATE | {"DescribeVpcEndpoints": endpoints(*there)}
    found = findings(answers, client, replies, services=services)
    assert [f"endpoint for {missing}" in one.reason for one in found] == [True] * bool(missing)


def test_an_endpoint_that_the_deployment_makes(answers, client):
    """`infra up --route-tables` creates the one of S3."""
    replies = PRIVATE | {"DescribeVpcEndpoints": endpoints(*INTERFACES)}
    assert not findings(answers, client, replies, gateway_tables=("rtb-1",))


def test_the_table_of_a_subnet(answers, client):
    """A subnet's own route table replaces the main one."""
    routes = tables(
        table("rtb-1", LOCAL, INTERNET, main=True), table("rtb-2", LOCAL, subnets=["subnet-b"])
    )
    replies = {"DescribeRouteTables": routes, "DescribeVpcEndpoints": endpoints()}
    (found,) = findings(answers, client, replies)
    assert found.thing == "subnet subnet-b (us-east-1b)"


def test_a_route_whose_target_is_gone(answers, client):
    """EC2 calls it a blackhole; it leads nowhere."""
    gone = route("0.0.0.0/0", natGatewayId="nat-1").replace("active", "blackhole")
    routes = PRIVATE | {"DescribeRouteTables": tables(table("rtb-1", LOCAL, gone, main=True))}
    assert findings(answers, client, routes)[0].severity is Severity.REFUSED


@pytest.mark.parametrize(
    "way",
    [
        route("10.0.0.0/8", transitGatewayId="tgw-1"),
        route("192.168.0.0/16", vpcPeeringConnectionId="pcx-1"),
        route("10.9.0.0/16", gatewayId="vgw-1"),
    ],
)
def test_what_routes_do_not_show(answers, client, way):
    """Endpoints may be in another VPC that a route leads to: that is no reason to refuse."""
    replies = PRIVATE | {"DescribeRouteTables": tables(table("rtb-1", LOCAL, way, main=True))}
    (found,) = findings(answers, client, replies)
    assert found.severity is Severity.WARNING


def test_another_queue(answers, client):
    """Its launch template may give machines public addresses, so it is a warning."""
    assert findings(answers, client, PRIVATE, network_certain=False)[0].severity is Severity.WARNING


@pytest.mark.parametrize(
    ("operation", "thing", "action"),
    [
        ("DescribeSubnets", "subnets", "ec2:DescribeSubnets"),
        ("DescribeRouteTables", "routes", "ec2:DescribeRouteTables"),
        ("DescribeVpcEndpoints", "VPC endpoints", "ec2:DescribeVpcEndpoints"),
    ],
)
def test_permissions_that_are_missing(answers, client, operation, thing, action):
    """The row is skipped, and nothing is assumed to be missing."""
    denied = ec2_error("UnauthorizedOperation", "You are not authorized.", 403)
    (found,) = findings(answers, client, PRIVATE | {operation: denied})
    assert (found.severity, found.thing) == (Severity.SKIPPED, thing)
    assert found.reason == f"not allowed: {action}"


def test_an_answer_that_is_not_from_aws(answers, client):
    """A proxy's page: the row is skipped, with the reason."""
    (found,) = findings(answers, client, {"DescribeSubnets": Reply(200, "<html>proxy")})
    assert found.severity is Severity.SKIPPED
    assert "the response is not from AWS" in found.reason
