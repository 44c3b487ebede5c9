"""When training stops after a notice: a pure rule, and the class that applies it to a fit.

A machine whose end is known, two minutes ahead on EC2, is useful until then. A save is requested at
once, training continues, and the last save starts when there is just enough time left for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.engine.session import Notice, Session

if TYPE_CHECKING:
    from keepfit.callbacks.engine.run import Run

log = structlog.get_logger("keepfit")

SPOT_NOTICE = 120.0
"""Seconds from EC2's Spot notice to the end of the machine."""

RESERVE_FACTOR, RESERVE_MARGIN = 1.5, 5.0
"""The last save may be slower by this factor than the one before; seconds to exit after it."""


def final_save_reserve(save_seconds: float) -> float:
    """Return the seconds to reserve for the last save, if a save takes `save_seconds`."""
    return save_seconds * RESERVE_FACTOR + RESERVE_MARGIN


def warn_if_save_slow(save_seconds: float, mib: float) -> None:
    """Log a warning if a Spot notice would not leave enough time for a save as long as this one.

    Args:
        save_seconds: how long the save took.
        mib: how much it wrote.
    """
    if final_save_reserve(save_seconds) > SPOT_NOTICE:
        log.warning(
            events.SAVE_SLOW,
            seconds=round(save_seconds, 1),
            mib=mib,
            reason=f"a Spot notice leaves about {SPOT_NOTICE:.0f} s for the batch under way and a "
            "save, so the work since the last periodic save may be lost",
            fix="save more often (--save-every), use a bucket in the same region through an S3 "
            "gateway endpoint, or use an instance with more network bandwidth",
        )


def must_leave(
    notice: Notice, now: float, *, save_seconds: float, boundary_interval: float
) -> bool:
    """Return whether to save and exit at this batch boundary; otherwise training continues.

    Args:
        notice: the merged notice.
        now: the present time of time.monotonic().
        save_seconds: seconds that a save takes.
        boundary_interval: seconds between the last two boundaries. The next one is expected after
            as many, and must still be early enough for the last save.
    """
    if notice.deadline is None or not notice.training_allowed:
        return True
    return notice.deadline - now - boundary_interval < final_save_reserve(save_seconds)


class PreemptionPolicy:
    """Applies the rule at the boundaries of one `fit`."""

    def __init__(
        self, session: Session, run: Run, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._session = session
        self._run = run
        self._clock = clock
        self._last_boundary = clock()

    def must_exit(self, step: int) -> bool:
        """Return whether training stops at this boundary, after `step` batches of the run."""
        now = self._clock()
        interval, self._last_boundary = now - self._last_boundary, now
        self._run.reached_step = step
        notice = self._session.notice
        if notice is None or not must_leave(
            notice, now, save_seconds=self._run.save_seconds, boundary_interval=interval
        ):
            return False
        self._session.begin_final_save()
        return True
