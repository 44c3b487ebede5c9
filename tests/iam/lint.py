"""Check the policies of the templates against AWS' Service Authorization Reference.

    python -m tests.iam.lint

Found are actions that do not exist, conditions on keys that an action does not have (such a
statement never applies), resources that no action of a statement applies to, and `*` as the
resource of an action that can be restricted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

from tests.iam.actions import actions_of, fits, knows_key, needs_resource
from tests.iam.policies import listed
from tests.iam.templates import policies

TEMPLATES = ("storage", "compute")


def findings(statement: Mapping) -> Iterator[str]:
    """Yield what is wrong with a statement, in words."""
    resources = listed(statement["Resource"])
    for pattern in listed(statement["Action"]):
        actions = actions_of(pattern)
        if not actions:
            yield f"there is no action {pattern}"
        for action in actions if len(actions) == 1 else ():
            yield from _of_action(action, resources, statement)
    for resource in resources:
        if not any(fits(a, resource) for p in listed(statement["Action"]) for a in actions_of(p)):
            yield f"no action applies to {resource}"


def _of_action(action: str, resources: list[str], statement: Mapping) -> Iterator[str]:
    for tests in statement.get("Condition", {}).values():
        for key in tests:
            if not knows_key(action, key):
                yield f"{action} has no condition key {key}"
    if statement["Effect"] != "Allow":
        return
    if not any(fits(action, resource) for resource in resources):
        yield f"{action} applies to none of {', '.join(resources)}"
    if resources == ["*"] and needs_resource(action):
        yield f"{action} can be restricted to resources"


def all_findings() -> list[str]:
    """Return what is wrong with the policies of all templates."""
    return [
        f"{kind}.yaml, {policy.resource}, {statement.get('Sid', 'a statement')}: {finding}"
        for kind in TEMPLATES
        for policy in policies(kind)
        for statement in policy.statements
        for finding in findings(statement)
    ]


if __name__ == "__main__":
    found = all_findings()
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(bool(found))
