"""`keepfit jobs`: the jobs of the deployment's queue."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger
from keepfit.job.commands import options
from keepfit.job.commands.failures import aws_errors_exit
from keepfit.job.commands.options import AsJson

if TYPE_CHECKING:
    from rich.table import Table

    from keepfit.job.reports.jobs import JobList, JobStatus

log = get_logger()

NEWEST = 50
"""Number of jobs that are listed unless all are asked for: each run needs its journals."""


def jobs(
    active: Annotated[bool, typer.Option("--active", help="Only jobs that are not over.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="List all jobs, not only the newest 50.")
    ] = False,
    queue: options.QueueOption = None,
    store: options.StoreOfJobs = None,
    name: options.Deployment = "keepfit",
    json: AsJson = False,
) -> None:
    """List the jobs of AWS Batch: state, progress, cost so far, and why a job waits."""
    from keepfit.callbacks.storage import open_store
    from keepfit.infra import aws, regions
    from keepfit.infra.deployment import find_deployment
    from keepfit.infra.jobs import lookup
    from keepfit.job.commands import tables
    from keepfit.job.reports.jobs import read_jobs
    from keepfit.job.reports.prices import fill_all

    states = lookup.ACTIVE_STATES if active else lookup.ALL_STATES
    limit = lookup.MAX_LISTED if every else NEWEST
    with aws_errors_exit():
        deployment = find_deployment(aws.client("cloudformation"), name)
        queues = regions.queues_of(deployment, queue)
        found = regions.jobs_of_queues(queues, limit, states)
    now = datetime.now(UTC)
    listed = read_jobs(found.jobs, store or deployment.store, open_store, fill_all, now)
    if json:
        tables.show(tables.as_json(jobs_document(listed, found.left_out)))
        return
    tables.show(jobs_table(listed, now))
    if listed.gaps:
        log.info(
            events.PRICE_UNKNOWN,
            reason="; ".join(listed.gaps),
            fix="allow ec2:DescribeSpotPriceHistory and pricing:GetProducts",
        )
    if found.left_out:
        log.info(
            events.JOBS_LEFT_OUT,
            jobs=found.left_out,
            reason=f"the newest {limit} jobs of a queue are listed",
            fix="keepfit status NAME shows the jobs of one run" if every else "--all",
        )


def jobs_table(found: JobList, now: datetime) -> Table:
    """Return a table with a row for each job.

    A plus sign says that the cost may be larger: some attempts are not counted.
    """
    from keepfit.job.commands.tables import add_row, format_age, text_table

    table = text_table("run", "state", "attempts", "progress", "cost", "age", "reason")
    for job in found.jobs:
        add_row(
            table,
            job.run,
            job.state,
            str(job.attempts),
            _progress(job),
            _cost(job),
            format_age(now - job.created),
            job.reason,
        )
    return table


def jobs_document(found: JobList, left_out: int) -> dict[str, Any]:
    """Return the fields of `jobs --json`; docs/commands.md lists them."""
    return {
        "jobs": [asdict(job) for job in found.jobs],
        "left_out": left_out,
        "unknown": found.gaps,
    }


def _progress(job: JobStatus) -> str:
    at = job.progress
    if at is None:
        return ""
    of = f" of {at.epochs}" if at.epochs else ""
    percent = "" if at.percent is None else f", {at.percent} %"
    fit = f"fit {at.fit}, " if at.fit > 1 else ""
    return f"{fit}epoch {at.epoch}{of}, step {at.step}{percent}"


def _cost(job: JobStatus) -> str:
    from keepfit.callbacks.journal.goodput_line import dollars

    if job.cost is None:
        return "unknown" if job.uncounted else ""
    return dollars(job.cost) + (" +" if job.uncounted else "")


def register(app: typer.Typer) -> None:
    """Register this command with `app`."""
    app.command()(jobs)
