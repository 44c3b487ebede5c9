"""Why a process that has nothing left to do may stay.

On AWS Batch the next attempt starts as soon as this one has ended. If the instance still lives, it
may start there, and one of at most ten attempts is spent on the seconds that are left.
"""

from __future__ import annotations

import threading
import time

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.errors import Preempted
from keepfit.callbacks.session import Session

log = structlog.get_logger("keepfit")

EXIT_MARGIN = 5.0
"""Seconds before the deadline at which the process ends, so that its exit code is still told."""


def hold_until_gone(session: Session) -> None:
    """Wait, if the notice wants that, until shortly before the deadline; a signal ends it."""
    notice = session.notice
    if notice is None or not notice.hold_until_deadline or notice.deadline is None:
        return
    seconds = notice.deadline - EXIT_MARGIN - time.monotonic()
    if seconds <= 0:
        return
    log.info(
        events.HOLDING,
        seconds=round(seconds, 1),
        reason="left early, AWS Batch could put the next attempt onto this same instance",
        fix="--leave-at-once ends that; so does SIGTERM",
    )
    try:
        threading.Event().wait(seconds)
    except Preempted:
        return
