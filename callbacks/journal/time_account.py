"""The time of an attempt, divided between its activities."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from keepfit.callbacks.journal.document import Elapsed
from keepfit.callbacks.journal.terms import Activity

Clock = Callable[[], float]


@dataclass(frozen=True)
class ProcessStart:
    """When a process started.

    Attributes:
        monotonic: in time.monotonic().
        time_of_day: in UTC.
    """

    monotonic: float
    time_of_day: datetime

    @classmethod
    def of_this_process(cls) -> Self:
        """Return the start of this process; where there is no /proc, the present moment."""
        age = _age_of_this_process()
        return cls(time.monotonic() - age, datetime.now(UTC) - timedelta(seconds=age))


@dataclass(frozen=True)
class _State:
    """The account at the last change of the activity, at `since` seconds after the start.

    `elapsed` is no Elapsed, whose copies would make training wait for each save.
    """

    elapsed: Mapping[Activity, float]
    activity: Activity
    since: float


class TimeAccount:
    """Divides the time since the start of a process between activities.

    One thread at a time changes the activity; any thread may read the account.

    Example:
        >>> account = TimeAccount(start, Activity.STARTUP)
        >>> account.switch(Activity.TRAINING)
        >>> with account.during(Activity.SAVING):
        ...     capture()
        >>> account.elapsed().training
        12.5

    Args:
        started: the start of the process, by `clock`.
        before: the activity since then.
    """

    def __init__(
        self, started: float, before: Activity = Activity.STARTUP, clock: Clock = time.monotonic
    ) -> None:
        self._started = started
        self._clock = clock
        self._state = _State({}, before, 0.0)  # replaced as a whole, which is atomic

    @property
    def activity(self) -> Activity:
        """The activity under way."""
        return self._state.activity

    def switch(self, activity: Activity) -> None:
        """Begin another activity; nothing changes if it is under way already."""
        if activity is not self._state.activity:
            now = self._now()
            self._state = _State(_until(self._state, now), activity, now)

    @contextmanager
    def during(self, activity: Activity) -> Iterator[None]:
        """Do another activity within the block, and go on with the present one after it."""
        before = self._state.activity
        self.switch(activity)
        try:
            yield
        finally:
            self.switch(before)

    def elapsed(self) -> Elapsed:
        """Return the seconds of each activity until now, in whole microseconds."""
        exact = _until(self._state, self._now())
        return Elapsed(**{each.value: round(seconds, 6) for each, seconds in exact.items()})

    def moment(self, monotonic: float) -> float:
        """Return a moment of time.monotonic() in seconds since the start of the process."""
        return max(0.0, monotonic - self._started)

    def _now(self) -> float:
        return max(self._clock() - self._started, self._state.since)


def _until(state: _State, now: float) -> dict[Activity, float]:
    spent = state.elapsed.get(state.activity, 0.0) + now - state.since
    return {**state.elapsed, state.activity: spent}


def _age_of_this_process() -> float:
    """Return the seconds since the start of this process (proc(5), field 22 of /proc/self/stat)."""
    if sys.platform != "linux":
        return 0.0
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
