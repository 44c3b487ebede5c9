"""Deletes a deployment, and its data only if the bucket is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keepfit.infra import aws
from keepfit.infra.aws import AwsError
from keepfit.infra.deployment import stack_names
from keepfit.infra.stacks import retained_data
from keepfit.infra.stacks.stack import EventSink, delete_stack, describe_stack
from keepfit.infra.stacks.status import DeploymentStatus, unfinished_jobs

NO_REGION = "none"
"""The output of a deployment without a second region."""


def refuse_removal(
    status: DeploymentStatus, bucket: str | None, batch: Any, *, force: bool
) -> None:
    """Check that the deployment may be deleted, before anything is deleted.

    Args:
        bucket: the bucket whose data is to be deleted too, or None.

    Raises:
        AwsError: a job is not finished, or the bucket is not the deployment's.
    """
    own = status.outputs.get("Bucket")
    if bucket not in (None, own):
        raise AwsError(
            f"the deployment's bucket is {own}, not {bucket}: nothing was deleted, check "
            f"--delete-data"
        )
    queue = status.outputs.get("Queue")
    jobs = unfinished_jobs(batch, queue) if queue and not force else []
    if jobs:
        some = ", ".join(jobs[:3]) + (", …" if len(jobs) > 3 else "")
        raise AwsError(
            f"{len(jobs)} of the jobs of {queue} are not finished ({some}):"
            f" wait for them, or end them with `keepfit cancel`; --force deletes anyway"
        )


def refuse_first_region(name: str, status: DeploymentStatus) -> None:
    """Check that no second region is linked to the deployment: its jobs use the bucket and roles.

    Raises:
        AwsError: there is one.
    """
    region = status.outputs.get("OtherRegion", NO_REGION)
    if region == NO_REGION:
        return
    if describe_stack(aws.client("cloudformation", region), stack_names(name)[1]) is not None:
        raise AwsError(
            f"deployment {name!r} has a second region, {region}, whose jobs use this one's bucket "
            f"and roles: delete it first with `keepfit infra down --region {region}`"
        )


def remove_deployment(
    name: str, outputs: Mapping[str, str], on_event: EventSink, *, s3: Any | None
) -> None:
    """Delete the deployment's stacks, and its bucket and its repository if `s3` is given.

    Args:
        s3: the client that empties the bucket; None keeps the data.

    Raises:
        AwsError: a resource can't be deleted; it and the resources after it remain.
    """
    cloudformation = aws.client("cloudformation")
    storage, compute = stack_names(name)
    _delete_stack(cloudformation, compute, on_event)
    if s3 is not None:
        # As long as the stack exists, a failure here can be repeated.
        retained_data.empty_bucket(s3, outputs["Bucket"])
        retained_data.delete_repository(aws.client("ecr"), outputs["Repository"])
    _delete_stack(cloudformation, storage, on_event)
    if s3 is not None:
        retained_data.delete_bucket(s3, outputs["Bucket"])


def retained_resources(status: DeploymentStatus) -> list[str]:
    """Return the names of the resources that remain after the stacks are deleted."""
    names = (status.outputs.get("Bucket"), status.outputs.get("Repository"))
    return [name for name in names if name]


def _delete_stack(cloudformation: Any, name: str, on_event: EventSink) -> None:
    found = describe_stack(cloudformation, name)
    if found is not None:
        delete_stack(cloudformation, found, on_event)
