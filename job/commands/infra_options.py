"""The values of options of `keepfit infra up` that are lists."""

from __future__ import annotations

import re

from keepfit.job.commands.failures import USAGE_ERROR, fail

_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", re.ASCII)


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


def split_list(value: str | None) -> tuple[str, ...] | None:
    """Return the items of a text, which commas or white space separate."""
    return None if value is None else tuple(part for part in re.split(r"[,\s]+", value) if part)
