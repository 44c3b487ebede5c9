"""The state that keepfit's parts share within one process: its notices and its runs.

The runner opens a session around the script; under plain `python train.py` the first Resumable
creates one, which ends with the process.
"""

from __future__ import annotations

import atexit
import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from keepfit.callbacks.settings import Settings

if TYPE_CHECKING:
    from keepfit.callbacks.engine.prefetch import CheckpointPrefetcher
    from keepfit.callbacks.engine.run import Run

LOSS_WARNING = 2.0
"""Seconds before the last possible start of a save: early enough to log that work will be lost."""


@dataclass(frozen=True)
class Notice:
    """A warning that this process has to end.

    Attributes:
        source: the source of the notice, as users know it: "SIGTERM".
        deadline: when the process ends at the latest, in time.monotonic(); None if unknown.
        training_allowed: the time until the deadline may be used for training.
        hold_until_deadline: the process should not exit before the deadline.
    """

    source: str
    deadline: float | None = None
    training_allowed: bool = False
    hold_until_deadline: bool = False

    def merge(self, later: Notice) -> Notice:
        """Merge two notices: the earliest deadline wins; training continues only if both allow it.

        The same holds for `hold_until_deadline`. The source is the first notice's, unless only the
        later one forbids training.
        """
        deadlines = [n.deadline for n in (self, later) if n.deadline is not None]
        is_stricter = self.training_allowed and not later.training_allowed
        return Notice(
            source=later.source if is_stricter else self.source,
            deadline=min(deadlines, default=None),
            training_allowed=self.training_allowed and later.training_allowed,
            hold_until_deadline=self.hold_until_deadline and later.hold_until_deadline,
        )


class Session:
    """The shared state of one process: signal handlers and watchers write, the training reads.

    They write by setting a flag or appending to a list: a lock could deadlock, since a signal
    handler may have interrupted the thread that holds it.
    """

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], Run] = {}
        self._prefetcher: CheckpointPrefetcher | None = None
        self._notices: list[Notice] = []
        self._save_requested = False
        self._training = 0
        self._final_save_begun = False

    @property
    def notice(self) -> Notice | None:
        """All notices merged, or None; a further one can never move the deadline later."""
        return functools.reduce(Notice.merge, self._notices) if self._notices else None

    def deadline(self) -> float | None:
        """Return when this process ends, in time.monotonic(), or None if unknown."""
        notice = self.notice
        return notice.deadline if notice else None

    def give_notice(self, notice: Notice) -> None:
        """Add a notice. This does nothing else, so that a signal handler may call it."""
        self._notices.append(notice)

    def request_save(self) -> None:
        """Request a save at the next batch boundary, after which training continues."""
        self._save_requested = True

    @property
    def save_requested(self) -> bool:
        """True if a save has been requested and not been started yet."""
        return self._save_requested

    def clear_save_request(self) -> None:
        """Clear the request: a save of this moment is under way."""
        self._save_requested = False

    def begin_final_save(self) -> None:
        """Record that training has stopped for good, and that its last save follows."""
        self._final_save_begun = True

    @property
    def uncommitted_steps(self) -> int:
        """Number of batches that have been trained and are in no checkpoint."""
        return sum(run.uncommitted_steps for run in tuple(self._runs.values()))

    def will_lose_steps(self, now: float) -> bool:
        """Return whether uncommitted steps will be lost: it is too late for another save.

        This happens if the batch under way does not end in time. Any thread may call it.

        Args:
            now: the present time of time.monotonic().
        """
        deadline = self.deadline()
        if deadline is None or self._final_save_begun or not self._training:
            return False
        if not self.uncommitted_steps:
            return False
        save_seconds = max(run.save_seconds for run in tuple(self._runs.values()))
        return deadline - now < save_seconds + LOSS_WARNING

    @property
    def training(self) -> bool:
        """True if a `fit` is under way that will act on a notice.

        A fit that ends in an error does not call `leave_training`, so the stack is checked too.
        """
        return self._training > 0 and _within_fit()

    @property
    def used(self) -> bool:
        """True if a fit of the script has used Resumable."""
        return bool(self._runs)

    @property
    def unsaved(self) -> bool:
        """True if the final state of a run could not be saved."""
        return any(run.unsaved for run in self._runs.values())

    def start_prefetch(self, settings: Settings) -> None:
        """Start to read the checkpoint that the run in `settings` will continue from, if any."""
        from keepfit.callbacks.engine.prefetch import CheckpointPrefetcher

        if not settings.starts_fresh:
            self._prefetcher = CheckpointPrefetcher(settings.store, settings.run, self.deadline)

    def run(self, settings: Settings) -> Run:
        """Return the run that `settings` name; the first call claims it for this process."""
        from keepfit.callbacks.engine.run import (
            Run,  # imports TensorFlow, which the runner does not need
        )

        key = (settings.store, settings.run)
        if key not in self._runs:
            prefetcher = self._prefetcher
            reads_it = prefetcher and (prefetcher.uri, prefetcher.run) == key
            self._runs[key] = Run.claim(settings, self.deadline, prefetcher if reads_it else None)
        return self._runs[key]

    def enter_training(self) -> None:
        """Record that a `fit` has started that will act on a notice."""
        self._training += 1

    def leave_training(self) -> None:
        """Record that such a `fit` has ended, or will no longer act on a notice."""
        self._training -= 1

    def close(self) -> None:
        """Finish the saves that are being written, and close the runs."""
        for run in self._runs.values():
            run.close()
        if self._prefetcher:
            self._prefetcher.close()


def _within_fit() -> bool:
    """Return whether the calling code, or code that a signal interrupted, runs in a Keras fit."""
    frame: FrameType | None = sys._getframe()
    while frame:
        if frame.f_code.co_name == "fit" and frame.f_globals["__name__"].startswith("keras."):
            return True
        frame = frame.f_back
    return False


_current: ContextVar[Session | None] = ContextVar("keepfit_session", default=None)


def current() -> Session:
    """Return the session of this process; without a runner, create it, and close it at exit."""
    session = _current.get()
    if session is None:
        session = Session()
        atexit.register(session.close)
        _current.set(session)
    return session


@contextmanager
def open_session() -> Iterator[Session]:
    """Open a new session, which is the current one until the block ends."""
    session = Session()
    token = _current.set(session)
    try:
        yield session
    finally:
        _current.reset(token)
        session.close()
