"""Checks of a submission: the store, and whether the run's name is free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keepfit.callbacks import events
from keepfit.callbacks.errors import EXIT_REFUSED, ConfigurationError
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage import check_uri
from keepfit.callbacks.storage.s3.address import Address
from keepfit.infra.deployment import Deployment
from keepfit.job.commands.batch.job_polling import summarize_run
from keepfit.job.commands.failures import aws_errors_exit, fail

if TYPE_CHECKING:
    from keepfit.infra.regions import RegionQueue

log = get_logger()


def check_store(store: str) -> None:
    """Exit if a job on AWS can't reach the store: it can't read folders of this machine."""
    try:
        check_uri(store)
    except ConfigurationError as error:
        fail(str(error))
    if not store.startswith("s3://"):
        fail(f"a job on AWS can only use a store s3://BUCKET/PREFIX. Received: --store={store!r}")


def check_reachable(store: str, deployment: Deployment) -> None:
    """Exit if the role of jobs has no access to a store; warn if one of its policies may give it.

    A job would find it out on its machine, which costs money.

    Args:
        store: s3://BUCKET/PREFIX.
    """
    own, wanted = Address.parse(deployment.store).uri, Address.parse(store).uri
    if f"{wanted}/".startswith(f"{own}/"):
        return
    if deployment.policies:
        log.warning(
            events.STORE_OUTSIDE,
            store=wanted,
            reason=f"the deployment gives access to {own} only; whether one of its policies gives "
            "jobs access to this store is not checked, and after ten interruptions the job is not "
            "submitted again, because the deployment can't see its progress there",
            fix=f"leave out --store, or name one in {own}/",
        )
        return
    fail(
        f"the jobs of this deployment have access to {own} only, not to {wanted}: leave out "
        f"--store, name one in {own}/, make a deployment with another prefix with `keepfit infra "
        f"up --name NAME --prefix PREFIX`, or attach a policy that gives access with `keepfit "
        f"infra up --policy ARN`",
        EXIT_REFUSED,
    )


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
