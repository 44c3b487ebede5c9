"""Links to the pages of AWS' console about an attempt."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from keepfit.callbacks.journal.document import Machine

_REGION: Final = re.compile(r"[a-z]{2,4}(-[a-z]{2,12}){1,3}-\d{1,2}")
"""The form of a region's name. A journal comes from a store: what else it says makes no link."""

_DOMAINS: Final = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}
"""The domains of the console by the first part of the region, except `console.aws.amazon.com`."""


def log_link(machine: Machine) -> str | None:
    """Return the address of an attempt's log stream in CloudWatch, if it is known."""
    console = _console(machine, "cloudwatch")
    if not (console and machine.log_group and machine.log_stream):
        return None
    group, stream = (_twice(name) for name in (machine.log_group, machine.log_stream))
    return f"{console}#logsV2:log-groups/log-group/{group}/log-events/{stream}"


def job_link(machine: Machine) -> str | None:
    """Return the address of an attempt's job in AWS Batch, if it is known."""
    console = _console(machine, "batch")
    return (
        f"{console}#jobs/detail/{quote(machine.job, safe='')}" if console and machine.job else None
    )


def _console(machine: Machine, service: str) -> str | None:
    """Return the start of the console's addresses for a service in the machine's region."""
    region = machine.region
    if not region or not _REGION.fullmatch(region):
        return None
    domain = next(
        (domain for start, domain in _DOMAINS.items() if region.startswith(start)),
        "console.aws.amazon.com",
    )
    return f"https://{region}.{domain}/{service}/home?region={region}"


def _twice(name: str) -> str:
    """Encode a name as the console of CloudWatch does: twice, with `$` in place of `%`."""
    return quote(quote(name, safe=""), safe="").replace("%", "$")
