"""`keepfit infra up`, `status` and `down`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn

import structlog
import typer

from keepfit.callbacks import events
from keepfit.job.commands.failures import USAGE_ERROR, aws_errors_exit, fail
from keepfit.job.commands.options import AsJson, Deployment

if TYPE_CHECKING:
    from keepfit.infra.stacks.changes import Change
    from keepfit.infra.stacks.stack import Event
    from keepfit.infra.stacks.status import DeploymentStatus

log = structlog.get_logger("keepfit")

DECLINED = 1

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,47}")

infra = typer.Typer(
    name="infra", no_args_is_help=True, help="Where runs are kept and machines come from, on AWS."
)

Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


@infra.command()
def up(
    name: Deployment = "keepfit",
    prefix: Annotated[
        str | None, typer.Option(help="The store's prefix in the bucket. [default: runs]")
    ] = None,
    vpc: Annotated[str | None, typer.Option(help="[default: the account's default VPC]")] = None,
    subnets: Annotated[
        str | None, typer.Option(help="Ids, with commas between. [default: all of the VPC]")
    ] = None,
    route_tables: Annotated[
        str | None,
        typer.Option(help="Those that are to get an S3 gateway endpoint. [default: none]"),
    ] = None,
    instance_types: Annotated[
        str | None, typer.Option(help="Families or types, with commas between.")
    ] = None,
    gpu: Annotated[
        bool | None, typer.Option("--gpu/--no-gpu", help="Machines with NVIDIA's drivers.")
    ] = None,
    max_vcpus: Annotated[
        int | None, typer.Option(min=1, help="Of all Spot instances. [default: 64]")
    ] = None,
    on_demand_vcpus: Annotated[
        int | None, typer.Option(min=0, help="Behind Spot, at the full price. [default: 0]")
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="The jobs' image. [default: the repository's :latest]")
    ] = None,
    yes: Yes = False,
) -> None:
    """Make a deployment, or change it: what is not given stays as it is.

    The changes are shown before they are made.
    """
    from keepfit.infra import aws
    from keepfit.infra.deployment import stack_names
    from keepfit.infra.stacks import changes, request

    _check(name, yes=yes)
    asked = request.DeploymentRequest(
        prefix, vpc, _listed(subnets) or (), _listed(route_tables), instance_types, gpu, max_vcpus,
        on_demand_vcpus, image,
    )  # fmt: skip
    with aws_errors_exit():
        cloudformation, ec2 = aws.client("cloudformation"), aws.client("ec2")
        storage, compute = stack_names(name)
        # Whatever can be refused is refused before the first thing is made.
        computing = changes.ready(cloudformation, compute, _tell)
        storing = changes.ready(cloudformation, storage, _tell)
        before = computing.parameters if computing else {}
        there = request.region_parameters(asked, before, ec2)
        deployment = changes.StackDeployer(
            cloudformation, _tell, lambda stack, c: _agree(stack, c, yes)
        )
        stored = deployment.bring("storage", storage, storing, request.storage_parameters(asked))
        given = there | request.compute_parameters(asked, before, stored.outputs)
        computed = deployment.bring("compute", compute, computing, given)
    _show_outputs(stored.outputs | computed.outputs)


@infra.command()
def status(name: Deployment = "keepfit", json: AsJson = False) -> None:
    """Show a deployment's stacks, its job queue and the machines behind it."""
    from keepfit.job.commands import tables

    _check(name, yes=True)
    with aws_errors_exit():
        standing = _look(name)
    if json:
        tables.show(tables.as_json({"name": name, **vars(standing)}))
        return
    _show_parts(standing)
    _show_outputs(standing.outputs)


@infra.command()
def down(
    name: Deployment = "keepfit",
    delete_data: Annotated[
        str | None,
        typer.Option(
            metavar="BUCKET",
            help="Delete all runs and images too: the bucket's exact name, asked for once more.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Even while jobs are not over; it ends them.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Delete a deployment; the bucket with the runs and the repository with the images stay."""
    from keepfit.infra import aws
    from keepfit.infra.stacks import removal

    _check(name, yes=yes)
    with aws_errors_exit():
        standing = _look(name)
        removal.refuse_removal(standing, delete_data, aws.client("batch"), force=force)
    if not yes:
        _show_parts(standing)
        _confirm_removal(standing, delete_data)
    with aws_errors_exit():
        removal.remove_deployment(name, standing.outputs, _tell, data=delete_data is not None)
    kept = "" if delete_data else ", ".join(removal.retained_resources(standing))
    log.info(events.INFRA_DELETED, name=name, **({"kept": kept} if kept else {}))


def register(app: typer.Typer) -> None:
    """Make them commands of `app`."""
    app.add_typer(infra)


def _check(name: str, *, yes: bool) -> None:
    if not _NAME.fullmatch(name):
        fail(
            f"a deployment's name is a letter and at most 47 letters, digits and hyphens. "
            f"Received: --name={name!r}",
            USAGE_ERROR,
        )
    if not yes and not sys.stdin.isatty():
        fail("there is no terminal to ask at: --yes does it without a question", USAGE_ERROR)


def _look(name: str) -> DeploymentStatus:
    from keepfit.infra import aws
    from keepfit.infra.stacks import status

    found = status.read_status(aws.client("cloudformation"), aws.client("batch"), name)
    if found is None:
        raise aws.AwsError(
            f"there is no deployment {name!r} in this region: make it with `keepfit infra up`, "
            f"or name another deployment or region"
        )
    return found


def _agree(stack: str, found: tuple[Change, ...] | None, yes: bool) -> None:
    """Show the changes of a stack, and ask; None where there are none."""
    from keepfit.job.commands import tables

    if found is None:
        tables.show(f"{stack}: nothing changes")
        return
    tables.show(f"{stack}:" if found else f"{stack}: no resource changes, but an output does")
    if found:
        rows = [(c.action, c.resource, c.type, c.replacement) for c in found]
        _show_rows(("action", "resource", "type", "replacement"), rows)
    if not yes and not typer.confirm(f"Make these changes to {stack}?", err=True):
        _declined()


def _confirm_removal(standing: DeploymentStatus, bucket: str | None) -> None:
    if bucket is None:
        if not typer.confirm("Delete these stacks?", err=True):
            _declined()
        return
    typed = typer.prompt(
        f"Delete these stacks, all runs in {bucket} and all images in "
        f"{standing.outputs.get('Repository')}? To do so, type the bucket's name",
        err=True,
    )
    if typed != bucket:
        _declined()


def _declined() -> NoReturn:
    log.warning(events.CHANGES_DECLINED, reason="nothing more is changed")
    raise typer.Exit(DECLINED)


def _tell(event: Event) -> None:
    from keepfit.job.commands import tables

    reason = f"  {event.reason}" if event.reason else ""
    tables.show(f"{event.status:<28}{event.resource:<24}{event.type}{reason}")


def _show_parts(standing: DeploymentStatus) -> None:
    rows = [(part.name, part.kind, part.status, part.reason or "") for part in standing.parts]
    _show_rows(("name", "", "status", "reason"), rows)


def _show_outputs(outputs: dict[str, str]) -> None:
    _show_rows(("output", "value"), sorted(outputs.items()))


def _show_rows(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from keepfit.job.commands import tables

    table = tables.text_table(*columns)
    for row in rows:
        table.add_row(*row)
    tables.show(table)


def _listed(value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(part for part in re.split(r"[,\s]+", value) if part)
