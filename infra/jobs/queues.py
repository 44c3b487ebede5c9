"""Checks whether a queue can run a job, as far as that is known before the job waits there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keepfit.infra.aws import AwsError, AwsUnreachable, explain_errors

_CHOSEN_BY_BATCH = ("optimal", "default_")


@dataclass(frozen=True)
class JobSize:
    """The size of a job or of a machine. Memory is in MiB."""

    vcpus: float = 0
    memory: int = 0
    gpus: int = 0

    def fits(self, machine: JobSize) -> bool:
        """Return whether a machine of that size can run a job of this one.

        The operating system and the ECS agent use some of the machine's memory.
        """
        return (
            self.vcpus <= machine.vcpus
            and self.memory < machine.memory
            and self.gpus <= machine.gpus
        )

    def __str__(self) -> str:
        return f"{self.vcpus:g} vCPUs, {self.memory} MiB and {self.gpus} GPUs"


def size_of(requirements: Sequence[Mapping[str, str]]) -> JobSize:
    """Return the size that `resourceRequirements` of a job definition describe."""
    needs = {need["type"]: float(need["value"]) for need in requirements}
    return JobSize(needs.get("VCPU", 0), int(needs.get("MEMORY", 0)), int(needs.get("GPU", 0)))


def describe_queue(batch: Any, queue: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the queue, if there is one of that name, and its compute environments.

    To be called within `explain_errors`: it raises boto3's errors.
    """
    found = batch.describe_job_queues(jobQueues=[queue])["jobQueues"]
    names = [entry["computeEnvironment"] for q in found for entry in q["computeEnvironmentOrder"]]
    if not names:  # an empty list would return all environments
        return found, []
    answer = batch.describe_compute_environments(computeEnvironments=names)
    return found, answer["computeEnvironments"]


def environments(batch: Any, queue: str) -> list[dict[str, Any]]:
    """Return the usable compute environments of a queue.

    Raises:
        AwsError: the queue takes no jobs, or has no machines for them.
    """
    with explain_errors(f"job queue {queue}"):
        existing, found = describe_queue(batch, queue)
    if not existing:
        raise AwsError(
            f"there is no job queue {queue!r}; `keepfit infra status` shows the deployment's"
        )
    (own,) = existing
    if own["state"] != "ENABLED":
        raise AwsError(
            f"job queue {queue} is disabled: enable it (aws batch update-job-queue --state ENABLED "
            f"--job-queue {queue}), or name another one with --queue"
        )
    if own.get("status", "VALID") != "VALID":
        raise AwsError(
            f"job queue {queue} is {own['status']}: {own.get('statusReason', '')}; "
            f"see `keepfit infra status`"
        )
    usable = [one for one in found if (one["state"], one.get("status")) == ("ENABLED", "VALID")]
    if not usable:
        states = (f"{e['computeEnvironmentName']} is {_state(e)}" for e in found)
        raise AwsError(
            f"job queue {queue} has no machines: compute environment {', '.join(states)}; "
            f"see `keepfit infra status`"
        )
    return usable


def check_size(ec2: Any, compute: Sequence[Mapping[str, Any]], job: JobSize) -> None:
    """Check that a machine of these environments is large enough for the job.

    Where that is unknown (types that AWS Batch chooses, a request that is not allowed), the job is
    assumed to fit: a queue of `keepfit infra up` ends it if it does not.

    Raises:
        AwsError: no machine is large enough.
    """
    resources = [environment.get("computeResources", {}) for environment in compute]
    if not all(one.get("instanceTypes") for one in resources):
        return
    most = max(int(one["maxvCpus"]) for one in resources)
    if job.vcpus > most:
        raise AwsError(
            f"a job of {job.vcpus:g} vCPUs never starts, as all machines together may have {most}: "
            f"request less, or raise the limit with `keepfit infra up --max-vcpus`"
        )
    types = sorted({name for one in resources for name in one["instanceTypes"]})
    if any(name.startswith(_CHOSEN_BY_BATCH) for name in types):
        return
    try:
        sizes = list(_sizes(ec2, types))
    except AwsUnreachable:
        raise
    except AwsError:
        return
    if sizes and not any(map(job.fits, sizes)):
        largest = max(sizes, key=lambda size: (size.gpus, size.vcpus, size.memory))
        raise AwsError(
            f"no machine of {', '.join(types)} can run a job of {job} (the largest has {largest}): "
            f"request less, or set other types with `keepfit infra up --instance-types` or --gpu"
        )


def _sizes(ec2: Any, types: Sequence[str]) -> Iterator[JobSize]:
    names = [name if "." in name else f"{name}.*" for name in types]
    with explain_errors("the sizes of machines"):
        pages = ec2.get_paginator("describe_instance_types").paginate(
            Filters=[{"Name": "instance-type", "Values": names}]
        )
        for page in pages:
            for found in page["InstanceTypes"]:
                gpus = found.get("GpuInfo", {}).get("Gpus", ())
                yield JobSize(
                    vcpus=found["VCpuInfo"]["DefaultVCpus"],
                    memory=found["MemoryInfo"]["SizeInMiB"],
                    gpus=sum(gpu.get("Count", 0) for gpu in gpus),
                )


def _state(environment: Mapping[str, Any]) -> str:
    states = f"{environment['state']}, {environment.get('status', '')}"
    reason = environment.get("statusReason")
    return f"{states}: {reason}" if reason else states
