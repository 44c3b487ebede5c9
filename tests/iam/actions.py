"""What AWS documents of each IAM action: its condition keys, and the resources it applies to.

The source is AWS' Service Authorization Reference, as the package policy_sentry has it. parliament
needs pkg_resources, which setuptools has no longer.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import cache

from policy_sentry.shared.iam_data import get_service_prefix_data

GLOBAL_KEYS = frozenset(
    {"aws:SecureTransport", "aws:SourceAccount", "aws:SourceArn", "aws:PrincipalArn"}
)
"""Keys that every request has, or that AWS sets for its services:
docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html"""

FREE = {"LogGroupName", "LogStreamName", "ObjectName", "ParameterNameWithoutLeadingSlash"}
"""Parts of an ARN that may contain slashes and colons."""

Token = str | None
"""A part of a pattern: a character, or what stands for any number of them: `*` for any characters,
None for characters without slashes and colons."""


def actions_of(pattern: str) -> list[str]:
    """Return the actions that a pattern such as s3:Get* stands for; empty if there is none."""
    service, _, name = pattern.partition(":")
    known = _service(service).get("privileges", {})
    return [f"{service}:{one}" for one in known if fnmatchcase(one.lower(), name.lower())]


def keys_of(action: str) -> frozenset[str]:
    """Return the condition keys of an action, with those of the resources that it applies to."""
    service, _, _ = action.partition(":")
    found = set(GLOBAL_KEYS)
    for name, kind in _resource_types(action).items():
        found.update(kind["condition_keys"])
        found.update(_service(service)["resources"].get(name, {}).get("condition_keys", ()))
    return frozenset(found)


def knows_key(action: str, key: str) -> bool:
    """Return whether a policy for the action may have a condition on this key."""
    patterns = (
        re.sub(r"\\?\$\\?\{.*?\}|<.*?>", ".+", re.escape(known)) for known in keys_of(action)
    )
    return any(re.fullmatch(pattern, key, re.IGNORECASE) for pattern in patterns)


def needs_resource(action: str) -> bool:
    """Return whether a statement can restrict the action to resources."""
    return any(_resource_types(action))


def fits(action: str, resource: str) -> bool:
    """Return whether a resource of a statement can be one that the action applies to."""
    if resource == "*":
        return True
    service, _, _ = action.partition(":")
    formats = [
        _service(service)["resources"][name]["arn"] for name in _resource_types(action) if name
    ]
    return any(_intersect(_tokens(resource), _tokens(form)) for form in formats)


def _resource_types(action: str) -> dict:
    service, _, name = action.partition(":")
    return _service(service)["privileges"][name]["resource_types"]


@cache
def _service(prefix: str) -> dict:
    return get_service_prefix_data(prefix)


def _tokens(pattern: str) -> tuple[Token, ...]:
    """Return the parts of a statement's resource, or of an ARN format with ${Placeholders}."""
    found: list[Token] = []
    for name, star, character in re.findall(r"\$\{(\w+)\}|(\*)|(.)", pattern):
        found.append("*" if star or name in FREE else None if name else character)
    return tuple(found)


def _intersect(one: tuple[Token, ...], other: tuple[Token, ...]) -> bool:
    """Return whether some text matches both patterns."""

    @cache
    def match(i: int, j: int) -> bool:
        if i == len(one) or j == len(other):
            return set(one[i:]) | set(other[j:]) <= {"*", None}
        a, b = one[i], other[j]
        if a in ("*", None) and (match(i + 1, j) or (_takes(a, b) and match(i, j + 1))):
            return True
        if b in ("*", None):
            return match(i, j + 1) or (_takes(b, a) and match(i + 1, j))
        return a == b and match(i + 1, j + 1)

    return match(0, 0)


def _takes(wildcard: Token, token: Token) -> bool:
    return token not in ("*", None) and (wildcard == "*" or token not in "/:")
