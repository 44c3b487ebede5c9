"""What the parts of keepfit share within one process: the notice, and the runs it works on.

The runner makes a session around the script; under plain `python train.py` the first Resumable
makes one, which ends with the process.
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
    from keepfit.callbacks.checkpoint.prefetch import CheckpointPrefetcher
    from keepfit.callbacks.run import Run

LOSS_WARNING = 2.0
"""Seconds before the last moment at which a save could begin, so that the log can still say so."""


@dataclass(frozen=True)
class Notice:
    """A warning that this process has to go.

    Attributes:
        source: what it came from, as people know it: "SIGTERM".
        deadline: when the process is gone at the latest, as time.monotonic() counts, if known.
        training_allowed: the time until the deadline may be used for training.
        hold_until_deadline: the process is better not gone before the deadline.
    """

    source: str
    deadline: float | None = None
    training_allowed: bool = False
    hold_until_deadline: bool = False

    def merge(self, later: Notice) -> Notice:
        """What both together say: the earlier deadline, and no more time than either leaves."""
        known = [n.deadline for n in (self, later) if n.deadline is not None]
        presses = self.training_allowed and not later.training_allowed
        return Notice(
            source=later.source if presses else self.source,
            deadline=min(known, default=None),
            training_allowed=self.training_allowed and later.training_allowed,
            hold_until_deadline=self.hold_until_deadline and later.hold_until_deadline,
        )


class Session:
    """One process at work. Signal handlers and watchers give notice, the training thread reads it.

    What they write is a flag, or appended to a list: nobody waits for a lock, which a signal
    handler might have interrupted.
    """

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], Run] = {}
        self._prefetcher: CheckpointPrefetcher | None = None
        self._notices: list[Notice] = []
        self._save_requested = False
        self._training = 0
        self._leaving = False

    @property
    def notice(self) -> Notice | None:
        """What all notices together say; none of them can move the deadline later."""
        return functools.reduce(Notice.merge, self._notices) if self._notices else None

    def deadline(self) -> float | None:
        """When this process is gone, as far as that is known."""
        notice = self.notice
        return notice.deadline if notice else None

    def give_notice(self, notice: Notice) -> None:
        """Does nothing else, so that a signal handler may call it."""
        self._notices.append(notice)

    def request_save(self) -> None:
        """Have a checkpoint made at the next batch; training goes on."""
        self._save_requested = True

    @property
    def save_requested(self) -> bool:
        """Whether somebody waits for a checkpoint."""
        return self._save_requested

    def clear_save_request(self) -> None:
        """A checkpoint of this moment is on its way."""
        self._save_requested = False

    def begin_final_save(self) -> None:
        """Training has stopped for good; what follows is its last save."""
        self._leaving = True

    @property
    def uncommitted_steps(self) -> int:
        """Batches that have been trained and are in no checkpoint."""
        return sum(run.uncommitted_steps for run in tuple(self._runs.values()))

    def will_lose_steps(self, now: float) -> bool:
        """Whether batches are at stake, as the one under way leaves no time for another save.

        Any thread may ask.
        """
        deadline = self.deadline()
        if deadline is None or self._leaving or not self._training or not self.uncommitted_steps:
            return False
        saving = max(run.save_seconds for run in tuple(self._runs.values()))
        return deadline - now < saving + LOSS_WARNING

    @property
    def training(self) -> bool:
        """Whether a `fit` is under way that will act on a notice.

        A fit that an error has ended told nobody, so the stack is asked as well.
        """
        return self._training > 0 and _within_fit()

    @property
    def used(self) -> bool:
        """Whether the script has used a Resumable at all."""
        return bool(self._runs)

    @property
    def unsaved(self) -> bool:
        """Whether the final state of some run could not be saved."""
        return any(run.unsaved for run in self._runs.values())

    def start_prefetch(self, settings: Settings) -> None:
        """Begin to read what the run that `settings` name will go on from, if it does."""
        from keepfit.callbacks.checkpoint.prefetch import CheckpointPrefetcher

        if not settings.starts_fresh:
            self._prefetcher = CheckpointPrefetcher(settings.store, settings.run, self.deadline)

    def run(self, settings: Settings) -> Run:
        """The run that `settings` name, claimed for this process at first use."""
        from keepfit.callbacks.run import Run  # brings TensorFlow, which the runner can do without

        key = (settings.store, settings.run)
        if key not in self._runs:
            prefetcher = self._prefetcher
            mine = prefetcher if prefetcher and (prefetcher.uri, prefetcher.run) == key else None
            self._runs[key] = Run.claim(settings, self.deadline, mine)
        return self._runs[key]

    def enter_training(self) -> None:
        self._training += 1

    def leave_training(self) -> None:
        self._training -= 1

    def close(self) -> None:
        """Finish what is being saved."""
        for run in self._runs.values():
            run.close()
        if self._prefetcher:
            self._prefetcher.close()


def _within_fit() -> bool:
    """Whether the calling code, or what a signal interrupted, was called by a Keras fit."""
    frame: FrameType | None = sys._getframe()
    while frame:
        if frame.f_code.co_name == "fit" and frame.f_globals["__name__"].startswith("keras."):
            return True
        frame = frame.f_back
    return False


_current: ContextVar[Session | None] = ContextVar("keepfit_session", default=None)


def current() -> Session:
    """The session of this process; made, and closed at exit, where no runner has made one."""
    session = _current.get()
    if session is None:
        session = Session()
        atexit.register(session.close)
        _current.set(session)
    return session


@contextmanager
def open_session() -> Iterator[Session]:
    """A new session, current until the block ends."""
    session = Session()
    token = _current.set(session)
    try:
        yield session
    finally:
        _current.reset(token)
        session.close()
