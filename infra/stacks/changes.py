"""Change sets: the changes of an update, known before it is executed."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import ClientError, WaiterError

from keepfit.infra.aws import AwsError, explain_errors
from keepfit.infra.stacks import template
from keepfit.infra.stacks.stack import (
    UNUSABLE_STATES,
    Event,
    EventSink,
    Stack,
    StackFailed,
    delete_stack,
    describe_failure,
    describe_stack,
    newest_event,
    wait_until_stable,
)

_NO_CHANGE = ("didn't contain changes", "No updates are to be performed")


@dataclass(frozen=True)
class Change:
    """The change of one resource.

    Attributes:
        replacement: "True", "False", "Conditional", or "" if not applicable.
    """

    action: str
    resource: str
    type: str
    replacement: str


def ready(cloudformation: Any, name: str, on_event: EventSink) -> Stack | None:
    """Return the stack to update, or None; delete the remains of a creation that failed.

    Raises:
        AwsError: the stack is being changed, or can't be changed.
    """
    found = describe_stack(cloudformation, name)
    if found is None:
        return None
    if found.status in UNUSABLE_STATES:
        delete_stack(cloudformation, found, on_event)
        return None
    if found.busy:
        raise AwsError(
            f"stack {name} is being changed ({found.status}): wait for the end, "
            f"`keepfit infra status` shows it"
        )
    if found.status == "UPDATE_ROLLBACK_FAILED":
        raise AwsError(
            f"stack {name} is {found.status} ({found.reason or 'no reason given'}): "
            f"`aws cloudformation continue-update-rollback --stack-name {name}` resolves this"
        )
    return found


@dataclass(frozen=True)
class StackDeployer:
    """Creates and updates stacks from their templates.

    Attributes:
        on_event: called with each event.
        confirm: called with the changes of a stack (None if there are none); raises to give up.
    """

    cloudformation: Any
    on_event: EventSink
    confirm: Callable[[str, tuple[Change, ...] | None], None]

    def deploy(
        self, kind: template.Kind, name: str, before: Stack | None, given: Mapping[str, str]
    ) -> Stack:
        """Create or update the stack `name` and return it; a parameter that is not given is kept.

        Raises:
            AwsError: the stack can't be created or updated.
        """
        kept = before.parameters if before else {}
        body = template.template_of(kind, {**kept, **given})
        with ChangeSet(self.cloudformation, name, before, body, given) as change_set:
            if before is not None and change_set.empty:
                self.confirm(name, None)
                return before
            self.confirm(name, change_set.changes)
            return change_set.execute(self.on_event)


class ChangeSet:
    """A change set of one stack, from its creation until it is executed or discarded.

    Attributes:
        changes: the changes to resources.
        empty: nothing would change, not even an output.
    """

    def __init__(
        self,
        cloudformation: Any,
        name: str,
        stack: Stack | None,
        body: str,
        given: Mapping[str, str],
    ) -> None:
        """Prepare a change set for the stack `name`; `stack` is the existing one, or None."""
        self._cloudformation = cloudformation
        self._name = name
        self._before = stack
        self._body = body
        self._given = given
        self._undo = ExitStack()
        self._ids: tuple[str, str] | None = None
        self.changes: tuple[Change, ...] = ()
        self.empty = False

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._discard)
            self._create()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.close()

    def execute(self, on_event: EventSink) -> Stack:
        """Execute the changes and wait for their end.

        Raises:
            StackFailed: the changes failed; the stack is as it was before, or deleted.
        """
        assert self._ids is not None  # nosec B101 # narrows a type
        change_set, stack = self._ids
        since = newest_event(self._cloudformation, stack)
        with explain_errors(f"stack {self._name}"):
            # Without this, the bucket of a failed creation would be retained, as its policy says.
            self._cloudformation.execute_change_set(
                ChangeSetName=change_set, StackName=stack, RetainExceptOnCreate=True
            )
        self._undo.pop_all()
        after, causes = wait_until_stable(self._cloudformation, stack, since, on_event)
        if after is not None and after.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            return after
        if after is None:
            raise StackFailed(f"stack {self._name} was deleted while it was being changed")
        raise StackFailed(
            f"stack {self._name} was not deployed: {describe_failure(causes, after)}; "
            f"{self._clean_up(after, on_event)}; fix the cause, then run `keepfit infra up` again"
        )

    def _clean_up(self, failed: Stack, on_event: EventSink) -> str:
        """Delete a stack whose creation failed; return a clause that says what became of the stack.

        CloudFormation itself only rolls back an update.
        """
        if self._before is not None:
            return f"it is {failed.status}"
        try:
            delete_stack(self._cloudformation, failed, on_event)
        except AwsError as error:
            return f"the incomplete stack could not be deleted ({error})"
        return "the incomplete stack was deleted"

    def _create(self) -> None:
        name = f"keepfit-{uuid.uuid4().hex[:12]}"
        with explain_errors(f"stack {self._name}"):
            try:
                made = self._cloudformation.create_change_set(
                    StackName=self._name,
                    ChangeSetName=name,
                    ChangeSetType="UPDATE" if self._before else "CREATE",
                    TemplateBody=self._body,
                    Parameters=self._parameters(),
                    Capabilities=["CAPABILITY_IAM"],
                )
                self._ids = made["Id"], made["StackId"]
                self._cloudformation.get_waiter("change_set_create_complete").wait(
                    ChangeSetName=made["Id"], WaiterConfig={"Delay": 2, "MaxAttempts": 150}
                )
            except (ClientError, WaiterError) as error:
                self.empty = any(text in _reason(error) for text in _NO_CHANGE)
                if self.empty:
                    return
                if isinstance(error, WaiterError):
                    raise AwsError(f"stack {self._name}: {_reason(error)}") from error
                raise
            pages = self._cloudformation.get_paginator("describe_change_set")
            self.changes = tuple(
                _change(change["ResourceChange"])
                for page in pages.paginate(ChangeSetName=made["Id"])
                for change in page["Changes"]
            )

    def _parameters(self) -> list[dict[str, Any]]:
        names = template.template_parameters(self._body)
        kept = set(self._before.parameters) & names - self._given.keys() if self._before else ()
        return [
            *({"ParameterKey": key, "ParameterValue": self._given[key]} for key in self._given),
            *({"ParameterKey": key, "UsePreviousValue": True} for key in sorted(kept)),
        ]

    def _discard(self) -> None:
        """Delete the change set, and the empty stack that a first change set has created."""
        if self._ids is not None:
            with explain_errors(f"change set of stack {self._name}"):
                self._cloudformation.delete_change_set(
                    ChangeSetName=self._ids[0], StackName=self._ids[1]
                )
        if self._before is not None:
            return
        found = describe_stack(self._cloudformation, self._name)
        if found is not None and found.status == "REVIEW_IN_PROGRESS":
            delete_stack(self._cloudformation, found, _ignore_event)


def _ignore_event(event: Event) -> None:
    """Ignore an event of a stack that the user has not seen."""


def _reason(error: ClientError | WaiterError) -> str:
    reason = error.last_response.get("StatusReason") if isinstance(error, WaiterError) else None
    return " ".join(str(reason or error).split())


def _change(change: Mapping[str, Any]) -> Change:
    return Change(
        change["Action"],
        change["LogicalResourceId"],
        change["ResourceType"],
        change.get("Replacement", ""),
    )
