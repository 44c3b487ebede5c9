"""The submission of a job: its command, its environment and its resources."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keepfit.infra.aws import AwsError, explain_errors
from keepfit.infra.jobs.lookup import job_name
from keepfit.infra.jobs.secret_arns import stored_secret

_COPIED_FIELDS = (
    "type",
    "parameters",
    "retryStrategy",
    "containerProperties",
    "timeout",
    "platformCapabilities",
    "propagateTags",
    "schedulingPriority",
)
"""Fields of a job definition that are copied to a new one."""


_KINDS = {"VCPU": "vcpus", "MEMORY": "memory", "GPU": "gpus"}


@dataclass(frozen=True)
class JobRequest:
    """The values requested for a job; None keeps the value of the job definition.

    Attributes:
        command: the container's command, after its entry point.
        environment: variables in addition to the definition's, KEEPFIT_RUN among them.
        needs: `vcpus`, `memory` in MiB, `gpus`.
        secrets: ARNs of secrets, by the names of the variables that have their values.
    """

    run: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    needs: Mapping[str, int | None] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)


def describe_definition(batch: Any, definition: str) -> dict[str, Any]:
    """Return the job definition of that ARN, or name and revision.

    Raises:
        AwsError: there is none.
    """
    with explain_errors(f"job definition {definition}"):
        found = batch.describe_job_definitions(jobDefinitions=[definition])["jobDefinitions"]
    if not found:
        raise AwsError(f"there is no job definition {definition!r}; `keepfit infra up` creates one")
    return dict(found[0])


def register_like(
    batch: Any, base: Mapping[str, Any], image: str, secrets: Mapping[str, str]
) -> tuple[str, bool]:
    """Return the ARN of a job definition like `base`, and whether it is new.

    SubmitJob can change neither the image nor the secrets of a definition. The name begins with the
    base's name, as the permissions of the resubmit function require.
    """
    kept = {name: base[name] for name in _COPIED_FIELDS if base.get(name)}
    kept["containerProperties"] = {**kept["containerProperties"], "image": image}
    if secrets:
        own = [{"name": name, "valueFrom": arn} for name, arn in sorted(secrets.items())]
        usual = kept["containerProperties"].get("secrets", ())
        kept["containerProperties"]["secrets"] = [*usual, *own]
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]
    name = f"{base['jobDefinitionName']}-{digest}"
    with explain_errors(f"job definition {name}"):
        there = batch.describe_job_definitions(jobDefinitionName=name, status="ACTIVE")
        if there["jobDefinitions"]:
            return str(there["jobDefinitions"][0]["jobDefinitionArn"]), False
        made = batch.register_job_definition(jobDefinitionName=name, **kept)
    return str(made["jobDefinitionArn"]), True


def submit_job(batch: Any, queue: str, base: Mapping[str, Any], request: JobRequest) -> str:
    """Submit the job and return its id.

    Raises:
        AwsError: AWS Batch refuses it; a definition that was registered for it is removed again.
    """
    definition, made = str(base["jobDefinitionArn"]), False
    usual = base["containerProperties"]["image"]
    if request.secrets or (request.image and request.image != usual):
        definition, made = register_like(batch, base, request.image or usual, request.secrets)
    try:
        with explain_errors(f"run {request.run!r} was not submitted"):
            answer = batch.submit_job(
                jobName=job_name(request.run),
                jobQueue=queue,
                jobDefinition=definition,
                containerOverrides=overrides(request, base),
                tags={"keepfit:run": request.run},
            )
    except AwsError:
        if made:
            with explain_errors(f"job definition {definition} was not deregistered"):
                batch.deregister_job_definition(jobDefinition=definition)
        raise
    return str(answer["jobId"])


def check_secrets(
    base: Mapping[str, Any], secrets: Mapping[str, str], readable: Collection[str]
) -> None:
    """Check that a job can have these secrets, in addition to what its definition sets.

    Args:
        secrets: ARNs by the names of variables.
        readable: ARNs of the secrets that the execution role of the definition may read.

    Raises:
        AwsError: a variable is set already, or the role may not read a secret.
    """
    container = base["containerProperties"]
    taken = {v["name"] for kind in ("environment", "secrets") for v in container.get(kind, ())}
    if both := sorted(secrets.keys() & taken):
        raise AwsError(
            f"the job definition sets {', '.join(both)} itself, so --secret can't: use other names"
        )
    needed = {stored_secret(arn) for arn in secrets.values()}
    if needed and (not container.get("executionRoleArn") or not needed <= set(readable)):
        options = " ".join(f"--secret {arn}" for arn in sorted({*readable, *needed}))
        missing = ", ".join(sorted(needed - set(readable)))
        raise AwsError(
            f"the deployment has no execution role that may read {missing}: run "
            f"`keepfit infra up {options}` (and --secret-key ARN for a KMS key of your own)"
        )


def overrides(request: JobRequest, base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the container overrides of SubmitJob."""
    return {
        "command": list(request.command),
        "environment": [{"name": k, "value": v} for k, v in sorted(request.environment.items())],
        "resourceRequirements": resources(request.needs, base),
    }


def resources(needs: Mapping[str, int | None], base: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the resource requirements: those of the definition, replaced by the requested ones."""
    usual = base["containerProperties"].get("resourceRequirements", ())
    found = {need["type"]: need["value"] for need in usual}
    asked = {kind: needs.get(name) for kind, name in _KINDS.items()}
    found |= {kind: str(value) for kind, value in asked.items() if value}
    return [{"type": k, "value": v} for k, v in sorted(found.items())]
