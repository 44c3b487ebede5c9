"""What commands about a run on AWS Batch share: their options, the deployment, the checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from job.commands.reporting import of_store

if TYPE_CHECKING:
    from callbacks.checkpoint.inspection import Summary
    from infra.deployment import Deployment

Name = Annotated[str, typer.Option("--name", help="The deployment's name.")]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="Where runs are. [default: the deployment's bucket]")
]
QueueOption = Annotated[
    str | None, typer.Option("--queue", help="A job queue. [default: the deployment's]")
]


def deployment_of(name: str) -> Deployment:
    """The deployment of that name. Raises AwsError if there is none."""
    from infra import aws
    from infra.deployment import find

    return find(aws.client("cloudformation"), name)


def summary_of(store: str, run: str) -> Summary | None:
    """The run at a glance; None if the store has none of that name."""
    from callbacks.checkpoint.inspection import NoSuchRun, summary
    from callbacks.storage import open_store

    with of_store():
        try:
            return summary(open_store(store), run)
        except NoSuchRun:
            return None
