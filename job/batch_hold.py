"""Why a process that has saved its work may wait before it exits.

On AWS Batch the next attempt starts as soon as this one has ended. If the instance still runs, the
attempt may start there, and one of at most ten attempts is spent on the remaining seconds.
"""

from __future__ import annotations

import threading
import time

from keepfit.callbacks import events
from keepfit.callbacks.engine.preemption import PreemptionState
from keepfit.callbacks.errors import Preempted
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()

EXIT_MARGIN = 5.0
"""Seconds before the deadline at which the process exits, so that its exit code is reported."""


def hold_until_gone(preemption: PreemptionState) -> None:
    """Wait until shortly before the deadline, if the notice requires it; a signal ends the wait."""
    notice = preemption.notice
    if notice is None or not notice.hold_until_deadline or notice.deadline is None:
        return
    seconds = notice.deadline - EXIT_MARGIN - time.monotonic()
    if seconds <= 0:
        return
    log.info(
        events.HOLDING,
        seconds=round(seconds, 1),
        reason="after an exit now, AWS Batch could start the next attempt on this same instance",
        fix="use --leave-at-once to exit without this wait; SIGTERM ends it",
    )
    try:
        threading.Event().wait(seconds)
    except Preempted:
        return
