"""The policies of the templates, with sample values in place of parameters and resources."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cfnlint.decode.cfn_yaml import load

from tests.e2e.process import ROOT

ACCOUNT = "us-east-1:123456789012"
KEY = f"arn:aws:kms:{ACCOUNT}:key/0ab3"
SAMPLES = {
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "123456789012",
    "AWS::StackName": "keepfit-compute",
    "Bucket": "bucket",
    "Bucket.Arn": "arn:aws:s3:::bucket",
    "Prefix": "runs",
    "KmsKey": KEY,
    "Queue": f"arn:aws:batch:{ACCOUNT}:job-queue/Queue-1",
    "Secrets": [
        f"arn:aws:secretsmanager:{ACCOUNT}:secret:team-1",
        f"arn:aws:ssm:{ACCOUNT}:parameter/team/x",
    ],
    "SecretKeys": [KEY],
    "Topic": f"arn:aws:sns:{ACCOUNT}:Topic-1",
    "ResubmitLogs.Arn": f"arn:aws:logs:{ACCOUNT}:log-group:/keepfit/keepfit-compute/resubmit:*",
    "WaitingLogs.Arn": f"arn:aws:logs:{ACCOUNT}:log-group:/keepfit/keepfit-compute/waiting:*",
    "OtherRegion": "eu-west-1",
    "OtherQueue": "arn:aws:batch:eu-west-1:123456789012:job-queue/Queue-2",
    "JobsEnded.Arn": f"arn:aws:events:{ACCOUNT}:rule/JobsEnded-1",
    "QueueBlocked.Arn": f"arn:aws:events:{ACCOUNT}:rule/QueueBlocked-1",
}
"""By name, as `!Ref` and `!Sub` have it, or with the attribute, as `!GetAtt` has it."""


@dataclass(frozen=True)
class Policy:
    """A policy document of a template.

    Attributes:
        resource: the name of the resource that has it.
        roles: the names of the roles that have it; empty for the policy of a resource.
    """

    resource: str
    statements: list[dict] = field(repr=False)
    roles: tuple[str, ...] = ()


def policies(kind: str, samples: Mapping = SAMPLES) -> list[Policy]:
    """Return the policies of a template; of each condition, the case in which there is more."""
    resources = load(str(ROOT / f"infra/templates/{kind}.yaml"))["Resources"]
    return [policy for name in resources for policy in _of_resource(name, resources[name], samples)]


def role_statements(kind: str, role: str, samples: Mapping = SAMPLES) -> list[dict]:
    """Return all statements of the policies of a role."""
    found = [p.statements for p in policies(kind, samples) if role in p.roles]
    return [statement for statements in found for statement in statements]


def resolve(value, samples: Mapping):
    """Return a value of a template without its functions."""
    if isinstance(value, Mapping):
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name in FUNCTIONS:
                return FUNCTIONS[name](argument, samples)
        return {str(k): resolve(v, samples) for k, v in value.items()}
    if isinstance(value, list):
        items = [resolve(item, samples) for item in value]
        return [item for item in items if item is not None]
    return str(value)


def _of_resource(name: str, resource: Mapping, samples: Mapping) -> Iterator[Policy]:
    properties = resource.get("Properties", {})
    for policy in properties.get("Policies", ()):
        yield Policy(name, _statements(policy["PolicyDocument"], samples), (name,))
    if "PolicyDocument" in properties:
        roles = tuple(str(role["Ref"]) for role in properties.get("Roles", ()))
        yield Policy(name, _statements(properties["PolicyDocument"], samples), roles)


def _statements(document, samples: Mapping) -> list[dict]:
    return resolve(document, samples)["Statement"]


def _sample(name: str, samples: Mapping):
    if name == "AWS::NoValue":
        return None
    if name not in samples:
        raise LookupError(f"{name!r} has no sample value: add one to tests/iam/templates.py")
    return samples[name]


FUNCTIONS = {
    "Ref": lambda name, samples: _sample(str(name), samples),
    "Fn::GetAtt": lambda path, samples: _sample(
        ".".join(map(str, path)) if isinstance(path, list) else str(path), samples
    ),
    "Fn::Sub": lambda text, samples: re.sub(
        r"\$\{(.+?)\}", lambda match: str(_sample(match[1], samples)), str(text)
    ),
    "Fn::If": lambda branches, samples: resolve(branches[1], samples),
}
