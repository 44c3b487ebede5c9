"""The deployment that `keepfit infra up` has created, as the other commands find it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from keepfit.infra import aws
from keepfit.infra.aws import AwsError
from keepfit.infra.stacks.stack import Stack, describe_stack

DEFAULT = "keepfit"
"""The default name of a deployment."""

_NOT_OUTPUTS = frozenset({"secrets", "policies", "limits_waiting", "other"})


@dataclass(frozen=True)
class OtherRegion:
    """The compute stack in the deployment's other region.

    Attributes:
        queue, job: ARNs of its Batch job queue and job definition.
        takes_over: jobs that wait for capacity in this region go on there.
    """

    region: str
    queue: str
    job: str
    takes_over: bool


@dataclass(frozen=True)
class Deployment:
    """The outputs of both stacks; the storage stack may be in another region.

    Attributes:
        store: the value for --store, "s3://BUCKET/PREFIX".
        repository: where images are pushed, "ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME".
        queue, job: ARNs of the Batch job queue and job definition.
        logs: the log group of the jobs.
        secrets: ARNs of the secrets that the execution role of jobs may read.
        policies: ARNs of the managed policies that the role of jobs has besides its own.
        limits_waiting: the compute stack has the function for `submit --max-wait`.
        other: the other region where jobs may run, if there is one; its log group has the same
            name.
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
    limits_waiting: bool = False
    other: OtherRegion | None = None


def stack_names(name: str) -> tuple[str, str]:
    """Return the names of a deployment's stacks: storage, and compute."""
    return f"{name}-storage", f"{name}-compute"


def find_deployment(cloudformation: Any, name: str = DEFAULT) -> Deployment:
    """Return the deployment of that name.

    Args:
        cloudformation: a client in the region whose queue is to be used.

    Raises:
        AwsError: a stack is missing or incomplete, or AWS refuses the request.
    """
    storage_name, compute_name = stack_names(name)
    compute = describe_stack(cloudformation, compute_name)
    if compute is None:
        _existing(cloudformation, storage_name)
        compute = _existing(cloudformation, compute_name)
    home = compute.parameters.get("HomeRegion", "")
    first = aws.client("cloudformation", home) if home else cloudformation
    storage = _existing(first, storage_name)
    outputs = storage.outputs | compute.outputs
    named = {
        "".join(part.title() for part in f.name.split("_")): f.name
        for f in fields(Deployment)
        if f.name not in _NOT_OUTPUTS
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
        secrets=_items(compute.parameters.get("Secrets", "")),
        policies=_items(storage.parameters.get("Policies", "")),
        limits_waiting="HomeRegion" in compute.outputs,  # of the same version of the template
        other=_first_region(home, first, compute_name) if home else _second_region(compute),
    )


def _existing(cloudformation: Any, name: str) -> Stack:
    found = describe_stack(cloudformation, name)
    if found is None:
        raise AwsError(
            f"there is no stack {name!r} in region {cloudformation.meta.region_name}: create it "
            f"with `keepfit infra up`, or name another deployment or region"
        )
    return found


def _second_region(compute: Stack) -> OtherRegion | None:
    """Return the second region, to which the first one's compute stack is linked."""
    names = ("OtherRegion", "OtherQueue", "OtherJob")
    region, queue, job = (compute.parameters.get(name, "") for name in names)
    return OtherRegion(region, queue, job, takes_over=True) if queue else None


def _first_region(region: str, cloudformation: Any, name: str) -> OtherRegion | None:
    """Return the first region, as the second one sees it."""
    found = describe_stack(cloudformation, name)
    if found is None or not {"Queue", "Job"} <= found.outputs.keys():
        return None
    return OtherRegion(region, found.outputs["Queue"], found.outputs["Job"], takes_over=False)


def _items(value: str) -> tuple[str, ...]:
    """Return the items of a parameter that is a list."""
    return tuple(filter(None, value.split(",")))
