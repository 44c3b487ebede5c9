"""The status of a deployment: its stacks, its queue, and the queue's compute environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from keepfit.infra.aws import explain_errors
from keepfit.infra.deployment import stack_names
from keepfit.infra.jobs import queues
from keepfit.infra.stacks.stack import describe_stack
from keepfit.infra.stacks.template import EMAILS

NO_TOPIC = "none"
"""The output of a deployment without addresses."""

UNFINISHED = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")


@dataclass(frozen=True)
class ResourceStatus:
    """A stack, the queue, a compute environment, or an address that gets mails.

    Attributes:
        status: the state in AWS' own terms, preceded by ENABLED or DISABLED where that applies.
        reason: AWS' explanation, if there is one.
    """

    name: str
    kind: str
    status: str
    reason: str | None


@dataclass(frozen=True)
class DeploymentStatus:
    """The status of all parts of a deployment."""

    parts: tuple[ResourceStatus, ...]
    outputs: dict[str, str]


def read_status(cloudformation: Any, batch: Any, sns: Any, name: str) -> DeploymentStatus | None:
    """Return the status of the deployment of that name; None if it has no stack.

    Raises:
        AwsError: AWS refuses the request or does not answer.
    """
    found = [describe_stack(cloudformation, stack) for stack in stack_names(name)]
    existing = [stack for stack in found if stack is not None]
    if not existing:
        return None
    outputs = {key: value for stack in existing for key, value in stack.outputs.items()}
    parts = [ResourceStatus(stack.name, "stack", stack.status, stack.reason) for stack in existing]
    if "Queue" in outputs:
        parts += _batch(batch, outputs["Queue"])
    if outputs.get("Topic", NO_TOPIC) != NO_TOPIC:
        emails = ",".join(stack.parameters.get(EMAILS, "") for stack in existing).split(",")
        parts += _subscriptions(sns, outputs["Topic"], [email for email in emails if email])
    return DeploymentStatus(tuple(parts), outputs)


def unfinished_jobs(batch: Any, queue: str) -> list[str]:
    """Return the ids of the jobs that are not finished."""
    with explain_errors(f"job queue {queue}"):
        pages = batch.get_paginator("list_jobs")
        return [
            job["jobId"]
            for status in UNFINISHED
            for page in pages.paginate(jobQueue=queue, jobStatus=status)
            for job in page["jobSummaryList"]
        ]


def _batch(batch: Any, queue: str) -> list[ResourceStatus]:
    with explain_errors(f"job queue {queue}"):
        found, environments = queues.describe_queue(batch, queue)
    return [
        *(_part(q, q["jobQueueName"], "job queue") for q in found),
        *(_part(e, e["computeEnvironmentName"], "compute environment") for e in environments),
    ]


def _part(found: dict[str, Any], name: str, kind: str) -> ResourceStatus:
    status = f"{found['state']}, {found.get('status', 'VALID')}"
    # AWS Batch gives a reason also when nothing is wrong.
    healthy = status == "ENABLED, VALID"
    return ResourceStatus(name, kind, status, None if healthy else found.get("statusReason"))


def _subscriptions(sns: Any, topic: str, emails: Sequence[str]) -> list[ResourceStatus]:
    """Return the state of each address of the deployment, as the topic has it."""
    with explain_errors(f"topic {topic}"):
        pages = sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
        found = {s["Endpoint"]: s["SubscriptionArn"] for p in pages for s in p["Subscriptions"]}
    return [_subscription(email, found.get(email)) for email in emails]


def _subscription(email: str, arn: str | None) -> ResourceStatus:
    """Return the state of an address; `arn` is that of its subscription, if there is one."""
    if arn is None or arn == "Deleted":
        reason = "it was unsubscribed, or not confirmed in time: remove it, and add it again"
        return ResourceStatus(email, "email", "NOT SUBSCRIBED", reason)
    if not arn.startswith("arn:"):
        reason = "no mails yet: open the link in the mail that AWS has sent to this address"
        return ResourceStatus(email, "email", "NOT CONFIRMED", reason)
    return ResourceStatus(email, "email", "CONFIRMED", None)
