"""Findings of the checks, and requests to AWS of which none is indispensable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from keepfit.infra.aws import AwsError, NotAllowed

T = TypeVar("T")


class Severity(StrEnum):
    """What follows from a finding."""

    REFUSED = "refused"
    """No machine can run the job until this is mended."""
    WARNING = "warning"
    """Fewer machines than requested can run it."""
    SKIPPED = "skipped"
    """It is unknown, as AWS did not answer the request or did not allow it."""


@dataclass(frozen=True)
class Finding:
    """What is missing, or unknown.

    Attributes:
        thing: the quota, subnet or request.
        fix: the way out, with a command where there is one; empty if there is nothing to do.
    """

    severity: Severity
    thing: str
    reason: str
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.thing}: {self.reason}"
        return f"{text}; {self.fix}" if self.fix else text


@dataclass(frozen=True)
class Answer(Generic[T]):
    """The answer to a request; None with the finding that says why there is none."""

    value: T | None = None
    skipped: tuple[Finding, ...] = ()


def ask(thing: str, action: str, read: Callable[[], T]) -> Answer[T]:
    """Return the answer to a request that may fail: the checks never fail a command by themselves.

    Args:
        thing: what the request is about.
        action: the IAM action that it needs.
    """
    try:
        return Answer(read())
    except NotAllowed:
        reason = f"not allowed: {action}"
    except AwsError as error:
        # The text begins with what was asked for, as `thing` does.
        reason = str(error).partition(": ")[2] or str(error)
    return Answer(None, (Finding(Severity.SKIPPED, thing, reason),))
