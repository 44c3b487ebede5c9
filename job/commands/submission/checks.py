"""Checks of a submission: the store, and whether the run's name is free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.storage import check_uri
from keepfit.job.commands.failures import aws_errors_exit, fail
from keepfit.job.commands.job_polling import summarize_run

if TYPE_CHECKING:
    from keepfit.infra.regions import RegionQueue


def check_store(store: str) -> None:
    """Exit if a job on AWS can't reach the store: it can't read folders of this machine."""
    try:
        check_uri(store)
    except ConfigurationError as error:
        fail(str(error))
    if not store.startswith("s3://"):
        fail(f"a job on AWS can only use a store s3://BUCKET/PREFIX. Received: --store={store!r}")


def check_free(
    queues: Sequence[RegionQueue], run: str, store: str, *, resume: bool, fresh: bool
) -> None:
    """Exit if the run has a job, or exists already and the user did not choose how to proceed.

    Two jobs of a run would fence each other; and no old run is continued by accident.
    """
    from keepfit.infra.regions import jobs_of

    with aws_errors_exit():
        active = [job for job in jobs_of(queues, run) if not job.over]
    if active:
        fail(
            f"run {run!r} has a job already, {active[0].id} ({active[0].status}): follow it with "
            f"`keepfit status {run}`, cancel it with `keepfit cancel {run}`, or use another --run"
        )
    found = None if fresh else summarize_run(store, run)
    if found and not resume:
        fail(
            f"{store} has a run {run!r} already ({found.state}): use --resume to continue it, "
            f"--fresh to start over, or another --run"
        )
    if resume and not found and not fresh:
        fail(
            f"{store} has no run {run!r} to continue: `keepfit ls {store}` lists its runs; "
            f"without --resume, a new run starts"
        )
