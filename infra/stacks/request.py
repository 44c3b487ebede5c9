"""The options of a deployment, and the stack parameters that follow from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keepfit.infra.aws import AwsError
from keepfit.infra.stacks import generated, network, template

_KEY_ARN = re.compile(
    r"arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):[0-9]{12}:key/[A-Za-z0-9-]+", re.ASCII
)

MAX_READ_POLICY = 8_500
"""Of the 10,240 characters of all inline policies of a role; white space does not count."""

# CPU types do not start with GPU images, nor the reverse; so these defaults follow --gpu.
GPU_TYPES = "g6e,g6,g5,g4dn"
CPU_TYPES = "c7i,c6i,c7a,c6a,m7i,m6i,m7a,m6a,r7i,r6i"


@dataclass(frozen=True)
class DeploymentRequest:
    """The requested options; None or empty keeps the current value, or takes the default."""

    prefix: str | None = None
    kms_key: str | None = None
    vpc: str | None = None
    subnets: tuple[str, ...] = ()
    route_tables: tuple[str, ...] | None = None
    instance_types: str | None = None
    gpu: bool | None = None
    max_vcpus: int | None = None
    on_demand_vcpus: int | None = None
    image: str | None = None
    secrets: tuple[str, ...] | None = None
    secret_keys: tuple[str, ...] | None = None
    emails: tuple[str, ...] | None = None
    disk_gib: int | None = None
    reads: tuple[str, ...] | None = None
    policies: tuple[str, ...] | None = None
    egress_ports: tuple[str, ...] | None = None


def check_kms_key(request: DeploymentRequest, before: Mapping[str, str], region: str) -> None:
    """Check that the bucket and the jobs' role can use the requested KMS key.

    Args:
        before: the current parameters of the storage stack; empty if it does not exist.

    Raises:
        AwsError: they can't, or jobs could no longer read the runs that the bucket has.
    """
    key, current = request.kms_key, before.get("KmsKey")
    if key is None:
        return
    match = _KEY_ARN.fullmatch(key)
    if not match:
        raise AwsError(
            "a policy names a KMS key by its ARN, arn:aws:kms:REGION:ACCOUNT:key/ID, not by an "
            f"alias. Received: --kms-key={key!r}"
        )
    if match["region"] != region:
        raise AwsError(
            f"S3 uses KMS keys of the bucket's region {region} only: name one of that region, or "
            f"set AWS_REGION. Received: --kms-key={key!r}"
        )
    if current and key != current:
        raise AwsError(
            f"the bucket's objects are encrypted with {current}, and jobs could no longer read "
            f"them with the permissions for another key only: create another deployment with "
            f"--name. Received: --kms-key={key!r}"
        )


def check_reads(request: DeploymentRequest) -> None:
    """Check that the policy for the requested data fits into a role, beside that for the store.

    Raises:
        AwsError: it does not. CloudFormation would find it out while it changes the stack.
    """
    size = len("".join(generated.read_policy(request.reads or ()).split()))
    if size > MAX_READ_POLICY:
        raise AwsError(
            f"the policy for all --read has {size} characters, and {MAX_READ_POLICY} fit into the "
            f"role of jobs: name prefixes that contain several of them, or a managed policy of "
            f"your own with --policy"
        )


def storage_parameters(request: DeploymentRequest) -> dict[str, str]:
    """Return the parameters of the storage stack to set; the others are kept."""
    asked = {
        "Prefix": request.prefix,
        "KmsKey": request.kms_key,
        template.READS: _list(request.reads),
        template.POLICIES: _list(request.policies),
    }
    return {name: value for name, value in asked.items() if value is not None}


def region_parameters(
    request: DeploymentRequest, before: Mapping[str, str], ec2: Any
) -> dict[str, str]:
    """Return the parameters of the compute stack that depend on what the region offers.

    Args:
        before: the current parameters of the stack; empty if it does not exist.

    Raises:
        AwsError: there is no such network, or no such instance type.
    """
    given: dict[str, str] = {}
    if request.vpc is not None or request.subnets or "Vpc" not in before:
        found = network.resolve_network(ec2, request.vpc, request.subnets)
        given |= {"Vpc": found.vpc, "Subnets": ",".join(found.subnets)}
    gpu = before.get("Gpu", "false") if request.gpu is None else _text(request.gpu)
    if request.instance_types is not None:
        given["InstanceTypes"] = request.instance_types
    elif "InstanceTypes" not in before or gpu != before.get("Gpu"):
        usual = GPU_TYPES if gpu == "true" else CPU_TYPES
        given["InstanceTypes"] = ",".join(network.offered_types(ec2, usual.split(",")))
    return given


def compute_parameters(
    request: DeploymentRequest, before: Mapping[str, str], storage: Mapping[str, str]
) -> dict[str, str]:
    """Return the compute stack's other parameters; `storage` are the storage stack's outputs."""
    image = request.image
    if image is None and "Image" not in before:
        image = f"{storage['Repository']}:latest"
    asked = {
        "RouteTables": _list(request.route_tables),
        "Secrets": _list(request.secrets),
        "SecretKeys": _list(request.secret_keys),
        template.EMAILS: _list(request.emails),
        template.EGRESS_PORTS: _list(request.egress_ports),
        "DiskGib": request.disk_gib,
        "Gpu": request.gpu,
        "MaxVcpus": request.max_vcpus,
        "OnDemandVcpus": request.on_demand_vcpus,
        "Image": image,
    }
    return {
        **{name: storage[name] for name in ("Bucket", "Prefix", "JobRole", "KmsKey")},
        **{name: _text(value) for name, value in asked.items() if value is not None},
    }


def _list(values: tuple[str, ...] | None) -> str | None:
    return None if values is None else ",".join(values)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
