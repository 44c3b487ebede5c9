"""The values of options of `keepfit infra up` that are lists."""

from __future__ import annotations

import re

from keepfit.job.commands.failures import USAGE_ERROR, fail

MAX_PARAMETER = 4096
"""Bytes of a parameter's value in CloudFormation, and so of a list."""

_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", re.ASCII)
_POLICY = re.compile(r"arn:aws[a-z-]*:iam::(aws|\d{12}):policy/[\w+=.@/-]+", re.ASCII)
_PREFIX = re.compile(r"[\w!.()=+@:/ -]*", re.ASCII)
"""A prefix without the characters that have a meaning in policies or in lists."""


def secrets(given: list[str] | None) -> tuple[str, ...] | None:
    """Return the ARNs of whole secrets; an empty text alone means none at all."""
    from keepfit.infra.jobs import secret_arns

    if not given:
        return None
    wanted = [text for text in given if text]
    if not all(map(secret_arns.is_secret_arn, wanted)):
        fail(f"--secret is not the ARN of a secret: {secret_arns.FORMS}", USAGE_ERROR)
    return tuple(dict.fromkeys(map(secret_arns.stored_secret, wanted)))


def secret_keys(given: list[str] | None) -> tuple[str, ...] | None:
    """Return the ARNs of KMS keys; an empty text alone means none at all."""
    from keepfit.infra.jobs import secret_arns

    if not given:
        return None
    wanted = [text for text in given if text]
    if not all(map(secret_arns.is_key_arn, wanted)):
        form = "arn:aws:kms:REGION:ACCOUNT:key/ID"
        fail(f"--secret-key is not the ARN of a KMS key: {form}", USAGE_ERROR)
    return tuple(dict.fromkeys(wanted))


def emails(given: list[str] | None) -> tuple[str, ...] | None:
    """Return the addresses; an empty text alone means none at all."""
    if not given:
        return None
    wanted = [text for text in given if text]
    for text in wanted:
        if not _EMAIL.fullmatch(text):
            fail(f"the address of an email is expected. Received: --notify={text!r}", USAGE_ERROR)
    return tuple(dict.fromkeys(wanted))


def reads(given: list[str] | None) -> tuple[str, ...] | None:
    """Return the addresses of data in S3; an empty text alone means none at all."""
    from keepfit.callbacks.errors import ConfigurationError
    from keepfit.callbacks.storage.s3.address import Address

    if not given:
        return None
    wanted = []
    for text in filter(None, given):
        if not text.startswith("s3://") or not _PREFIX.fullmatch(text.removeprefix("s3://")):
            fail(
                "data is given as s3://BUCKET or s3://BUCKET/PREFIX, where a prefix has letters, "
                f"digits, spaces and _!.()=+@:/- only. Received: --read={text!r}",
                USAGE_ERROR,
            )
        try:
            wanted.append(Address.parse(text).uri)
        except ConfigurationError:
            fail(
                "data is given as s3://BUCKET or s3://BUCKET/PREFIX, with the name of a bucket and "
                f"no empty part, '.' or '..'. Received: --read={text!r}",
                USAGE_ERROR,
            )
    return _limited("--read", wanted)


def policies(given: list[str] | None) -> tuple[str, ...] | None:
    """Return the ARNs of managed policies; an empty text alone means none at all."""
    if not given:
        return None
    wanted = [text for text in given if text]
    for text in wanted:
        if not _POLICY.fullmatch(text):
            fail(
                "the ARN of a managed policy is expected, arn:aws:iam::ACCOUNT:policy/NAME (or "
                f"arn:aws:iam::aws:policy/NAME for one of AWS). Received: --policy={text!r}",
                USAGE_ERROR,
            )
    return _limited("--policy", wanted)


def egress_ports(value: str | None) -> tuple[str, ...] | None:
    """Return the ports to which jobs may connect, without 443, which is always open."""
    items = split_list(value)
    if items is None:
        return None
    for text in items:
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
            fail(
                "TCP ports from 1 to 65535 are expected, separated by commas. "
                f"Received: --egress-ports={value!r}",
                USAGE_ERROR,
            )
    return tuple(str(port) for port in sorted({int(text) for text in items} - {443}))


def _limited(option: str, wanted: list[str]) -> tuple[str, ...]:
    """Return the values, each once; exit if they are more than a stack's parameter can have."""
    values = tuple(dict.fromkeys(wanted))
    if len(",".join(values).encode()) > MAX_PARAMETER:
        fail(
            f"all values of {option} together have {MAX_PARAMETER} bytes at most, as a parameter "
            f"of CloudFormation: name fewer of them, or a policy of your own with --policy",
            USAGE_ERROR,
        )
    return values


def split_list(value: str | None) -> tuple[str, ...] | None:
    """Return the items of a text, which commas or white space separate."""
    return None if value is None else tuple(part for part in re.split(r"[,\s]+", value) if part)
