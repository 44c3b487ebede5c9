"""Report the checks of quotas, subnets and capacity to the user."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

from keepfit.callbacks import events
from keepfit.callbacks.errors import EXIT_REFUSED
from keepfit.callbacks.logs.logger import get_logger
from keepfit.infra import aws
from keepfit.infra.preflight.check import Preflight, PreflightRequest, check
from keepfit.infra.preflight.findings import Severity
from keepfit.job.commands import tables
from keepfit.job.commands.deployment.preflight_tables import preflight_parts
from keepfit.job.commands.failures import aws_errors_exit, fail

log = get_logger()


def run_checks(request: PreflightRequest, *, prices: bool) -> Preflight:
    """Ask AWS. The checks are no condition of anything, so a request is repeated once only."""
    with aws_errors_exit():
        return check(request, partial(aws.client, attempts=2), datetime.now(UTC), prices=prices)


def show(found: Preflight) -> None:
    """Print everything that is known."""
    for part in preflight_parts(found):
        tables.show(part)


def log_problems(found: Preflight) -> None:
    """Log what limits the machines, and what could not be checked."""
    for finding in found.of(Severity.WARNING):
        log.warning(
            events.MACHINES_LIMITED, thing=finding.thing, reason=finding.reason, fix=finding.fix
        )
    if skipped := found.of(Severity.SKIPPED):
        log.info(events.CHECK_SKIPPED, reason="; ".join(map(str, skipped)))


def refuse(found: Preflight) -> None:
    """Exit with 78 if no machine could run the job."""
    if refused := found.of(Severity.REFUSED):
        fail("; ".join(map(str, refused)), EXIT_REFUSED)
