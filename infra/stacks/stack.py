"""A CloudFormation stack, and how to follow its events until it is stable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError
from tenacity import Retrying, retry_if_result, wait_fixed

from keepfit.infra.aws import AwsError, AwsUnreachable, code_of, explain_errors

POLL_SECONDS = 2.0
"""Seconds between two polls; CloudFormation allows few requests."""

UNUSABLE_STATES = frozenset(
    {"REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"}
)
"""States that only a deletion ends; no stack in one of them holds data."""


@dataclass(frozen=True)
class Stack:
    """A stack as CloudFormation describes it."""

    id: str
    name: str
    status: str
    reason: str | None
    parameters: dict[str, str]
    outputs: dict[str, str]

    @property
    def busy(self) -> bool:
        return self.status.endswith("_IN_PROGRESS")


@dataclass(frozen=True)
class Event:
    """An event of one of a stack's resources."""

    id: str
    resource: str
    type: str
    status: str
    reason: str | None

    @property
    def is_cause(self) -> bool:
        """True if the event explains a failure; a cancellation because of another one does not."""
        if self.reason is None or "cancelled" in self.reason:
            return False
        return self.status.endswith("_FAILED") and self.type != "AWS::CloudFormation::Stack"


class StackFailed(AwsError):
    """A stack did not reach the requested state."""


EventSink = Callable[[Event], None]


def describe_stack(cloudformation: Any, name: str) -> Stack | None:
    """Return the stack of that name or id, or None. A deleted stack is found by its id only.

    Raises:
        AwsError: AWS refuses the request or does not answer.
    """
    with explain_errors(f"stack {name}"):
        try:
            (found,) = cloudformation.describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if code_of(error) == "ValidationError" and "does not exist" in str(error):
                return None
            raise
    return Stack(
        found["StackId"],
        found["StackName"],
        found["StackStatus"],
        found.get("StackStatusReason"),
        {p["ParameterKey"]: p.get("ParameterValue", "") for p in found.get("Parameters", ())},
        {o["OutputKey"]: o["OutputValue"] for o in found.get("Outputs", ())},
    )


def newest_event(cloudformation: Any, stack: str) -> str | None:
    """Return the id of the stack's newest event, to follow the stack from there."""
    with explain_errors(f"stack {stack}"):
        found = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    return str(found[0]["EventId"]) if found else None


def wait_until_stable(
    cloudformation: Any, stack: str, since: str | None, on_event: EventSink
) -> tuple[Stack | None, list[Event]]:
    """Wait until the stack is stable; pass each event to `on_event` as it comes.

    Args:
        stack: the stack's id.
        since: the event after which to start; None: the first one.

    Returns:
        The stack, and the events that explain a failure.

    Raises:
        AwsUnreachable: the outcome is unknown.
    """
    causes: list[Event] = []

    def poll() -> Stack | None:
        nonlocal since
        found = describe_stack(cloudformation, stack)
        for event in reversed(list(_newer(cloudformation, stack, since)) if found else []):
            since = event.id
            on_event(event)
            if event.is_cause:
                causes.append(event)
        return found

    waiting = retry_if_result(lambda found: found is not None and found.busy)
    try:
        return Retrying(retry=waiting, wait=wait_fixed(POLL_SECONDS))(poll), causes
    except AwsUnreachable as error:
        raise AwsUnreachable(
            f"{error}; CloudFormation continues, `keepfit infra status` shows the outcome"
        ) from error


def delete_stack(cloudformation: Any, stack: Stack, on_event: EventSink) -> None:
    """Delete the stack and wait for the end; resources that its template retains remain.

    Raises:
        StackFailed: a resource could not be deleted.
    """
    since = newest_event(cloudformation, stack.id)
    with explain_errors(f"stack {stack.name}"):
        cloudformation.delete_stack(StackName=stack.id)
    left, causes = wait_until_stable(cloudformation, stack.id, since, on_event)
    if left is not None and left.status != "DELETE_COMPLETE":
        raise StackFailed(
            f"stack {stack.name} is {left.status}: {describe_failure(causes, left)}; delete the "
            f"blocking resource by hand, and run the command again"
        )


def describe_failure(causes: list[Event], stack: Stack) -> str:
    """Return the reasons for which the stack failed."""
    reasons = [f"{event.resource} ({event.type}): {event.reason}" for event in causes]
    return "; ".join(reasons) or stack.reason or "CloudFormation gives no reason"


def _newer(cloudformation: Any, stack: str, since: str | None) -> Iterator[Event]:
    """Yield the events after `since`, the newest first, as CloudFormation lists them."""
    with explain_errors(f"stack {stack}"):
        pages = cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack)
        for page in pages:
            for event in page["StackEvents"]:
                if event["EventId"] == since:
                    return
                yield Event(
                    event["EventId"],
                    event["LogicalResourceId"],
                    event["ResourceType"],
                    event["ResourceStatus"],
                    event.get("ResourceStatusReason"),
                )
