"""`keepfit infra up`, `status` and `down`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger
from keepfit.job.commands.deployment import infra_options as values
from keepfit.job.commands.deployment import regions
from keepfit.job.commands.deployment.s3_access import s3_client
from keepfit.job.commands.failures import USAGE_ERROR, aws_errors_exit, fail
from keepfit.job.commands.options import AsJson, Deployment

if TYPE_CHECKING:
    from keepfit.infra.stacks.changes import Change
    from keepfit.infra.stacks.stack import Event
    from keepfit.infra.stacks.status import DeploymentStatus

log = get_logger()

DECLINED = 1

MIN_DISK = 30
"""GiB that the system of a machine needs, as in its template."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,47}")

infra = typer.Typer(
    name="infra", no_args_is_help=True, help="A deployment on AWS: the store, and the machines."
)

Yes = Annotated[bool, typer.Option("--yes", help="Don't ask for confirmation.")]


@infra.command()
def up(
    name: Deployment = "keepfit",
    prefix: Annotated[
        str | None, typer.Option(help="The store's prefix in the bucket. [default: runs]")
    ] = None,
    kms_key: Annotated[
        str | None,
        typer.Option(
            metavar="ARN", help="The KMS key of the bucket's objects. [default: S3's own keys]"
        ),
    ] = None,
    vpc: Annotated[str | None, typer.Option(help="[default: the account's default VPC]")] = None,
    subnets: Annotated[
        str | None, typer.Option(help="Ids, separated by commas. [default: all of the VPC]")
    ] = None,
    route_tables: Annotated[
        str | None,
        typer.Option(help="Route tables that get an S3 gateway endpoint. [default: none]"),
    ] = None,
    instance_types: Annotated[
        str | None, typer.Option(help="Families or types, separated by commas.")
    ] = None,
    gpu: Annotated[
        bool | None, typer.Option("--gpu/--no-gpu", help="Machines with NVIDIA's drivers.")
    ] = None,
    max_vcpus: Annotated[
        int | None, typer.Option(min=1, help="Limit for all Spot instances together. [default: 64]")
    ] = None,
    on_demand_vcpus: Annotated[
        int | None,
        typer.Option(min=0, help="Limit for on-demand instances behind Spot. [default: 0]"),
    ] = None,
    image: Annotated[
        str | None, typer.Option(help="The jobs' image. [default: the repository's :latest]")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ARN",
            help="A secret that `submit --secret` may pass to jobs; repeatable, replaces all.",
        ),
    ] = None,
    secret_key: Annotated[
        list[str] | None,
        typer.Option(metavar="ARN", help="The KMS key of secrets, if not AWS' own; repeatable."),
    ] = None,
    notify: Annotated[
        list[str] | None,
        typer.Option(
            metavar="EMAIL",
            help="An address that learns of ended jobs and a blocked queue; repeatable, replaces "
            "all.",
        ),
    ] = None,
    disk: Annotated[
        int | None,
        typer.Option(
            min=MIN_DISK,
            metavar="GIB",
            help="The disk of each machine: images, and /tmp of all its jobs. [default: 60]",
        ),
    ] = None,
    read: Annotated[
        list[str] | None,
        typer.Option(
            metavar="S3-URI",
            help="Data that jobs may read, s3://BUCKET/PREFIX; repeatable, replaces all.",
        ),
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ARN",
            help="A managed policy for the role of jobs; repeatable, replaces all.",
        ),
    ] = None,
    egress_ports: Annotated[
        str | None,
        typer.Option(
            metavar="PORTS",
            help="TCP ports that jobs may connect to besides 443, separated by commas. "
            "[default: none]",
        ),
    ] = None,
    region: regions.Region = None,
    store: regions.FirstStore = None,
    move_after: regions.MoveAfter = None,
    yes: Yes = False,
) -> None:
    """Create or change a deployment; options that are not given keep their values.

    The changes are shown before they are made, and before them machines with their prices (not with
    --yes) and what they lack: quotas, routes.
    """
    from keepfit.infra import aws
    from keepfit.infra.deployment import stack_names
    from keepfit.infra.stacks import changes, request
    from keepfit.job.commands.deployment import infra_preflight

    _check(name, yes=yes)
    asked = request.DeploymentRequest(
        prefix, kms_key, vpc, values.split_list(subnets) or (), values.split_list(route_tables),
        instance_types, gpu, max_vcpus, on_demand_vcpus, image,
        values.secrets(secret), values.secret_keys(secret_key), values.emails(notify),
        disk, values.reads(read), values.policies(policy), values.egress_ports(egress_ports),
    )  # fmt: skip
    minutes = regions.minutes_of(move_after)
    with regions.in_region(region), aws_errors_exit():
        cloudformation, ec2 = aws.client("cloudformation"), aws.client("ec2")
        storage, compute = stack_names(name)
        # Everything that can be refused is refused before the first resource is created.
        compute_stack = changes.ready(cloudformation, compute, _show_event)
        storage_stack = changes.ready(cloudformation, storage, _show_event)
        before = compute_stack.parameters if compute_stack else {}
        request.check_reads(asked)
        deployment = changes.StackDeployer(
            cloudformation, _show_event, lambda stack, c: _confirm_changes(stack, c, yes)
        )
        if first := regions.find_first(name, store, compute_stack, _show_event):
            outputs = regions.deploy_second(
                asked, first, compute_stack, deployment, deployment.confirm, minutes, prices=not yes
            )
            _show_outputs(outputs)
            inherited = () if before else first.compute.parameters.get("Emails", "").split(",")
            _say_confirmation(asked.emails or inherited, before)
            return
        stored_with = storage_stack.parameters if storage_stack else {}
        request.check_kms_key(asked, stored_with, cloudformation.meta.region_name)
        regional = request.region_parameters(asked, before, ec2)
        here = cloudformation.meta.region_name
        infra_preflight.check_deployment(asked, before, regional, here, prices=not yes)
        stored = deployment.deploy(
            "storage", storage, storage_stack, request.storage_parameters(asked)
        )
        given = regional | request.compute_parameters(asked, before, stored.outputs)
        given |= {"MoveAfter": str(minutes)} if minutes else {}
        computed = deployment.deploy("compute", compute, compute_stack, given)
    _show_outputs(stored.outputs | computed.outputs)
    _say_confirmation(asked.emails, before)


def _say_confirmation(emails: Sequence[str] | None, before: Mapping[str, str]) -> None:
    """Log the addresses that are new and have to be confirmed."""
    if added := sorted({*(emails or ())} - {*before.get("Emails", "").split(",")}):
        log.info(
            events.CONFIRMATION_AWAITED,
            addresses=added,
            fix="open the link in the mail that AWS has sent to each; `keepfit infra status` shows "
            "whether that is done",
        )


@infra.command()
def status(
    name: Deployment = "keepfit", region: regions.Region = None, json: AsJson = False
) -> None:
    """Show a deployment's stacks, its job queue and the machines behind it."""
    from keepfit.job.commands import tables

    _check(name, yes=True)
    with regions.in_region(region), aws_errors_exit():
        found = _read_status(name)
    if json:
        tables.show(tables.as_json({"name": name, **vars(found)}))
        return
    _show_parts(found)
    _show_outputs(found.outputs)


@infra.command()
def down(
    name: Deployment = "keepfit",
    delete_data: Annotated[
        str | None,
        typer.Option(
            metavar="BUCKET",
            help="Delete all runs and images too: the bucket's exact name, to be confirmed.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Even while jobs are not over; they are terminated.")
    ] = False,
    region: regions.Region = None,
    yes: Yes = False,
) -> None:
    """Delete a deployment; the bucket with the runs and the image repository are kept."""
    _check(name, yes=yes)
    with regions.in_region(region):
        _remove(name, delete_data, force=force, yes=yes)


def _remove(name: str, delete_data: str | None, *, force: bool, yes: bool) -> None:
    """Delete the deployment in this region, after confirmation unless `yes`."""
    from keepfit.infra import aws
    from keepfit.infra.stacks import removal

    with aws_errors_exit():
        found = _read_status(name)
        batch = aws.client("batch")
        own, home = batch.meta.region_name, found.outputs.get("HomeRegion", "")
        removal.refuse_first_region(name, found)
        removal.refuse_removal(found, delete_data, batch, force=force)
    if not yes:
        _show_parts(found)
        _confirm_removal(found, delete_data)
    with aws_errors_exit():
        if home not in ("", own):
            regions.unlink(
                name, home, own, _show_event, lambda stack, c: _confirm_changes(stack, c, yes)
            )
        s3 = s3_client() if delete_data is not None else None
        removal.remove_deployment(name, found.outputs, _show_event, s3=s3)
    kept = "" if delete_data else ", ".join(removal.retained_resources(found))
    log.info(events.INFRA_DELETED, name=name, **({"kept": kept} if kept else {}))


def register(app: typer.Typer) -> None:
    """Register these commands with `app`."""
    app.add_typer(infra)


def _check(name: str, *, yes: bool) -> None:
    if not _NAME.fullmatch(name):
        fail(
            f"a deployment's name must be a letter and at most 47 letters, digits and hyphens. "
            f"Received: --name={name!r}",
            USAGE_ERROR,
        )
    if not yes and not sys.stdin.isatty():
        fail("there is no terminal for a confirmation: use --yes to skip it", USAGE_ERROR)


def _read_status(name: str) -> DeploymentStatus:
    from keepfit.infra import aws
    from keepfit.infra.stacks import status

    found = status.read_status(
        aws.client("cloudformation"), aws.client("batch"), aws.client("sns"), name
    )
    if found is None:
        raise aws.AwsError(
            f"there is no deployment {name!r} in this region: create it with `keepfit infra up`, "
            f"or choose another deployment or region"
        )
    return found


def _confirm_changes(stack: str, found: tuple[Change, ...] | None, yes: bool) -> None:
    """Show the changes of a stack (None: no changes), and ask for confirmation unless `yes`."""
    from keepfit.job.commands import tables

    if found is None:
        tables.show(f"{stack}: nothing changes")
        return
    tables.show(f"{stack}:" if found else f"{stack}: no resource changes, but an output does")
    if found:
        rows = [(c.action, c.resource, c.type, c.replacement) for c in found]
        _show_rows(("action", "resource", "type", "replacement"), rows)
    if not yes and not typer.confirm(f"Make these changes to {stack}?", err=True):
        _decline()


def _confirm_removal(found: DeploymentStatus, bucket: str | None) -> None:
    if bucket is None:
        if not typer.confirm("Delete these stacks?", err=True):
            _decline()
        return
    typed = typer.prompt(
        f"Delete these stacks, all runs in {bucket} and all images in "
        f"{found.outputs.get('Repository')}? To do so, type the bucket's name",
        err=True,
    )
    if typed != bucket:
        _decline()


def _decline() -> NoReturn:
    log.warning(events.CHANGES_DECLINED, reason="no further changes are made")
    raise typer.Exit(DECLINED)


def _show_event(event: Event) -> None:
    from keepfit.job.commands import tables

    reason = f"  {event.reason}" if event.reason else ""
    tables.show(f"{event.status:<28}{event.resource:<24}{event.type}{reason}")


def _show_parts(found: DeploymentStatus) -> None:
    rows = [(part.name, part.kind, part.status, part.reason or "") for part in found.parts]
    _show_rows(("name", "", "status", "reason"), rows)


def _show_outputs(outputs: dict[str, str]) -> None:
    _show_rows(("output", "value"), sorted(outputs.items()))


def _show_rows(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from keepfit.job.commands import tables

    table = tables.text_table(*columns)
    for row in rows:
        table.add_row(*row)
    tables.show(table)
