"""Notices that this process will end: its state, and the rule by which training stops for them.

A machine whose end is known, two minutes ahead on EC2, is useful until then. A save is requested at
once, training continues, and the last save starts when there is just enough time left for it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from keepfit.callbacks import events
from keepfit.callbacks.errors import AttemptEnded, LimitReached, Preempted
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()

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


@dataclass(frozen=True)
class Notice:
    """A warning that this process has to end.

    Attributes:
        source: the source of the notice, as users know it: "SIGTERM".
        deadline: when the process ends at the latest, in time.monotonic(); None if unknown.
        training_allowed: the time until the deadline may be used for training.
        hold_until_deadline: the process should not exit before the deadline.
        limit: the run has used what it may, so that no attempt is to follow.
        received: when it came, in time.monotonic().
    """

    source: str
    deadline: float | None = None
    training_allowed: bool = False
    hold_until_deadline: bool = False
    limit: bool = False
    received: float = field(default_factory=time.monotonic, compare=False)

    def merge(self, later: Notice) -> Notice:
        """Merge two notices: the earliest deadline wins; training continues only if both allow it.

        The same holds for `hold_until_deadline`. The source is the first notice's, unless only the
        later one forbids training, or is a limit.
        """
        deadlines = [n.deadline for n in (self, later) if n.deadline is not None]
        is_stricter = (self.training_allowed and not later.training_allowed) or (
            later.limit and not self.limit
        )
        return Notice(
            source=later.source if is_stricter else self.source,
            deadline=min(deadlines, default=None),
            training_allowed=self.training_allowed and later.training_allowed,
            hold_until_deadline=self.hold_until_deadline and later.hold_until_deadline,
            limit=self.limit or later.limit,
            received=self.received,
        )


def end_by(notice: Notice | None, step: int | None = None, *, saved: bool = True) -> Preempted:
    """Return the exception by which an attempt ends because of its merged notice.

    A limit that is reached decides, whichever notice came first: a further attempt would train
    nothing, so none is to be started.
    """
    kind = LimitReached if notice and notice.limit else Preempted
    return kind(step, saved=saved)


class RunningFit(Protocol):
    """A call of `fit` in some thread of this process."""

    def is_running(self) -> bool:
        """Return True until the call has returned or has been left by an exception."""


class PreemptionState:
    """The notices that this process has received, and how its fits have reacted to them.

    A process has one, whatever its threads do. Signal handlers and watchers write, training reads.
    They write by setting a flag or appending to a list, which is atomic: a lock could deadlock,
    since a signal handler may have interrupted the thread that holds it.
    """

    def __init__(self) -> None:
        self._notices: list[Notice] = []
        self._save_requested = False
        self._fits: list[RunningFit] = []
        self._final_save_begun = False
        self._end: AttemptEnded | None = None
        self._on_preemption: Callable[[], None] = no_action

    @property
    def notice(self) -> Notice | None:
        """All notices merged, or None; a further one can never move the deadline later."""
        notices = tuple(self._notices)
        return functools.reduce(Notice.merge, notices) if notices else None

    @property
    def received(self) -> tuple[Notice, ...]:
        """All notices, in the order in which they came; a signal is given twice."""
        return tuple(self._notices)

    @property
    def ends_process(self) -> bool:
        """True if a notice other than a limit of the run has come: it ends the script, too.

        A limit ends training only. A script that trains no more comes to its own end after it.
        """
        return any(not notice.limit for notice in tuple(self._notices))

    def deadline(self) -> float | None:
        """Return when this process ends, in time.monotonic(), or None if unknown."""
        notice = self.notice
        return notice.deadline if notice else None

    def give_notice(self, notice: Notice) -> None:
        """Add a notice. This does nothing else, so that a signal handler may call it."""
        self._notices.append(notice)

    @property
    def save_requested(self) -> bool:
        """True if a save has been requested and not been started yet."""
        return self._save_requested

    def request_save(self) -> None:
        """Request a save at the next batch boundary, after which training continues."""
        self._save_requested = True

    def clear_save_request(self) -> None:
        """Clear the request: a save of this moment is under way."""
        self._save_requested = False

    @property
    def training(self) -> bool:
        """True if a fit is under way, in any thread, that will act on a notice."""
        return any(fit.is_running() for fit in tuple(self._fits))

    def check(self) -> None:
        """Check that a fit may begin.

        Raises:
            Preempted: a notice has ended the attempt, whatever the script has made of that.
        """
        if isinstance(self._end, Preempted):
            raise type(self._end)

    def fit_begins(self, fit: RunningFit) -> None:
        """Record that a fit has started that will act on a notice."""
        self._fits.append(fit)
        for other in tuple(self._fits):
            if not other.is_running():  # an exception of the script has ended it
                self.fit_ends(other)

    def fit_ends(self, fit: RunningFit) -> None:
        """Record that the fit has ended, or will no longer act on a notice."""
        with suppress(ValueError):  # another thread has removed it
            self._fits.remove(fit)

    @property
    def final_save_begun(self) -> bool:
        """True if training has stopped for good; its last save has begun or is done."""
        return self._final_save_begun

    def begin_final_save(self) -> None:
        """Record that training has stopped for good, and that its last save follows."""
        self._final_save_begun = True

    @property
    def end(self) -> AttemptEnded | None:
        """The exception by which keepfit has ended the attempt, or None.

        It decides the exit code, whatever the script does with the exception.
        """
        return self._end

    @contextmanager
    def recording_end(self) -> Iterator[None]:
        """Record the first exception by which keepfit ends the attempt within the block."""
        try:
            yield
        except AttemptEnded as error:
            self.record_end(error)
            raise

    def end_of_attempt(self, step: int | None = None, *, saved: bool = True) -> Preempted:
        """Return the exception by which the notices so far end the attempt; see Preempted."""
        return end_by(self.notice, step, saved=saved)

    def record_end(self, error: AttemptEnded) -> None:
        """Record that keepfit ends the attempt by `error`.

        A preemption overrides other reasons, except that a limit is reached.
        """
        preempted = isinstance(error, Preempted)
        if self._end is None or (preempted and not isinstance(self._end, LimitReached)):
            self._end = error
        if preempted:
            self._on_preemption()

    def on_preemption(self, action: Callable[[], None]) -> None:
        """Call `action` when a notice has ended the attempt, in whichever thread."""
        self._on_preemption = action


def no_action() -> None:
    """Do nothing: no other thread has to learn that the attempt ends."""


class PreemptionPolicy:
    """Applies `must_leave` at the boundaries of one `fit`.

    Args:
        clock: returns the present time in seconds, as time.monotonic() does.
    """

    def __init__(self, state: PreemptionState, clock: Callable[[], float]) -> None:
        self._state = state
        self._clock = clock
        self._boundary = clock()
        self._interval = 0.0

    def observe_boundary(self) -> None:
        """Record a boundary; to be called once at each."""
        before, self._boundary = self._boundary, self._clock()
        self._interval = self._boundary - before

    def must_exit(self, save_seconds: float) -> bool:
        """Return whether training stops at the boundary that was observed last.

        Args:
            save_seconds: seconds that a save takes.
        """
        notice = self._state.notice
        if notice is None:
            return False
        return must_leave(
            notice,
            self._boundary,
            save_seconds=save_seconds,
            boundary_interval=self._interval,
        )


_process_state = PreemptionState()


def current() -> PreemptionState:
    """Return the state of this process."""
    return _process_state


@contextmanager
def new_state() -> Iterator[PreemptionState]:
    """Give this process a new state until the block ends."""
    global _process_state  # a process has one set of signals, and one end
    previous, _process_state = _process_state, PreemptionState()
    try:
        yield _process_state
    finally:
        _process_state = previous
