"""A deployment's second region: a compute stack beside the first one, and the link between them.

The storage stack stays in the first region: its bucket, its images and its roles serve both. The
first region's compute stack learns of the second one's queue, so that jobs can go on there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from keepfit.infra import aws
from keepfit.infra.aws import AwsError, explain_errors
from keepfit.infra.deployment import stack_names
from keepfit.infra.stacks import changes, network, request
from keepfit.infra.stacks.changes import StackDeployer
from keepfit.infra.stacks.request import DeploymentRequest
from keepfit.infra.stacks.stack import EventSink, Stack, describe_stack

HOME = "HomeRegion"
"""The parameter of the second compute stack that names the first region."""

LINK = ("OtherRegion", "OtherQueue", "OtherJob")
"""The parameters of the first compute stack that name the second one."""

MOVE_AFTER = "MoveAfter"

_OF_ONE_REGION = frozenset(
    {"Vpc", "Subnets", "RouteTables", "InstanceTypes", "Secrets", "SecretKeys"}
    | {HOME, MOVE_AFTER, *LINK}
)
"""Parameters of a compute stack that another region's stack does not inherit."""


@dataclass(frozen=True)
class FirstRegion:
    """The stacks in the first region; `cloudformation` is a client there."""

    region: str
    cloudformation: Any
    storage: Stack
    compute: Stack


def bucket_region(s3: Any, store: str) -> str:
    """Return the region of a store's bucket, which S3 names also if it denies the access.

    Raises:
        AwsError: there is no such bucket, or S3 does not answer.
    """
    bucket = store.removeprefix("s3://").partition("/")[0]
    if not store.startswith("s3://") or not bucket:
        raise AwsError(f"the first deployment's store is s3://BUCKET/PREFIX. Received: {store!r}")
    with explain_errors(f"bucket {bucket}"):
        try:
            answer = s3.head_bucket(Bucket=bucket)
        except ClientError as error:
            answer = error.response
            if not _region(answer):
                raise
    return _region(answer)


def find_first(name: str, home: str, store: str | None, on_event: EventSink) -> FirstRegion:
    """Return the deployment in the first region.

    Args:
        home: the first region.
        store: the store that the deployment must have; None for any.

    Raises:
        AwsError: the deployment is incomplete, is being changed, or has another store.
    """
    cloudformation = aws.client("cloudformation", home)
    storage_name, compute_name = stack_names(name)
    storage = describe_stack(cloudformation, storage_name)
    compute = changes.ready(cloudformation, compute_name, on_event)
    if storage is None or compute is None or "Store" not in storage.outputs:
        raise AwsError(
            f"region {home} has no deployment {name!r}: create it first with `keepfit infra up "
            f"--region {home}`, or name it with --name"
        )
    own = storage.outputs["Store"]
    if store is not None and store.rstrip("/") != own:
        raise AwsError(
            f"the store of deployment {name!r} in {home} is {own}: name that one, or another "
            f"deployment. Received: --store={store!r}"
        )
    return FirstRegion(home, cloudformation, storage, compute)


def check_second(
    asked: DeploymentRequest, first: FirstRegion, compute: Stack | None, region: str
) -> None:
    """Check that the region can be the second one, before anything is created.

    Args:
        compute: the compute stack that the region has.

    Raises:
        AwsError: it is the first one, it has a deployment of its own, there is another second one,
            or an option does not apply.
    """
    if region == first.region:
        raise AwsError(
            f"--store names the deployment of another region, and its bucket is in {region}, too: "
            f"name the second region with --region, or leave out --store"
        )
    if compute is not None and not compute.parameters.get(HOME):
        raise AwsError(
            f"region {region} has a deployment with a store of its own, stack {compute.name}: "
            f"delete it, or create both regions of another deployment with --name"
        )
    linked = first.compute.parameters.get(LINK[0], "")
    if linked not in ("", region):
        raise AwsError(
            f"the deployment in {first.region} has a second region already, {linked}: delete that "
            f"first with `keepfit infra down --region {linked}`"
        )
    if request.storage_parameters(asked):
        raise AwsError(
            f"--prefix, --kms-key, --read and --policy belong to the storage stack, which is in "
            f"{first.region}: change them with `keepfit infra up --region {first.region}`"
        )


def second_parameters(
    asked: DeploymentRequest, before: Mapping[str, str], first: FirstRegion, ec2: Any
) -> dict[str, str]:
    """Return the parameters of the second compute stack; a new one inherits from the first one.

    Args:
        before: the current parameters of the second stack; empty if it does not exist.

    Raises:
        AwsError: there is no such network, or no such instance type.
    """
    kept = dict(before) or {
        name: value
        for name, value in first.compute.parameters.items()
        if name not in _OF_ONE_REGION
    }
    gpu_changes = asked.gpu is not None and str(asked.gpu).lower() != kept.get("Gpu")
    if not before and asked.instance_types is None and not gpu_changes:
        usual = first.compute.parameters["InstanceTypes"].split(",")
        asked = replace(asked, instance_types=",".join(network.offered_types(ec2, usual)))
    return {
        **({} if before else kept),
        **request.region_parameters(asked, kept, ec2),
        **request.compute_parameters(asked, kept, first.storage.outputs),
        HOME: first.region,
    }


def link(
    deployer: StackDeployer,
    first: FirstRegion,
    second: Stack,
    region: str,
    move_after: int | None,
) -> None:
    """Let jobs of the first region go on in the second one, after `move_after` minutes.

    Raises:
        AwsError: the first region's compute stack can't be changed.
    """
    values = (region, second.outputs["Queue"], second.outputs["Job"])
    given = dict(zip(LINK, values, strict=True))
    if move_after is not None:
        given[MOVE_AFTER] = str(move_after)
    deployer.deploy("compute", first.compute.name, first.compute, given)


def unlink(deployer: StackDeployer, name: str, region: str, on_event: EventSink) -> None:
    """Let jobs of the first region stay there, if they are linked to this region.

    Args:
        deployer: the deployer of the first region.

    Raises:
        AwsError: the first region's compute stack can't be changed.
    """
    compute = stack_names(name)[1]
    found = changes.ready(deployer.cloudformation, compute, on_event)
    if found is not None and found.parameters.get(LINK[0]) == region:
        deployer.deploy("compute", compute, found, dict.fromkeys(LINK, ""))


def _region(answer: Mapping[str, Any]) -> str:
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return str(headers.get("x-amz-bucket-region", ""))
