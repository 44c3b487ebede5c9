"""The decision that a training has stalled: no batch for a while although a fit is under way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

LONGEST_GAP: Final = 10.0
"""Seconds that count at most between two observations, which are made each second. A process that
was stopped (SIGSTOP) has observed nothing, and must not count as stalled when it continues."""


@dataclass(frozen=True)
class NotTraining:
    """No fit is under way."""


@dataclass(frozen=True)
class Training:
    """A fit is under way.

    Attributes:
        events: number of the training's events at the last observation.
        idle: seconds since the last event.
    """

    events: int
    idle: float = 0.0


@dataclass(frozen=True)
class Stalled:
    """A fit is under way, and has been idle for too long; this was reported.

    Attributes:
        events: as for Training.
    """

    events: int


State = NotTraining | Training | Stalled


def next_state(state: State, events: int | None, elapsed: float, limit: float) -> State:
    """Return the state after an observation.

    Args:
        events: number of batches and other events of the training so far; None if no fit is under
            way.
        elapsed: seconds since the observation before.
        limit: seconds without an event after which a training has stalled.
    """
    if events is None:
        return NotTraining()
    if isinstance(state, NotTraining) or state.events != events:
        return Training(events)
    if isinstance(state, Stalled):
        return state
    idle = state.idle + min(elapsed, LONGEST_GAP)
    return Stalled(events) if idle >= limit else Training(events, idle)


class StallDetector:
    """Observes one training, and reports each stall once, until the training goes on.

    Args:
        limit: seconds without an event after which a training has stalled.
        clock: returns the present time in seconds, as time.monotonic() does.
    """

    def __init__(self, limit: float, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._state: State = NotTraining()
        self._observed = clock()

    def has_just_stalled(self, events: int | None) -> bool:
        """Observe the training; return True if this observation makes it a stalled one.

        Args:
            events: as for `next_state`.
        """
        before, now = self._state, self._clock()
        self._state = next_state(before, events, now - self._observed, self._limit)
        self._observed = now
        return isinstance(self._state, Stalled) and self._state != before
