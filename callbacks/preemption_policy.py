"""How the last two minutes are used: a pure rule, and what applies it to a training.

A machine that says when it goes is of use until then. A save is asked for at once, training goes
on, and the last save begins when there is just time for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.session import Notice, Session

if TYPE_CHECKING:
    from keepfit.callbacks.run import Run

log = structlog.get_logger("keepfit")

SPOT_NOTICE = 120.0
"""Seconds from EC2's notice to the end."""

RESERVE_FACTOR, RESERVE_MARGIN = 1.5, 5.0
"""The last save may take so much longer than the one before, and the process then has to end."""


def final_save_reserve(saving: float) -> float:
    """Seconds to keep for the last save, if a save takes `saving` seconds."""
    return saving * RESERVE_FACTOR + RESERVE_MARGIN


def warn_if_save_slow(saving: float, mib: float) -> None:
    """Say it if a Spot notice would not leave enough time for a save as long as this one."""
    if final_save_reserve(saving) > SPOT_NOTICE:
        log.warning(
            events.SAVE_SLOW,
            seconds=round(saving, 1),
            mib=mib,
            reason=f"a Spot notice leaves about {SPOT_NOTICE:.0f} s for the batch under way and a "
            "save, so the work since the last periodic save may be lost",
            fix="save more often (--save-every); a bucket in the same region, reached through an "
            "S3 gateway endpoint; an instance with more network bandwidth",
        )


def must_leave(notice: Notice, now: float, *, saving: float, pace: float) -> bool:
    """Whether to save and leave at this batch boundary; otherwise training goes on.

    Args:
        now: as time.monotonic() counts.
        saving: seconds that a save takes.
        pace: seconds until the next boundary, to judge by the last one: it must not be too late.
    """
    if notice.deadline is None or not notice.training_allowed:
        return True
    return notice.deadline - now - pace < final_save_reserve(saving)


class PreemptionPolicy:
    """Applies the rule at the boundaries of one `fit`."""

    def __init__(
        self, session: Session, run: Run, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._session = session
        self._run = run
        self._clock = clock
        self._passed = clock()

    def due(self, step: int) -> bool:
        """At each boundary, after `step` batches of the run: whether this is the last one."""
        now = self._clock()
        pace, self._passed = now - self._passed, now
        self._run.reached_step = step
        notice = self._session.notice
        if notice is None or not must_leave(notice, now, saving=self._run.save_seconds, pace=pace):
            return False
        self._session.begin_final_save()
        return True
