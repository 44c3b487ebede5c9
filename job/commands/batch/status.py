"""`keepfit status`: one run, or all runs of a store or a job queue."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger
from keepfit.job.commands import options
from keepfit.job.commands.completion import complete_run
from keepfit.job.commands.failures import aws_errors_exit, store_errors_exit
from keepfit.job.commands.options import AsJson

if TYPE_CHECKING:
    from keepfit.infra.deployment import Deployment
    from keepfit.infra.jobs.lookup import Job
    from keepfit.job.reports.data import Report
    from keepfit.job.reports.overview import JobState

log = get_logger()

DEFAULT = "keepfit"


@dataclass(frozen=True)
class _Request:
    """The options of the command: a job queue, a store, and the name of a deployment."""

    queue: str | None
    store: str | None
    name: str

    @property
    def names_aws(self) -> bool:
        """Return whether the user has asked for AWS in so many words."""
        return bool(self.queue) or self.name != DEFAULT

    @property
    def names_store(self) -> bool:
        """Return whether --store or KEEPFIT_STORE names a store."""
        from keepfit.callbacks.settings import StoreSettings

        return "store" in StoreSettings.explicit({"store": self.store}, os.environ)


def status(
    run: Annotated[
        str | None, typer.Argument(help="[default: all runs]", autocompletion=complete_run)
    ] = None,
    queue: options.QueueOption = None,
    store: options.StoreOfJobs = None,
    name: options.Deployment = DEFAULT,
    every: Annotated[
        bool, typer.Option("--all", help="List all runs, not only the newest 50.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Show a run: its jobs, attempts, newest checkpoint, goodput and cost. Or list all runs."""
    request = _Request(queue, store, name)
    if run is None:
        _list_runs(request, every=every, json=json)
    else:
        _show_run(run, request, json=json)


def register(app: typer.Typer) -> None:
    """Register this command with `app`."""
    app.command()(status)


def _list_runs(request: _Request, *, every: bool, json: bool) -> None:
    """List the runs of a store, or of the deployment's store and queue."""
    from keepfit.callbacks.storage import open_store
    from keepfit.job.commands import tables
    from keepfit.job.commands.batch import status_tables
    from keepfit.job.reports.overview import NEWEST, read_overview

    with store_errors_exit():
        only_store = request.names_store and not request.names_aws
    deployment, note = (None, "") if only_store else _find_deployment(request)
    jobs = _newest_jobs(deployment, request.queue) if deployment else {}
    with store_errors_exit():
        where = request.store or (deployment.store if deployment else "")
        opened = open_store(where) if where else options.open_runs(None)
        found = read_overview(opened, jobs, None if every else NEWEST)
    if json:
        tables.show(tables.as_json(status_tables.overview_document(found, note)))
        return
    tables.show(status_tables.overview_table(found, datetime.now(UTC)))
    if found.left_out:
        log.info(
            events.RUNS_LEFT_OUT,
            runs=found.left_out,
            reason=f"the newest {len(found.runs)} are listed",
            fix="--all",
        )


def _show_run(run: str, request: _Request, *, json: bool) -> None:
    """Show what AWS Batch and the store know of a run."""
    from keepfit.infra import aws, regions
    from keepfit.infra.jobs.costs import report_costs
    from keepfit.infra.jobs.lookup import NoJob
    from keepfit.job.commands import tables
    from keepfit.job.commands.batch import job_tables
    from keepfit.job.reports.prices import recorded_machines, with_prices

    deployment, note = _find_deployment(request)
    job: Job | None = None
    if deployment:
        with aws_errors_exit():
            queues = regions.queues_of(deployment, request.queue)
            try:
                job = regions.newest_job(queues, run)
            except NoJob:
                note = job_tables.NO_JOB
    report = _read_report(
        request.store or (job.store if job else "") or (deployment.store if deployment else ""),
        run,
        required=deployment is None,
    )
    now = datetime.now(UTC)
    gaps: tuple[str, ...] = ()
    if report and deployment:
        report, gaps = with_prices(report, now)
    recorded = recorded_machines(report.journals) if report else {}
    with aws_errors_exit():
        if job is None and report is None:
            raise NoJob(run)
        region = queues[0].batch.meta.region_name if job else ""
        found = report_costs(job, aws.client, region, now, recorded) if job else None
    if found:
        found = replace(found, gaps=tuple(dict.fromkeys((*found.gaps, *gaps))))
    if json:
        document = job_tables.job_document(run, found, report, note)
        tables.show(tables.as_json(document))
        return
    for part in job_tables.job_table(run, found, report, note, now):
        tables.show(part)


def _read_report(stored: str, run: str, *, required: bool) -> Report | None:
    """Return what the store knows of a run; None if it has no such run, unless it is required."""
    from keepfit.callbacks.checkpoint.read.inspection import NoSuchRun, RunMoved, Summary
    from keepfit.callbacks.storage import open_store
    from keepfit.job.reports.data import read_report, report_of

    with store_errors_exit():
        opened = open_store(stored) if stored else options.open_runs(None)
        try:
            return read_report(opened, run)
        except NoSuchRun:
            if required:
                raise
            return None
        except RunMoved as moved:
            aside = Summary(run, "set aside", reason=str(moved))
            return report_of(opened.uri, aside)


def _find_deployment(request: _Request) -> tuple[Deployment | None, str]:
    """Return the deployment; or None and why there is none, unless the user has asked for it."""
    from keepfit.infra import aws
    from keepfit.infra.aws import AwsError
    from keepfit.infra.deployment import find_deployment

    with aws_errors_exit():
        try:
            return find_deployment(aws.client("cloudformation"), request.name), ""
        except AwsError as error:
            if request.names_aws:
                raise
            note = f"AWS was not asked: {error}"
    log.info(events.AWS_UNAVAILABLE, reason=note, fix="only the store is shown")
    return None, note


def _newest_jobs(deployment: Deployment, queue: str | None) -> dict[str, JobState]:
    """Return the newest job of each run of a queue; None: of all the deployment's queues."""
    from keepfit.infra import regions
    from keepfit.infra.jobs.lookup import MAX_LISTED
    from keepfit.job.reports.overview import JobState

    with aws_errors_exit():
        found = regions.jobs_of_queues(regions.queues_of(deployment, queue))
    if found.left_out:
        log.info(
            events.JOBS_LEFT_OUT,
            jobs=found.left_out,
            reason=f"the newest {MAX_LISTED} jobs of the queue are read",
            fix="keepfit status NAME shows the jobs of one run",
        )
    return {
        job.run: JobState(job.id, job.status, job.created, len(job.attempts))
        for job in reversed(found.jobs)
        if job.run
    }
