"""Taking a deployment down; its data only where it is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra import aws
from infra.aws import AwsError
from infra.deployment import stacks
from infra.stacks import data as kept_data
from infra.stacks.stack import Tell, delete, describe
from infra.stacks.standing import Standing, unfinished


def refuse(standing: Standing, bucket: str | None, batch: Any, *, force: bool) -> None:
    """Say no before anything is deleted.

    Args:
        bucket: whose data is to be deleted too.

    Raises:
        AwsError: a job is not over, or the bucket is another one.
    """
    own = standing.outputs.get("Bucket")
    if bucket not in (None, own):
        raise AwsError(
            f"the deployment's bucket is {own}, not {bucket}: nothing was deleted, check "
            f"--delete-data"
        )
    queue = standing.outputs.get("Queue")
    jobs = unfinished(batch, queue) if queue and not force else []
    if jobs:
        some = ", ".join(jobs[:3]) + (", …" if len(jobs) > 3 else "")
        raise AwsError(
            f"{len(jobs)} of the jobs of {queue} are not over ({some}):"
            f" wait for them, or end them with `keepfit cancel`; --force deletes all the same"
        )


def remove(name: str, outputs: Mapping[str, str], tell: Tell, *, data: bool) -> None:
    """Delete the deployment's stacks, and with `data` its bucket and its repository.

    Raises:
        AwsError: something can't be deleted; what is named there, and all after it, is left.
    """
    cloudformation = aws.client("cloudformation")
    storage, compute = stacks(name)
    _delete_stack(cloudformation, compute, tell)
    if data:
        # While the stack is there, what fails here can be repeated.
        s3, ecr = aws.client("s3"), aws.client("ecr")
        kept_data.empty_bucket(s3, outputs["Bucket"])
        kept_data.delete_repository(ecr, outputs["Repository"])
    _delete_stack(cloudformation, storage, tell)
    if data:
        kept_data.delete_bucket(s3, outputs["Bucket"])


def kept(standing: Standing) -> list[str]:
    """What outlives the stacks."""
    names = (standing.outputs.get("Bucket"), standing.outputs.get("Repository"))
    return [name for name in names if name]


def _delete_stack(cloudformation: Any, name: str, tell: Tell) -> None:
    found = describe(cloudformation, name)
    if found is not None:
        delete(cloudformation, found, tell)
