"""How long a job may wait for a machine, and with which definition it goes on in another region."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keepfit.callbacks import events
from keepfit.callbacks.engine.save_policy import parse_duration
from keepfit.callbacks.environment_variables import MAX_WAIT, OTHER_JOB
from keepfit.callbacks.logs.logger import get_logger
from keepfit.infra import aws
from keepfit.infra.aws import AwsError
from keepfit.infra.deployment import Deployment
from keepfit.infra.jobs import request
from keepfit.infra.jobs.request import JobRequest
from keepfit.job.commands.batch.submission.options import SubmitOptions
from keepfit.job.commands.failures import fail

log = get_logger()

_SHORTEST = 300
"""Seconds between two calls of the function that ends jobs."""


def wait_variable(
    options: SubmitOptions, environment: Mapping[str, str], deployment: Deployment
) -> dict[str, str]:
    """Return the variable with the seconds of `--max-wait`; exit if it would have no effect.

    Args:
        environment: the variables of the job, which may set it, too.
    """
    text = options.max_wait or environment.get(MAX_WAIT)
    if text is None:
        return {}
    seconds = parse_duration(text)
    if seconds is None or seconds < _SHORTEST:
        fail(f"a time of at least 5min is expected. Received: --max-wait={text!r}")
    if options.queue not in (None, deployment.queue):
        fail(
            f"--max-wait applies to the deployment's own queue, whose waiting jobs a function "
            f"looks at. Received: --queue={options.queue!r}"
        )
    if not deployment.limits_waiting:
        fail(
            "the deployment has no function that ends waiting jobs, as --max-wait needs it: "
            "`keepfit infra up` creates it"
        )
    return {MAX_WAIT: str(round(seconds))}


def register_elsewhere(
    deployment: Deployment, queue: str, job: JobRequest, definition: Mapping[str, Any]
) -> dict[str, str]:
    """Return the variable with the job's definition in the other region, if jobs go on there.

    The definition there has the image of this job. Without it the job waits in this region.

    Args:
        queue: the queue of the job.
        definition: the deployment's definition in this region.
    """
    other = deployment.other
    if other is None or not other.takes_over or queue != deployment.queue:
        return {}
    reason = "secrets belong to one region" if job.secrets else ""
    if not reason:
        try:
            batch = aws.client("batch", other.region)
            base = request.describe_definition(batch, other.job)
            image = job.image or definition["containerProperties"]["image"]
            if image == base["containerProperties"]["image"]:
                return {OTHER_JOB: other.job}
            return {OTHER_JOB: request.register_like(batch, base, image, {})[0]}
        except AwsError as error:
            reason = str(error)
    log.warning(
        events.OTHER_REGION_UNUSED,
        region=other.region,
        reason=f"the job waits for capacity in its own region only: {reason}",
        fix="end the wait with --max-wait, or submit it with AWS_REGION set to the other region",
    )
    return {}
