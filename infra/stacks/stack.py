"""A stack: what it is, and how it becomes something else, event by event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError
from tenacity import Retrying, retry_if_result, wait_fixed

from keepfit.infra.aws import AwsError, AwsUnreachable, code_of, explain_errors

POLL_SECONDS = 2.0
"""Seconds; CloudFormation allows few requests."""

UNUSABLE_STATES = frozenset(
    {"REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"}
)
"""States that nothing but a deletion leads out of; none of them holds data."""


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
    """What became of one of a stack's resources."""

    id: str
    resource: str
    type: str
    status: str
    reason: str | None

    @property
    def is_cause(self) -> bool:
        """Whether it tells why a stack failed; what is cancelled for another's sake does not."""
        if self.reason is None or "cancelled" in self.reason:
            return False
        return self.status.endswith("_FAILED") and self.type != "AWS::CloudFormation::Stack"


class StackFailed(AwsError):
    """It did not become what was asked for."""


EventSink = Callable[[Event], None]


def describe_stack(cloudformation: Any, name: str) -> Stack | None:
    """The stack of that name or id; None if there is none. A deleted one is found by id only.

    Raises:
        AwsError: it can't be asked for.
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
    """Where to follow it from."""
    with explain_errors(f"stack {stack}"):
        found = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    return str(found[0]["EventId"]) if found else None


def wait_until_stable(
    cloudformation: Any, stack: str, since: str | None, tell: EventSink
) -> tuple[Stack | None, list[Event]]:
    """Wait until the stack is at rest; tell each event as it comes.

    Args:
        stack: its id.
        since: the event after which to begin; None: the first.

    Returns:
        The stack, and those events that say why it failed.

    Raises:
        AwsUnreachable: it is not known how it ended.
    """
    causes: list[Event] = []

    def look() -> Stack | None:
        nonlocal since
        found = describe_stack(cloudformation, stack)
        for event in reversed(list(_newer(cloudformation, stack, since)) if found else []):
            since = event.id
            tell(event)
            if event.is_cause:
                causes.append(event)
        return found

    waiting = retry_if_result(lambda found: found is not None and found.busy)
    try:
        return Retrying(retry=waiting, wait=wait_fixed(POLL_SECONDS))(look), causes
    except AwsUnreachable as error:
        raise AwsUnreachable(
            f"{error}; CloudFormation goes on without us, `keepfit infra status` shows how it ends"
        ) from error


def delete_stack(cloudformation: Any, stack: Stack, tell: EventSink) -> None:
    """Delete the stack and wait until it is gone; what its template retains stays.

    Raises:
        StackFailed: something of it could not be deleted.
    """
    since = newest_event(cloudformation, stack.id)
    with explain_errors(f"stack {stack.name}"):
        cloudformation.delete_stack(StackName=stack.id)
    left, causes = wait_until_stable(cloudformation, stack.id, since, tell)
    if left is not None and left.status != "DELETE_COMPLETE":
        raise StackFailed(
            f"stack {stack.name} is {left.status}: {describe_failure(causes, left)}; delete by hand what "
            f"is in the way, and do the same again"
        )


def describe_failure(causes: list[Event], stack: Stack) -> str:
    """Why the stack failed."""
    said = [f"{event.resource} ({event.type}): {event.reason}" for event in causes]
    return "; ".join(said) or stack.reason or "CloudFormation gives no reason"


def _newer(cloudformation: Any, stack: str, since: str | None) -> Iterator[Event]:
    """The newest first, as CloudFormation lists them."""
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
