"""What is asked of a deployment, and the parameters of the stacks that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keepfit.infra.stacks import network

# Types of one kind do not start with the other's images; these follow where --gpu changes.
GPU_TYPES = "g6e,g6,g5,g4dn"
CPU_TYPES = "c7i,c6i,c7a,c6a,m7i,m6i,m7a,m6a,r7i,r6i"


@dataclass(frozen=True)
class DeploymentRequest:
    """None, or nothing: as it was, or for a new deployment what is usual."""

    prefix: str | None = None
    vpc: str | None = None
    subnets: tuple[str, ...] = ()
    route_tables: tuple[str, ...] | None = None
    instance_types: str | None = None
    gpu: bool | None = None
    max_vcpus: int | None = None
    on_demand_vcpus: int | None = None
    image: str | None = None


def storage_parameters(wishes: DeploymentRequest) -> dict[str, str]:
    """The parameters to give; others stay as they were."""
    return {} if wishes.prefix is None else {"Prefix": wishes.prefix}


def region_parameters(
    wishes: DeploymentRequest, before: Mapping[str, str], ec2: Any
) -> dict[str, str]:
    """Those parameters of the compute stack that depend on what the region has.

    Args:
        before: the parameters that it has, if it exists.

    Raises:
        AwsError: there is no such network, or no such machine.
    """
    given: dict[str, str] = {}
    if wishes.vpc is not None or wishes.subnets or "Vpc" not in before:
        found = network.resolve_network(ec2, wishes.vpc, wishes.subnets)
        given |= {"Vpc": found.vpc, "Subnets": ",".join(found.subnets)}
    gpu = before.get("Gpu", "false") if wishes.gpu is None else _text(wishes.gpu)
    if wishes.instance_types is not None:
        given["InstanceTypes"] = wishes.instance_types
    elif "InstanceTypes" not in before or gpu != before.get("Gpu"):
        usual = GPU_TYPES if gpu == "true" else CPU_TYPES
        given["InstanceTypes"] = ",".join(network.offered_types(ec2, usual.split(",")))
    return given


def compute_parameters(
    wishes: DeploymentRequest, before: Mapping[str, str], storage: Mapping[str, str]
) -> dict[str, str]:
    """All its other parameters that are to be given; `storage` are that stack's outputs."""
    image = wishes.image
    if image is None and "Image" not in before:
        image = f"{storage['Repository']}:latest"
    asked = {
        "RouteTables": None if wishes.route_tables is None else ",".join(wishes.route_tables),
        "Gpu": wishes.gpu,
        "MaxVcpus": wishes.max_vcpus,
        "OnDemandVcpus": wishes.on_demand_vcpus,
        "Image": image,
    }
    return {
        **{name: storage[name] for name in ("Bucket", "Prefix", "JobRole")},
        **{name: _text(value) for name, value in asked.items() if value is not None},
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
