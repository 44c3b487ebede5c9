"""The parts of templates that CloudFormation can't repeat for the items of a parameter."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import groupby

_READ_POLICY = """\
  ReadPolicy:
    Type: AWS::IAM::Policy
    Properties:
      PolicyName: reads
      Roles: [!Ref JobRole]
      PolicyDocument:
        Version: "2012-10-17"
        Statement:
          - Sid: Data
            Effect: Allow
            Action: s3:GetObject
            Resource:"""


def subscriptions(emails: Sequence[str]) -> str:
    """Return a subscription for each address."""
    return "\n".join(map(_subscription, emails))


def _subscription(email: str) -> str:
    """Return the resource for an address; its name stays the same whatever other ones there are."""
    name = f"Email{hashlib.sha256(email.encode()).hexdigest()[:12]}"
    return f"""\
  {name}:
    Type: AWS::SNS::Subscription
    Condition: HasEmails
    Properties: {{TopicArn: !Ref Topic, Protocol: email, Endpoint: {json.dumps(email)}}}
"""


def egress_rules(ports: Sequence[str]) -> str:
    """Return the rules of a security group that permit connections to these TCP ports."""
    return "".join(
        f"        - {{IpProtocol: tcp, FromPort: {port}, ToPort: {port}, {anywhere}}}\n"
        for port in ports
        for anywhere in ("CidrIp: 0.0.0.0/0", 'CidrIpv6: "::/0"')
    )


def read_policy(reads: Sequence[str]) -> str:
    """Return the policy with which the role of jobs may read data; nothing if there is none.

    Args:
        reads: s3://BUCKET or s3://BUCKET/PREFIX. A prefix is that of a folder or of one object.
    """
    if not reads:
        return ""
    places = sorted({_split(uri) for uri in reads})
    objects = [f"              - {_arn(name)}" for place in places for name in _objects(*place)]
    return "\n".join([_READ_POLICY, *objects, *_listings(places)])


def _split(uri: str) -> tuple[str, str]:
    """Return the bucket and the prefix, without a slash at its end."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    return bucket, prefix.rstrip("/")


def _objects(bucket: str, prefix: str) -> tuple[str, ...]:
    return (f"{bucket}/{prefix}", f"{bucket}/{prefix}/*") if prefix else (f"{bucket}/*",)


def _listings(places: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield one statement for each bucket: a condition applies to all resources of a statement."""
    by_bucket = groupby(places, key=lambda place: place[0])
    for number, (bucket, group) in enumerate(by_bucket, 1):
        prefixes = [prefix for _, prefix in group]
        yield f"""\
          - Sid: Listing{number}
            Effect: Allow
            Action: s3:ListBucket
            Resource: {_arn(bucket)}"""
        if all(prefixes):
            patterns = [pattern for prefix in prefixes for pattern in (prefix, f"{prefix}/*")]
            condition = json.dumps({"StringLike": {"s3:prefix": patterns}})
            yield f"            Condition: {condition}"
    yield ""


def _arn(resource: str) -> str:
    return f"!Sub {json.dumps(f'arn:${{AWS::Partition}}:s3:::{resource}')}"
