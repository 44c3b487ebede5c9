"""Log how much work is lost when a batch takes longer than the time until the deadline.

The training thread is inside that batch and can't log anything, so a thread of its own does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from keepfit.callbacks import events
from keepfit.callbacks.engine.session import Session
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()

CHECK_INTERVAL = 1.0
"""Seconds between two checks, each of which costs some microseconds."""


def log_if_lost(session: Session, now: float) -> bool:
    """Log the loss if work will be lost at time `now`; return whether it will be."""
    if not session.will_lose_steps(now):
        return False
    log.error(
        events.WORK_LOST,
        batches=session.uncommitted_steps,
        reason="the batch under way ends too late for a save, so the last checkpoint counts",
        fix="save more often (--save-every), or make batches shorter",
    )
    return True


@contextmanager
def watch_deadline(
    session: Session, *, every: float = CHECK_INTERVAL, clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Check until the block ends, or until a loss has been logged."""
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.wait(every) and not log_if_lost(session, clock()):
            pass

    thread = threading.Thread(target=watch, name="keepfit-countdown", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
