"""The region of `keepfit infra`, and a deployment's second region."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keepfit.callbacks.engine.save_policy import parse_duration
from keepfit.job.commands.failures import USAGE_ERROR, fail

if TYPE_CHECKING:
    from keepfit.infra.stacks.changes import Change, StackDeployer
    from keepfit.infra.stacks.request import DeploymentRequest
    from keepfit.infra.stacks.second_region import FirstRegion
    from keepfit.infra.stacks.stack import Event, Stack

Region = Annotated[
    str | None, typer.Option(metavar="REGION", help="[default: AWS_REGION, or the profile's]")
]
FirstStore = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URI",
        help="The store of a deployment in another region: make this one its second region.",
    ),
]
MoveAfter = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="When jobs without capacity go on in the second region. [default: 30min]",
    ),
]

Confirm = Callable[[str, "tuple[Change, ...] | None"], None]

_SHORTEST, _LONGEST = 10, 24 * 60
"""Minutes; AWS Batch itself needs some until a machine has started."""


@contextmanager
def in_region(region: str | None) -> Iterator[None]:
    """Let all clients that the block creates use the region, as AWS_REGION would.

    Args:
        region: None keeps the configured one.
    """
    before = os.environ.get("AWS_REGION")
    if region is None:
        yield
        return
    os.environ["AWS_REGION"] = region
    try:
        yield
    finally:
        del os.environ["AWS_REGION"]
        if before is not None:
            os.environ["AWS_REGION"] = before


def minutes_of(move_after: str | None) -> int | None:
    """Return the minutes of `--move-after`; exit if they are too few or too many."""
    if move_after is None:
        return None
    seconds = parse_duration(move_after)
    if seconds is None or not _SHORTEST <= seconds / 60 <= _LONGEST:
        fail(
            f"a time from 10min to 24h is expected. Received: --move-after={move_after!r}",
            USAGE_ERROR,
        )
    return round(seconds / 60)


def find_first(
    name: str, store: str | None, compute: Stack | None, on_event: Callable[[Event], None]
) -> FirstRegion | None:
    """Return the first region if this one is, or becomes, the second one; otherwise None.

    Args:
        store: the value of --store.
        compute: the compute stack in this region.

    Raises:
        AwsError: there is no such deployment.
    """
    from keepfit.infra.stacks import second_region
    from keepfit.job.commands.deployment.s3_access import s3_client

    known = compute.parameters.get(second_region.HOME, "") if compute else ""
    if store is None and not known:
        return None
    home = known or second_region.bucket_region(s3_client(), store or "")
    return second_region.find_first(name, home, store, on_event)


def deploy_second(
    asked: DeploymentRequest,
    first: FirstRegion,
    compute: Stack | None,
    deployer: StackDeployer,
    confirm: Confirm,
    move_after: int | None,
    *,
    prices: bool,
) -> dict[str, str]:
    """Deploy the compute stack in this region and link the first one to it; return its outputs.

    Args:
        compute: the existing stack in this region.
        deployer: the deployer of this region.
        confirm: called with the first region's changes.
        prices: show machines and their prices in this region first.

    Raises:
        AwsError: a stack can't be created or changed.
    """
    from keepfit.infra import aws
    from keepfit.infra.stacks import second_region
    from keepfit.infra.stacks.changes import StackDeployer
    from keepfit.job.commands.deployment import infra_preflight

    region = deployer.cloudformation.meta.region_name
    second_region.check_second(asked, first, compute, region)
    before = compute.parameters if compute else {}
    given = second_region.second_parameters(asked, before, first, aws.client("ec2"))
    infra_preflight.check_deployment(asked, before, given, region, prices=prices)
    second = deployer.deploy("compute", first.compute.name, compute, given)
    linking = StackDeployer(first.cloudformation, deployer.on_event, _named(confirm, first.region))
    second_region.link(linking, first, second, region, move_after)
    return second.outputs


def unlink(
    name: str, home: str, region: str, on_event: Callable[[Event], None], confirm: Confirm
) -> None:
    """Let jobs of the first region stay there, before the second one is deleted.

    Raises:
        AwsError: the first region's compute stack can't be changed.
    """
    from keepfit.infra import aws
    from keepfit.infra.stacks import second_region
    from keepfit.infra.stacks.changes import StackDeployer

    cloudformation: Any = aws.client("cloudformation", home)
    deployer = StackDeployer(cloudformation, on_event, _named(confirm, home))
    second_region.unlink(deployer, name, region, on_event)


def _named(confirm: Confirm, region: str) -> Confirm:
    """Return a function that confirms changes of a stack whose region is shown."""
    return lambda stack, found: confirm(f"{stack} in {region}", found)
