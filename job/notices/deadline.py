"""Says what is lost when a batch takes longer than what is left.

The training thread is inside that batch and can say nothing; so this is a thread of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.session import Session

log = structlog.get_logger("keepfit")

CHECK_INTERVAL = 1.0
"""Seconds between two looks, each of which costs some microseconds."""


def log_if_lost(session: Session, now: float) -> bool:
    """Log the loss if there is one by now. Returns whether there was."""
    if not session.will_lose_steps(now):
        return False
    log.error(
        events.WORK_LOST,
        batches=session.uncommitted_steps,
        reason="the batch under way takes longer than what is left, so the last checkpoint counts",
        fix="save more often (--save-every), or make batches shorter",
    )
    return True


@contextmanager
def watch_deadline(
    session: Session, *, every: float = CHECK_INTERVAL, clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Look until the block ends, or something was lost."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(every) and not log_if_lost(session, clock()):
            pass

    thread = threading.Thread(target=watch, name="keepfit-countdown", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
