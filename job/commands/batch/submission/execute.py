"""Execute a plan: upload the code, and submit the job."""

from __future__ import annotations

from dataclasses import replace

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage import open_store
from keepfit.infra import aws
from keepfit.infra.deployment import DEFAULT
from keepfit.infra.jobs import request
from keepfit.job import code_archive
from keepfit.job.commands.batch.submission.image import keep_tagged
from keepfit.job.commands.batch.submission.options import SubmitOptions
from keepfit.job.commands.batch.submission.packages import upload_packages
from keepfit.job.commands.batch.submission.plan import SubmissionPlan
from keepfit.job.commands.batch.submission.waiting import register_elsewhere
from keepfit.job.commands.failures import aws_errors_exit, store_errors_exit

log = get_logger()


def execute(plan: SubmissionPlan) -> None:
    """Upload and submit; exit with one line if the store or AWS refuses it."""
    with store_errors_exit():
        store = open_store(plan.store)
        code_archive.upload_archive(store, plan.code)
        if plan.wheels:
            upload_packages(store, plan.wheels)
    keep_tagged(plan.image)
    with aws_errors_exit():
        elsewhere = register_elsewhere(plan.deployment, plan.queue, plan.request, plan.definition)
        asked = replace(plan.request, environment={**plan.request.environment, **elsewhere})
        job = request.submit_job(aws.client("batch"), plan.queue, plan.definition, asked)
    log.info(
        events.SUBMITTED,
        run=plan.request.run,
        job=job,
        files=plan.code.files,
        store=plan.store,
    )


def next_steps(run: str, options: SubmitOptions) -> str:
    """Return the run's name, and the commands to follow it."""
    given = "" if options.name == DEFAULT else f" --name {options.name}"
    given += f" --queue {options.queue}" if options.queue else ""
    return f"{run}\n  keepfit status {run}{given}\n  keepfit logs {run} -f{given}"
