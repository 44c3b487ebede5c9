"""Deletes a deployment, and its data only if the bucket is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keepfit.infra import aws
from keepfit.infra.aws import AwsError
from keepfit.infra.deployment import stack_names
from keepfit.infra.stacks import retained_data as kept_data
from keepfit.infra.stacks.stack import EventSink, delete_stack, describe_stack
from keepfit.infra.stacks.status import DeploymentStatus, unfinished_jobs


def refuse_removal(
    standing: DeploymentStatus, bucket: str | None, batch: Any, *, force: bool
) -> None:
    """Check that the deployment may be deleted, before anything is.

    Args:
        bucket: the bucket whose data is to be deleted too, or None.

    Raises:
        AwsError: a job is not finished, or the bucket is not the deployment's.
    """
    own = standing.outputs.get("Bucket")
    if bucket not in (None, own):
        raise AwsError(
            f"the deployment's bucket is {own}, not {bucket}: nothing was deleted, check "
            f"--delete-data"
        )
    queue = standing.outputs.get("Queue")
    jobs = unfinished_jobs(batch, queue) if queue and not force else []
    if jobs:
        some = ", ".join(jobs[:3]) + (", …" if len(jobs) > 3 else "")
        raise AwsError(
            f"{len(jobs)} of the jobs of {queue} are not over ({some}):"
            f" wait for them, or end them with `keepfit cancel`; --force deletes all the same"
        )


def remove_deployment(
    name: str, outputs: Mapping[str, str], tell: EventSink, *, data: bool
) -> None:
    """Delete the deployment's stacks, and with `data` its bucket and its repository.

    Raises:
        AwsError: something can't be deleted; it and everything after it is left as it was.
    """
    cloudformation = aws.client("cloudformation")
    storage, compute = stack_names(name)
    _delete_stack(cloudformation, compute, tell)
    if data:
        # As long as the stack exists, a failure here can be repeated.
        s3, ecr = aws.client("s3"), aws.client("ecr")
        kept_data.empty_bucket(s3, outputs["Bucket"])
        kept_data.delete_repository(ecr, outputs["Repository"])
    _delete_stack(cloudformation, storage, tell)
    if data:
        kept_data.delete_bucket(s3, outputs["Bucket"])


def retained_resources(standing: DeploymentStatus) -> list[str]:
    """Return the names of the resources that remain after the stacks are deleted."""
    names = (standing.outputs.get("Bucket"), standing.outputs.get("Repository"))
    return [name for name in names if name]


def _delete_stack(cloudformation: Any, name: str, tell: EventSink) -> None:
    found = describe_stack(cloudformation, name)
    if found is not None:
        delete_stack(cloudformation, found, tell)
