"""The networks of machines: from a subnet, the ECS agent has to reach ECS, ECR, logs and S3.

AWS Batch gives machines no public address: in a subnet with a route to an internet gateway, the
subnet's MapPublicIpOnLaunch decides. A machine that reaches no ECS never registers, and the job
stays RUNNABLE.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from keepfit.infra.aws import explain_errors
from keepfit.infra.preflight.findings import Finding, Severity

SUBNETS_ACTION: Final = "ec2:DescribeSubnets"
ROUTES_ACTION: Final = "ec2:DescribeRouteTables"
ENDPOINTS_ACTION: Final = "ec2:DescribeVpcEndpoints"

NEEDED_SERVICES: Final = ("ecs", "ecs-agent", "ecs-telemetry", "ecr.api", "ecr.dkr", "logs")
"""Services whose interface endpoints replace a route to the internet; S3 in addition."""

_INTERNET_GATEWAY: Final = "igw-"
_WITHIN: Final = ("local", "vpce-")
"""Targets of routes that lead nowhere else: the VPC itself, and gateway endpoints."""


@dataclass(frozen=True)
class Subnet:
    """A subnet with the routes that apply to it.

    Attributes:
        public_addresses: machines get a public address at launch.
        table: the route table's id; empty if there is none.
        routes: the target of each active route by its destination.
    """

    id: str
    vpc: str
    zone: str
    public_addresses: bool
    table: str = ""
    routes: Mapping[str, str] = field(default_factory=dict)

    @property
    def through_internet_gateway(self) -> bool:
        """Whether the default route leads to an internet gateway."""
        return self.routes.get("0.0.0.0/0", "").startswith(_INTERNET_GATEWAY)

    @property
    def certainly_closed(self) -> bool:
        """Whether no route leads out of the VPC, except one that needs public addresses.

        A transit gateway, a peering connection or a VPN may lead to endpoints elsewhere.
        """
        usable = {
            target
            for destination, target in self.routes.items()
            if not (destination == "0.0.0.0/0" and target.startswith(_INTERNET_GATEWAY))
        }
        return not self.open and all(target.startswith(_WITHIN) for target in usable)

    @property
    def open(self) -> bool:
        """Whether machines reach the internet over IPv4, as far as routes tell."""
        target = self.routes.get("0.0.0.0/0", "")
        return self.public_addresses if self.through_internet_gateway else bool(target)


@dataclass(frozen=True)
class Endpoint:
    """A VPC endpoint that is available.

    Attributes:
        service: the name without region, for example "ecr.api".
        tables: the route tables of a gateway endpoint.
        interface: it has addresses in the VPC and the service's own name in its DNS.
    """

    vpc: str
    service: str
    interface: bool
    tables: tuple[str, ...] = ()


def read_subnets(ec2: Any, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the subnets as EC2 describes them.

    Raises:
        AwsError: AWS refuses the request, or does not know a subnet.
    """
    with explain_errors("the subnets"):
        pages = ec2.get_paginator("describe_subnets").paginate(SubnetIds=list(ids))
        return [subnet for page in pages for subnet in page["Subnets"]]


def read_route_tables(ec2: Any, vpcs: Iterable[str]) -> list[dict[str, Any]]:
    """Return the route tables of these VPCs as EC2 describes them.

    Raises:
        AwsError: AWS refuses the request or does not answer.
    """
    within = {"Name": "vpc-id", "Values": sorted(set(vpcs))}
    with explain_errors("the route tables"):
        pages = ec2.get_paginator("describe_route_tables").paginate(Filters=[within])
        return [table for page in pages for table in page["RouteTables"]]


def read_endpoints(ec2: Any, vpcs: Iterable[str], region: str) -> tuple[Endpoint, ...]:
    """Return the available endpoints of these VPCs.

    Raises:
        AwsError: AWS refuses the request or does not answer.
    """
    within = {"Name": "vpc-id", "Values": sorted(set(vpcs))}
    with explain_errors("the VPC endpoints"):
        pages = ec2.get_paginator("describe_vpc_endpoints").paginate(Filters=[within])
        found = [endpoint for page in pages for endpoint in page["VpcEndpoints"]]
    return tuple(
        Endpoint(
            one["VpcId"],
            one["ServiceName"].partition(f".{region}.")[2],
            one["VpcEndpointType"] == "Interface" and bool(one.get("PrivateDnsEnabled")),
            tuple(one.get("RouteTableIds", ())),
        )
        for one in found
        if one["State"].lower() == "available"
    )


def with_routes(
    subnets: Iterable[Mapping[str, Any]], tables: Sequence[Mapping[str, Any]]
) -> tuple[Subnet, ...]:
    """Return the subnets with the routes of their own table, or else of the VPC's main one."""
    own: dict[str, Mapping[str, Any]] = {}
    main: dict[str, Mapping[str, Any]] = {}
    for table in tables:
        for association in table.get("Associations", ()):
            if association.get("SubnetId"):
                own[association["SubnetId"]] = table
            elif association.get("Main"):
                main[table["VpcId"]] = table
    return tuple(
        _subnet(one, own.get(one["SubnetId"]) or main.get(one["VpcId"]) or {}) for one in subnets
    )


def subnet_findings(
    subnets: Sequence[Subnet],
    endpoints: Collection[Endpoint] | None,
    services: Sequence[str],
    region: str,
) -> tuple[Finding, ...]:
    """Name what machines in each subnet can't reach, and the command that mends it.

    Refused: machines can work in none of the subnets, and that is certain.

    Args:
        endpoints: those of the VPCs; None if they are not known, and then they are assumed.
        services: services that the job needs in addition to `NEEDED_SERVICES` and S3.
    """
    if endpoints is None:
        return ()
    lacking = [(one, _missing(one, endpoints, services)) for one in subnets if not one.open]
    closed = [(one, names) for one, names in lacking if names]
    certain = [one for one, _ in closed if one.certainly_closed]
    severity = Severity.REFUSED if len(certain) == len(subnets) else Severity.WARNING
    groups: dict[tuple[str, tuple[str, ...]], list[Subnet]] = {}
    for one, names in closed:
        if not one.through_internet_gateway:
            groups.setdefault((one.vpc, names), []).append(one)
    public = [_public_finding(severity, o, region) for o, _ in closed if o.through_internet_gateway]
    private = [_private_finding(severity, g, names, region) for (_, names), g in groups.items()]
    return (*public, *private)


def _subnet(found: Mapping[str, Any], table: Mapping[str, Any]) -> Subnet:
    routes = {}
    for route in table.get("Routes", ()):
        destination = route.get("DestinationCidrBlock") or route.get("DestinationIpv6CidrBlock")
        destination = destination or route.get("DestinationPrefixListId")
        if destination and route.get("State", "active") == "active":
            routes[destination] = _target(route)
    return Subnet(
        found["SubnetId"],
        found["VpcId"],
        found["AvailabilityZone"],
        bool(found.get("MapPublicIpOnLaunch")),
        table.get("RouteTableId", ""),
        routes,
    )


def _target(route: Mapping[str, Any]) -> str:
    """Return the id of a route's target, whatever its kind is."""
    kinds = ("GatewayId", "NatGatewayId", "TransitGatewayId", "EgressOnlyInternetGatewayId")
    others = sorted(name for name in route if name.endswith(("Id", "Arn")) and name not in kinds)
    names = [*kinds, *(name for name in others if not name.startswith("Destination"))]
    return next((str(route[name]) for name in names if route.get(name)), "")


def _missing(
    subnet: Subnet, endpoints: Collection[Endpoint], services: Sequence[str]
) -> tuple[str, ...]:
    """Return the services that a subnet without internet does not reach."""
    own = [endpoint for endpoint in endpoints if endpoint.vpc == subnet.vpc]
    reached = {endpoint.service for endpoint in own if endpoint.interface}
    if any(one.service == "s3" and subnet.table in one.tables for one in own):
        reached.add("s3")
    return tuple(name for name in (*NEEDED_SERVICES, *services, "s3") if name not in reached)


def _public_finding(severity: Severity, subnet: Subnet, region: str) -> Finding:
    return Finding(
        severity,
        f"subnet {subnet.id} ({subnet.zone})",
        "its internet gateway needs public addresses, and machines get none: they never register",
        f"aws ec2 modify-subnet-attribute --subnet-id {subnet.id} --map-public-ip-on-launch "
        f"--region {region}",
    )


def _private_finding(
    severity: Severity, subnets: Sequence[Subnet], missing: Sequence[str], region: str
) -> Finding:
    """Return one finding for subnets of a VPC that lack the same: they can share endpoints."""
    named = ", ".join(f"{subnet.id} ({subnet.zone})" for subnet in subnets)
    reason = (
        f"no route to the internet, and no endpoint for {', '.join(missing)}: machines there "
        f"never register"
        if set(missing) & set(NEEDED_SERVICES[:3])
        else f"no route to the internet, and no endpoint for {', '.join(missing)}"
    )
    create = f"aws ec2 create-vpc-endpoint --region {region} --vpc-id {subnets[0].vpc}"
    commands = []
    if interfaces := [name for name in missing if name != "s3"]:
        commands.append(
            f"for s in {' '.join(interfaces)}; do {create} --vpc-endpoint-type Interface "
            f"--service-name com.amazonaws.{region}.$s "
            f"--subnet-ids {' '.join(subnet.id for subnet in subnets)} "
            f"--security-group-ids GROUP_THAT_ADMITS_PORT_443; done"
        )
    if "s3" in missing:
        tables = sorted({subnet.table for subnet in subnets})
        commands.append(
            f"{create} --vpc-endpoint-type Gateway --service-name com.amazonaws.{region}.s3 "
            f"--route-table-ids {' '.join(tables)}"
        )
    noun = "subnets" if len(subnets) > 1 else "subnet"
    return Finding(severity, f"{noun} {named}", reason, " && ".join(commands))
