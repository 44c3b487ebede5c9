"""Answers of EC2, Service Quotas and the price list, for three machines in two zones."""

from __future__ import annotations

from keepfit.infra.jobs.queues import JobSize
from keepfit.infra.preflight.check import Pool, PreflightRequest
from tests.servers.aws_answers import ec2, product, quota

STANDARD = "L-34B43A08"
STANDARD_NAME = "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests"


def machine(name, vcpus, memory):
    return (
        f"<item><instanceType>{name}</instanceType>"
        f"<vCpuInfo><defaultVCpus>{vcpus}</defaultVCpus></vCpuInfo>"
        f"<memoryInfo><sizeInMiB>{memory}</sizeInMiB></memoryInfo></item>"
    )


def price(name, zone, dollars):
    return (
        f"<item><instanceType>{name}</instanceType><productDescription>Linux/UNIX"
        f"</productDescription><spotPrice>{dollars}</spotPrice>"
        f"<timestamp>2026-11-29T01:00:00.000Z</timestamp>"
        f"<availabilityZone>{zone}</availabilityZone></item>"
    )


def subnet(name, zone, *, public=True, vpc="vpc-1"):
    return (
        f"<item><subnetId>{name}</subnetId><vpcId>{vpc}</vpcId>"
        f"<availabilityZone>{zone}</availabilityZone>"
        f"<mapPublicIpOnLaunch>{str(public).lower()}</mapPublicIpOnLaunch></item>"
    )


def route(destination, **target):
    ((kind, name),) = target.items()
    return (
        f"<item><destinationCidrBlock>{destination}</destinationCidrBlock>"
        f"<{kind}>{name}</{kind}><state>active</state></item>"
    )


LOCAL = route("10.0.0.0/16", gatewayId="local")
INTERNET = route("0.0.0.0/0", gatewayId="igw-1")


def table(name, *routes, subnets=(), main=False, vpc="vpc-1"):
    associations = [f"<subnetId>{one}</subnetId><main>false</main>" for one in subnets]
    associations += ["<main>true</main>"] if main else []
    return (
        f"<item><routeTableId>{name}</routeTableId><vpcId>{vpc}</vpcId>"
        f"<routeSet>{''.join(routes)}</routeSet><associationSet>"
        f"{''.join(f'<item>{one}</item>' for one in associations)}</associationSet></item>"
    )


def endpoint(service, *, tables=(), state="available", private_dns=True, vpc="vpc-1"):
    listed = "".join(f"<item>{one}</item>" for one in tables)
    return (
        f"<item><vpcId>{vpc}</vpcId><vpcEndpointType>{'Gateway' if tables else 'Interface'}"
        f"</vpcEndpointType><serviceName>com.amazonaws.us-east-1.{service}</serviceName>"
        f"<state>{state}</state><privateDnsEnabled>{str(private_dns).lower()}</privateDnsEnabled>"
        f"<routeTableIdSet>{listed}</routeTableIdSet></item>"
    )


def subnets(*items):
    return ec2("DescribeSubnets", f"<subnetSet>{''.join(items)}</subnetSet>")


def tables(*items):
    return ec2("DescribeRouteTables", f"<routeTableSet>{''.join(items)}</routeTableSet>")


def endpoints(*items):
    return ec2("DescribeVpcEndpoints", f"<vpcEndpointSet>{''.join(items)}</vpcEndpointSet>")


MACHINES = [
    *(machine("c6i.large", 2, 4096), machine("c6i.xlarge", 4, 8192)),
    *(machine("c6i.2xlarge", 8, 16384), machine("m6i.large", 2, 8192)),
    *(machine("m6i.xlarge", 4, 16384), machine("r6i.xlarge", 4, 32768)),
]
PRICES = [
    *(price("c6i.xlarge", "us-east-1a", "0.0640"), price("c6i.xlarge", "us-east-1b", "0.0700")),
    *(price("m6i.xlarge", "us-east-1a", "0.0768"), price("m6i.xlarge", "us-east-1c", "0.0100")),
]
SCORE = "<item><region>us-east-1</region><score>8</score></item>"

ANSWERS = {
    "GetServiceQuota": quota(STANDARD, STANDARD_NAME, 64),
    "DescribeInstanceTypes": ec2(
        "DescribeInstanceTypes", f"<instanceTypeSet>{''.join(MACHINES)}</instanceTypeSet>"
    ),
    "DescribeSpotPriceHistory": ec2(
        "DescribeSpotPriceHistory", f"<spotPriceHistorySet>{''.join(PRICES)}</spotPriceHistorySet>"
    ),
    "GetSpotPlacementScores": ec2(
        "GetSpotPlacementScores", f"<spotPlacementScoreSet>{SCORE}</spotPlacementScoreSet>"
    ),
    "GetProducts c6i.xlarge": product("0.1700000000"),
    "GetProducts m6i.xlarge": product("0.1920000000"),
    "GetProducts r6i.xlarge": product("0.2520000000"),
    "DescribeSubnets": subnets(subnet("subnet-a", "us-east-1a"), subnet("subnet-b", "us-east-1b")),
    "DescribeRouteTables": tables(table("rtb-1", LOCAL, INTERNET, main=True)),
}
"""An account in which a job of four vCPUs can run."""


def asked(job=JobSize(4, 7000), types=("c6i", "m6i", "r6i"), kind="SPOT", **others):  # noqa: B008
    """Return a request for machines in both subnets."""
    pool = Pool(kind, types, ("subnet-a", "subnet-b"), 64)
    return PreflightRequest("us-east-1", (pool,), job, **others)
