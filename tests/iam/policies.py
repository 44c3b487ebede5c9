"""Evaluate policies as IAM does, as far as those of the templates need it.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from tests.iam.actions import knows_key


@dataclass(frozen=True)
class Request:
    """What IAM decides on: an action on a resource.

    Attributes:
        keys: values of condition keys. Those that AWS documents for other actions only are left
            out: a condition on a key that a request does not have is not met.
    """

    action: str
    resource: str
    keys: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        own = {k: v for k, v in self.keys.items() if knows_key(self.action, k)}
        object.__setattr__(self, "keys", own)

    def __str__(self) -> str:
        return f"{self.action} on {self.resource} with {self.keys}"


def allows(statements: Iterable[Mapping], request: Request) -> bool:
    """Return whether these statements together allow the request: one allows, and none denies."""
    effects = {statement["Effect"] for statement in statements if applies(statement, request)}
    return effects == {"Allow"}


def refused(statements: Iterable[Mapping], requests: Iterable[Request]) -> list[str]:
    """Return the requests that are not allowed, as texts without repetition."""
    found = list(statements)
    return sorted({str(request) for request in requests if not allows(found, request)})


def applies(statement: Mapping, request: Request) -> bool:
    """Return whether action, resource and all conditions of the statement fit the request."""
    return (
        any(
            glob(pattern.lower(), request.action.lower()) for pattern in listed(statement["Action"])
        )
        and any(glob(pattern, request.resource) for pattern in listed(statement["Resource"]))
        and all(
            _holds(operator, request.keys.get(key), listed(values))
            for operator, tests in statement.get("Condition", {}).items()
            for key, values in tests.items()
        )
    )


def listed(values) -> list[str]:
    """Return the values of a field that may be one text or a list."""
    return [values] if isinstance(values, str) else list(values)


def glob(pattern: str, text: str) -> bool:
    """Return whether IAM's pattern matches: `*` stands for any characters, `?` for one."""
    escaped = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(escaped, text, re.DOTALL) is not None


OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, value: wanted == value,
    "StringLike": glob,
    "ArnEquals": glob,
    "ArnLike": glob,
    "Bool": lambda wanted, value: wanted.lower() == value.lower(),
}


def _holds(operator: str, value: str | None, wanted: list[str]) -> bool:
    """Return whether a condition is met; one on a key that is absent is not, but for …IfExists."""
    name = operator.removesuffix("IfExists")
    if value is None:
        return operator != name
    return any(OPERATORS[name](one, value) for one in wanted)
