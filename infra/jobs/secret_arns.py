"""The ARNs of secrets: those of AWS Secrets Manager, and parameters of Systems Manager.

A job definition names a secret by its ARN; the container gets its value as a variable.
docs.aws.amazon.com/batch/latest/userguide/specifying-sensitive-data.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable

FORMS = (
    "arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-6chars, with :JSON-KEY:STAGE:VERSION after "
    "it if needed, or arn:aws:ssm:REGION:ACCOUNT:parameter/NAME"
)

_START = r"arn:aws[a-z-]*:{}:[a-z]{{2}}[a-z0-9-]*-\d+:\d{{12}}:"
_STORED = re.compile(
    rf"(?:{_START.format('secretsmanager')}secret:[A-Za-z0-9/_+=.@-]+-[A-Za-z0-9]{{6}}"
    rf"|{_START.format('ssm')}parameter/[A-Za-z0-9_./-]+)",
    re.ASCII,
)
_PART = re.compile(r"(:[A-Za-z0-9_+=.@ /-]*){3}", re.ASCII)
"""A key of the secret's JSON, a version's stage and a version's id, each of which may be empty."""

_KEY = re.compile(rf"{_START.format('kms')}key/[A-Za-z0-9-]+", re.ASCII)


def is_secret_arn(text: str) -> bool:
    """Return whether the text is the full ARN of a secret, or of a part or version of it."""
    stored = _STORED.match(text)
    if stored is None:
        return False
    rest = text[stored.end() :]
    return not rest or (":secretsmanager:" in stored[0] and _PART.fullmatch(rest) is not None)


def stored_secret(arn: str) -> str:
    """Return the ARN of the whole secret, as a policy names it.

    Raises:
        ValueError: `arn` is not the ARN of a secret.
    """
    stored = _STORED.match(arn)
    if stored is None:
        raise ValueError("this is not the ARN of a secret")
    return stored[0]


def is_key_arn(text: str) -> bool:
    """Return whether the text is the ARN of a KMS key."""
    return _KEY.fullmatch(text) is not None


def services_of(arns: Iterable[str]) -> tuple[str, ...]:
    """Return the services that a machine asks for these secrets."""
    return tuple(sorted({arn.split(":")[2] for arn in arns}))
