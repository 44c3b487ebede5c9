"""The network and the instance types of a deployment: a VPC, its subnets, instance families."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keepfit.infra.aws import AwsError, explain_errors


@dataclass(frozen=True)
class Network:
    """A VPC and subnets of it, by id."""

    vpc: str
    subnets: tuple[str, ...]


def resolve_network(ec2: Any, vpc: str | None, subnets: Sequence[str]) -> Network:
    """Return the network; by default, the default VPC or the subnets' VPC, and all its subnets.

    Raises:
        AwsError: there is no such network, or AWS refuses the request.
    """
    if subnets:
        return _of_subnets(ec2, vpc, subnets)
    if vpc is not None:
        found = _subnets(ec2, Filters=[{"Name": "vpc-id", "Values": [vpc]}])
        if not found:
            raise AwsError(f"there is no VPC {vpc} with subnets in this region; check --vpc")
        return Network(vpc, tuple(sorted(found)))
    default = _default_vpc(ec2)
    within = {"Name": "vpc-id", "Values": [default]}
    # Other subnets may have no route to the internet, and a machine there never registers.
    by_default = {"Name": "default-for-az", "Values": ["true"]}
    found = _subnets(ec2, Filters=[within, by_default])
    if not found:
        raise AwsError(
            f"the default VPC {default} has no default subnets; name some with --subnets"
        )
    return Network(default, tuple(sorted(found)))


def offered_types(ec2: Any, families: Sequence[str]) -> tuple[str, ...]:
    """Return the given instance families, or types, that this region offers.

    AWS Batch refuses a whole list because of one family that the region lacks.

    Raises:
        AwsError: the region offers none of them, or AWS refuses the request.
    """
    with explain_errors("the region's instance types can't be listed"):
        pages = ec2.get_paginator("describe_instance_type_offerings").paginate()
        offered = {
            name
            for page in pages
            for offering in page["InstanceTypeOfferings"]
            for name in (offering["InstanceType"], offering["InstanceType"].partition(".")[0])
        }
    found = tuple(family for family in families if family in offered)
    if not found:
        raise AwsError(
            f"this region has none of the usual instance families ({', '.join(families)}): "
            f"name some with --instance-types"
        )
    return found


def _default_vpc(ec2: Any) -> str:
    with explain_errors("the default VPC can't be found"):
        found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        raise AwsError(
            "this account has no default VPC in this region: name one with --vpc, or create it "
            "with `aws ec2 create-default-vpc`"
        )
    return str(found[0]["VpcId"])


def _of_subnets(ec2: Any, vpc: str | None, subnets: Sequence[str]) -> Network:
    found = _subnets(ec2, SubnetIds=list(subnets))
    vpcs = sorted(set(found.values()))
    if len(vpcs) != 1:
        raise AwsError(f"the subnets {', '.join(subnets)} are not in one VPC: {', '.join(vpcs)}")
    if vpc not in (None, vpcs[0]):
        raise AwsError(f"the subnets {', '.join(subnets)} are in VPC {vpcs[0]}, not in {vpc}")
    return Network(vpcs[0], tuple(subnets))


def _subnets(ec2: Any, **wanted: Any) -> dict[str, str]:
    """Return the VPC of each subnet, by the subnet's id."""
    with explain_errors("the subnets can't be found"):
        pages = ec2.get_paginator("describe_subnets").paginate(**wanted)
        return {s["SubnetId"]: s["VpcId"] for page in pages for s in page["Subnets"]}
