"""The deployment that `keepfit infra up` has created, as the other commands find it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from keepfit.infra.aws import AwsError
from keepfit.infra.stacks.stack import describe_stack

DEFAULT = "keepfit"
"""The default name of a deployment."""


@dataclass(frozen=True)
class Deployment:
    """The outputs of both stacks.

    Attributes:
        store: the value for --store, "s3://BUCKET/PREFIX".
        repository: where images are pushed, "ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME".
        queue, job: ARNs of the Batch job queue and job definition.
        logs: the log group of the jobs.
        secrets: ARNs of the secrets that the execution role of jobs may read.
        policies: ARNs of the managed policies that the role of jobs has besides its own.
    """

    store: str
    bucket: str
    repository: str
    job_role: str
    queue: str
    job: str
    logs: str
    secrets: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()


def stack_names(name: str) -> tuple[str, str]:
    """Return the names of a deployment's stacks: storage, and compute."""
    return f"{name}-storage", f"{name}-compute"


def find_deployment(cloudformation: Any, name: str = DEFAULT) -> Deployment:
    """Return the deployment of that name.

    Raises:
        AwsError: a stack is missing or incomplete, or AWS refuses the request.
    """
    outputs: dict[str, str] = {}
    parameters: dict[str, str] = {}
    for stack in stack_names(name):
        found = describe_stack(cloudformation, stack)
        if found is None:
            raise AwsError(
                f"there is no stack {stack!r} in this region: create it with `keepfit infra up`, "
                f"or name another deployment or region"
            )
        outputs |= found.outputs
        parameters |= found.parameters
    named = {
        "".join(part.title() for part in f.name.split("_")): f.name
        for f in fields(Deployment)
        if f.name not in ("secrets", "policies")
    }
    missing = named.keys() - outputs.keys()
    if missing:
        raise AwsError(
            f"deployment {name!r} lacks {', '.join(sorted(missing))}: `keepfit infra status` "
            f"shows its state, `keepfit infra up` brings it up to date"
        )
    # Not outputs, which may have 1024 characters only.
    return Deployment(
        **{attribute: outputs[output] for output, attribute in named.items()},
        secrets=_items(parameters.get("Secrets", "")),
        policies=_items(parameters.get("Policies", "")),
    )


def _items(value: str) -> tuple[str, ...]:
    """Return the items of a parameter that is a list."""
    return tuple(filter(None, value.split(",")))
