"""`keepfit submit`, `logs` and `cancel`: a run on AWS Batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger
from keepfit.job.commands import options
from keepfit.job.commands.failures import aws_errors_exit, fail, store_errors_exit
from keepfit.job.commands.options import Deterministic, Exact, Run, RunName, SaveEvery

if TYPE_CHECKING:
    from keepfit.callbacks.storage.base import Store
    from keepfit.infra.deployment import Deployment
    from keepfit.infra.jobs.lookup import Job

log = get_logger()

INTERRUPTED = 130


def submit(
    script: Annotated[
        str,
        typer.Argument(help="A Keras script; its folder is uploaded. With -m a module: this one."),
    ],
    args: Annotated[list[str] | None, typer.Argument(help="Arguments of the script.")] = None,
    module: options.Module = False,
    run: RunName = None,
    image: Annotated[str | None, typer.Option(help="[default: the deployment's]")] = None,
    vcpus: Annotated[int | None, typer.Option(min=1)] = None,
    memory: Annotated[str | None, typer.Option(help="For example 8GiB.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1)] = None,
    save_every: SaveEvery = None,
    deterministic: Deterministic = False,
    exact: Exact = False,
    only_explicit: options.OnlyExplicit = False,
    hourly_price: options.HourlyPrice = None,
    on_demand_price: options.OnDemandPrice = None,
    notify: options.Notify = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue a run that the store has already, also with other ARGS."
        ),
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start over; the old run is moved aside, not deleted.")
    ] = False,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A variable for the script; repeatable."),
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=ARN",
            help="A variable whose value is in AWS Secrets Manager or SSM; repeatable.",
        ),
    ] = None,
    max_size: Annotated[
        int, typer.Option(min=1, max=4096, help="Limit for the folder, in MiB.")
    ] = 100,
    queue: options.QueueOption = None,
    store: options.StoreOfJobs = None,
    name: options.Deployment = "keepfit",
) -> None:
    """Run SCRIPT on AWS Spot instances, over any number of interruptions.

    Prints the run's name, and the commands to follow it.
    """
    from keepfit.callbacks.settings import Settings
    from keepfit.callbacks.storage import open_store
    from keepfit.infra import aws
    from keepfit.infra.jobs import images, queues, request
    from keepfit.job import code_archive
    from keepfit.job.commands import submission

    upload = submission.find_upload(script, module=module)
    environment = submission.variables(env or []) | submission.notify_variable(notify or [])
    submission.warn_of_visible(environment, args or [])
    environment |= submission.selected_variables(
        save_every, exact=exact, fresh=fresh, resume=resume, only_explicit=only_explicit
    )
    prices = submission.given_prices(hourly_price, on_demand_price, environment)
    named = {"KEEPFIT_RUN", "KEEPFIT_STORE", *environment}
    secrets = submission.secrets(secret or [], named)
    needs = {"vcpus": vcpus, "memory": submission.mebibytes(memory), "gpus": gpus}
    with store_errors_exit():
        run = Settings.resolve(run=run or upload.name, save_every=save_every).run
    with aws_errors_exit():
        deployment = _deployment(name)
        to, where = queue or deployment.queue, store or deployment.store
        submission.check_store(where)
        batch = aws.client("batch")
        behind = queues.environments(batch, to)
        base = request.describe_definition(batch, deployment.job)
        request.check_secrets(base, secrets, deployment.secrets)
        environment = submission.storage_variables(environment, base) | environment
        environment |= submission.price_variables(prices, behind, batch.meta.region_name)
        if any(needs.values()):
            size = queues.size_of(request.resources(needs, base))
            queues.check_size(aws.client("ec2"), behind, size)
        wanted = image or base["containerProperties"]["image"]
        if region := images.region_of(wanted):
            images.check_image(aws.client("ecr", region), wanted)
    submission.check_free(batch, to, run, where, resume=resume, fresh=fresh)
    bundle = submission.pack_folder(upload, max_size)
    with store_errors_exit():
        code_archive.upload_archive(open_store(where), bundle)
    flags = ["--deterministic"] if deterministic else []
    asked = request.JobRequest(
        run=run,
        command=["run", *flags, "--code", bundle.digest, *upload.command, *(args or [])],
        environment=environment | {"KEEPFIT_RUN": run, "KEEPFIT_STORE": where},
        image=image,
        needs=needs,
        secrets=secrets,
    )
    with aws_errors_exit():
        job = request.submit_job(batch, to, base, asked)
    log.info(events.SUBMITTED, run=run, job=job, files=bundle.files, store=where)
    typer.echo(submission.next_steps(run, name, queue))


def logs(
    run: Run,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Continue until the job is over.")
    ] = False,
    attempt: Annotated[int | None, typer.Option(min=1, help="Print only this one.")] = None,
    queue: options.QueueOption = None,
    name: options.Deployment = "keepfit",
) -> None:
    """Print what the attempts of a run have written, in order."""
    from keepfit.infra import aws
    from keepfit.job.commands import job_polling

    try:
        with aws_errors_exit():
            deployment = _deployment(name)
            batch = aws.client("batch")
            job = _newest(batch, queue or deployment.queue, run)
            if attempt and not follow and attempt > len(job.attempts):
                fail(f"run {run!r} has had {len(job.attempts)} attempts")
            group = deployment.logs
            for line in job_polling.log_lines(batch, job, group, follow=follow, only=attempt):
                typer.echo(line)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def cancel(
    run: Run,
    queue: options.QueueOption = None,
    store: options.StoreOfJobs = None,
    name: options.Deployment = "keepfit",
) -> None:
    """Cancel a run's job. It saves first; `keepfit submit --resume` continues from there."""
    from keepfit.callbacks.storage import open_store
    from keepfit.infra import aws
    from keepfit.job import cancellation
    from keepfit.job.commands import job_polling, job_tables

    with aws_errors_exit():
        deployment = _deployment(name)
        batch = aws.client("batch")
        job = _newest(batch, queue or deployment.queue, run)
    if job.over:
        fail(f"the job of run {run!r} is already over: {job.status}")
    where = store or job.store or deployment.store
    with store_errors_exit():
        opened = open_store(where)
        cancellation.mark_cancelled(opened, job.id)
    try:
        with aws_errors_exit():
            _terminate(batch, job, opened)
            ended = job_polling.wait_until_over(batch, job)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    saved = job_polling.summarize_run(where, run)
    log.info(
        events.CANCELLED,
        run=run,
        job=job.id,
        status=ended.status,
        kept=job_tables.location(saved),
    )


def _terminate(batch: Any, job: Job, store: Store) -> None:
    from keepfit.infra.aws import AwsError
    from keepfit.job.cancellation import unmark_cancelled
    from keepfit.job.commands import job_polling

    try:
        job_polling.terminate_job(batch, job)
    except AwsError:
        with store_errors_exit():
            # Otherwise the next attempt would exit, though this one could not be terminated.
            unmark_cancelled(store, job.id)
        raise
    log.info(events.CANCELLING, run=job.run, job=job.id, status=job.status)


def register(app: typer.Typer) -> None:
    """Register these commands with `app`."""
    settings = {"allow_interspersed_args": False, "ignore_unknown_options": False}
    app.command(context_settings=settings)(submit)
    for command in (logs, cancel):
        app.command()(command)


def _deployment(name: str) -> Deployment:
    from keepfit.infra import aws
    from keepfit.infra.deployment import find_deployment

    return find_deployment(aws.client("cloudformation"), name)


def _newest(batch: Any, queue: str, run: str) -> Job:
    from keepfit.infra.jobs.lookup import newest_job

    return newest_job(batch, queue, run)
