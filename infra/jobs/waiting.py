"""Why a job waits for a machine, in words: AWS Batch's reasons are codes.

AWS Batch sets `statusReason` of the job at the head of a queue when it finds out why that job can't
start. A job without one waits for its turn, or its machine is on the way.
"""

from __future__ import annotations

from typing import Final

from keepfit.infra.jobs.lookup import Job

REASONS: Final = {
    "CAPACITY:INSUFFICIENT_INSTANCE_CAPACITY": (
        "AWS has no free machine of these types now; more types (keepfit infra up "
        "--instance-types) or another region may have some"
    ),
    "MISCONFIGURATION:COMPUTE_ENVIRONMENT_MAX_RESOURCE": (
        "it asks for more vCPUs than all machines together may have: ask for less, or raise the "
        "limit with keepfit infra up --max-vcpus"
    ),
    "MISCONFIGURATION:JOB_RESOURCE_REQUIREMENT": (
        "no machine of these types has the vCPUs, memory or GPUs that it asks for: ask for less, "
        "or set other types with keepfit infra up --instance-types or --gpu"
    ),
    "MISCONFIGURATION:SERVICE_ROLE_PERMISSIONS": (
        "AWS Batch's service role lacks a permission; keepfit infra status shows the environments"
    ),
    "MISCONFIGURATION:EC2_INSTANCE_CONFIGURATION_UNSUPPORTED": (
        "EC2 can't start these types as they are configured; keepfit infra status shows the "
        "environments"
    ),
    "ACTION_REQUIRED": "the compute environments need attention; keepfit infra status shows them",
    "UNDETERMINED": "AWS Batch does not know why; keepfit infra status shows the environments",
}
"""The reasons that AWS Batch documents (user guide, "Jobs stuck in a RUNNABLE status")."""

NO_REASON: Final = "waits for its turn, or for a machine that is starting"


def explain_wait(job: Job) -> str:
    """Return why a job waits, with AWS Batch's own text if it is none of the documented ones.

    The text is empty if the job does not wait.
    """
    if not job.waits:
        return ""
    for code, words in REASONS.items():
        if job.reason.startswith(code):
            return f"{words} ({code})"
    return job.reason or NO_REASON
