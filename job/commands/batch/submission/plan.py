"""The plan of a submission: everything is checked, and nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keepfit.infra import aws, regions
from keepfit.infra.deployment import Deployment, find_deployment
from keepfit.infra.jobs import queues, request
from keepfit.infra.jobs.bundle import Bundle
from keepfit.infra.jobs.images import Image
from keepfit.job.commands.batch.submission import checks, upload, variables, waiting
from keepfit.job.commands.batch.submission.image import find_image
from keepfit.job.commands.batch.submission.options import SubmitOptions
from keepfit.job.commands.batch.submission.packages import resolve_requirements
from keepfit.job.commands.batch.submission.upload import Upload
from keepfit.job.commands.failures import aws_errors_exit, store_errors_exit
from keepfit.job.requirements.resolve import Resolution


@dataclass(frozen=True)
class SubmissionPlan:
    """A submission that has passed all checks.

    Attributes:
        queue: the job queue.
        store: the URI of the store.
        definition: the deployment's job definition, as AWS Batch describes it.
        environments: the queue's usable compute environments, as AWS Batch describes them.
        code: the archive of the folder.
        request: the job.
        image: its image.
        wheels: the packages that the image lacks.
    """

    options: SubmitOptions
    deployment: Deployment
    queue: str
    store: str
    definition: Mapping[str, Any]
    environments: Sequence[Mapping[str, Any]]
    code: Bundle
    request: request.JobRequest
    image: Image
    wheels: Resolution | None


def plan_submission(options: SubmitOptions) -> SubmissionPlan:
    """Check a submission from its folder to its machines; exit with one line if one check fails."""
    found = upload.find_upload(options.script, options.folder, module=options.module)
    given = {**options.notices, **options.env}
    environment = given | variables.notify_variable(options.notify)
    variables.check_names(environment, options.secrets)
    variables.warn_of_visible(environment, options.args)
    environment |= variables.selected_variables(options)
    environment |= variables.limit_variables(options.max_hours, options.max_cost, environment)
    prices = variables.given_prices(options.hourly_price, options.on_demand_price, environment)
    variables.check_names({"KEEPFIT_RUN": "", "KEEPFIT_STORE": "", **environment}, options.secrets)
    run = _check_settings(options, found)
    needs = {
        "vcpus": options.vcpus,
        "memory": variables.mebibytes(options.memory),
        "gpus": options.gpus,
    }
    with aws_errors_exit():
        deployment = find_deployment(aws.client("cloudformation"), options.name)
        queue, store = options.queue or deployment.queue, options.store or deployment.store
        checks.check_store(store)
        checks.check_reachable(store, deployment)
        everywhere = regions.queues_of(deployment, options.queue)
        batch = everywhere[0].batch
        machines = queues.environments(batch, queue)
        definition = request.describe_definition(batch, deployment.job)
        request.check_secrets(definition, options.secrets, deployment.secrets)
        environment |= waiting.wait_variable(options, environment, deployment)
        environment = variables.storage_variables(environment, definition) | environment
        environment |= variables.price_variables(prices, machines, batch.meta.region_name)
        _check_resources(needs, definition, machines)
        image = find_image(options.image or definition["containerProperties"]["image"])
    checks.check_free(everywhere, run, store, resume=options.resume, fresh=options.fresh)
    code = upload.pack_folder(found, options.max_size)
    wheels = resolve_requirements(options, found.folder, gpu=_uses_gpu(needs, definition))
    job = request.JobRequest(
        run=run,
        command=_command(options, found, code, wheels),
        environment=environment | {"KEEPFIT_RUN": run, "KEEPFIT_STORE": store},
        image=image.name,
        needs=needs,
        secrets=options.secrets,
    )
    return SubmissionPlan(
        options, deployment, queue, store, definition, machines, code, job, image, wheels
    )


def _check_settings(options: SubmitOptions, found: Upload) -> str:
    """Return the run's name; exit if an attempt could not use its settings."""
    from keepfit.callbacks.runner_settings import NoticeSettings, NotificationSettings
    from keepfit.callbacks.settings import Settings

    reactions = {
        name.removeprefix("KEEPFIT_").lower(): text for name, text in options.notices.items()
    }
    stalled = reactions.pop("stalled_after", None)
    with store_errors_exit():
        NoticeSettings.resolve(**reactions)
        NotificationSettings.resolve(stalled_after=stalled)
        return Settings.resolve(run=options.run or found.name, save_every=options.save_every).run


def _check_resources(
    needs: Mapping[str, int | None],
    definition: Mapping[str, Any],
    machines: Sequence[Mapping[str, Any]],
) -> None:
    if any(needs.values()):
        size = queues.size_of(request.resources(needs, definition))
        queues.check_size(aws.client("ec2"), machines, size)


def _uses_gpu(needs: Mapping[str, int | None], definition: Mapping[str, Any]) -> bool:
    """Return whether the job needs a GPU, for which there is an image with other packages."""
    return any(need["type"] == "GPU" for need in request.resources(needs, definition))


def _command(
    options: SubmitOptions, found: Upload, code: Bundle, wheels: Resolution | None
) -> list[str]:
    """Return the container's command."""
    flags = ["--deterministic"] if options.deterministic else []
    packages = ["--requirements", wheels.document.digest] if wheels else []
    return ["run", *flags, "--code", code.digest, *packages, *found.command, *options.args]
