"""The runs of this process, with the notices that concern them.

What a run needs is imported when the first one is opened: a script may have none.

The runner opens a session around the script; under plain `python train.py` the first Resumable
creates one, which ends with the process.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.keys import head_key
from keepfit.callbacks.engine import preemption
from keepfit.callbacks.engine.admission import Admission, admit_all
from keepfit.callbacks.engine.preemption import PreemptionState
from keepfit.callbacks.errors import (
    AttemptEnded,
    Cancelled,
    Fenced,
    LimitReached,
    Preempted,
    StoreUnreachable,
)
from keepfit.callbacks.journal.terms import Activity, ProcessEnd, Reason
from keepfit.callbacks.logs.logger import get_logger

if TYPE_CHECKING:
    from keepfit.callbacks.engine.prefetch import CheckpointPrefetcher
    from keepfit.callbacks.engine.run import Run
    from keepfit.callbacks.engine.run_progress import RunProgress
    from keepfit.callbacks.journal.document import Machine
    from keepfit.callbacks.settings import Settings
    from keepfit.callbacks.storage.base import Store

LOSS_WARNING = 2.0
"""Seconds before the last possible start of a save: early enough to log that work will be lost."""


GOODPUT_SECONDS, GOODPUT_AT_NOTICE = 10.0, 0.5
"""Seconds for which the end of an attempt waits for the journals of the attempts before it."""

log = get_logger()


class Session:
    """The runs of one process, by store and name.

    Attributes:
        preemption: the notices that this process has received.
        machine: returns what is known of this machine by now.
        previous: how the process before this one has ended, if something has watched it.
        admit: checks the limits of a run before it is claimed.
    """

    def __init__(self, state: PreemptionState | None = None) -> None:
        self.preemption = state or PreemptionState()
        self.machine: Callable[[], Machine] = _unknown_machine
        self.previous: ProcessEnd | None = None
        self.admit: Admission = admit_all
        self._runs: dict[tuple[str, str], Run] = {}
        self._opening = threading.Lock()
        self._prefetcher: CheckpointPrefetcher | None = None

    def start_prefetch(self, settings: Settings) -> None:
        """Start to read the checkpoint that the run in `settings` will continue from, if any."""
        if not settings.starts_fresh and may_have_checkpoint(settings.store, settings.run):
            from keepfit.callbacks.engine.prefetch import CheckpointPrefetcher

            self._prefetcher = CheckpointPrefetcher(
                settings.store, settings.run, self.preemption.deadline
            )

    def run(self, settings: Settings) -> Run:
        """Return the run that `settings` name, opened on the first call.

        Raises:
            Refused: the store can't be used; the log says why.
        """
        key = (settings.store, settings.run)
        with self._opening:
            self._open(key, settings)
        return self._runs[key]

    def _open(self, key: tuple[str, str], settings: Settings) -> None:
        if key not in self._runs:
            from keepfit.callbacks.engine.run import Run
            from keepfit.callbacks.engine.run_journal import new_recorder

            prefetcher, self._prefetcher = self._prefetcher, None
            if prefetcher and (prefetcher.uri, prefetcher.run) != key:
                prefetcher.close()  # another run's checkpoint would only occupy memory
                prefetcher = None
            before = Activity.OTHER if self._runs else Activity.STARTUP
            recorder = new_recorder(self.preemption, before, lambda: self.machine())
            run = Run.open(settings, self.preemption, prefetcher, recorder, self.admit)
            run.journal.previous = self.previous
            self._runs[key] = run

    @property
    def used(self) -> bool:
        """True if a fit of the script has used Resumable."""
        return bool(self._runs)

    @property
    def unsaved(self) -> bool:
        """True if the final state of a run could not be saved."""
        return any(run.saves.unsaved for run in self._runs.values())

    @property
    def reached_step(self) -> int | None:
        """Number of batches that have been trained in all runs; None if no fit was begun."""
        return sum(run.reached_step for run in self._opened()) if self._runs else None

    @property
    def progress(self) -> tuple[RunProgress, ...]:
        """The progress of each run, in the order in which they were opened."""
        return tuple(run.progress for run in self._opened())

    @property
    def uncommitted_steps(self) -> int:
        """Number of batches that have been trained and are in no checkpoint."""
        return sum(run.uncommitted_steps for run in self._opened())

    def will_lose_steps(self, now: float) -> bool:
        """Return whether uncommitted steps will be lost: it is too late for another save.

        This happens if the batch under way does not end in time. Any thread may call it.

        Args:
            now: the present time of time.monotonic().
        """
        deadline = self.preemption.deadline()
        if deadline is None or self.preemption.final_save_begun or not self.preemption.training:
            return False
        if not self.uncommitted_steps:
            return False
        save_seconds = max(run.saves.seconds for run in self._opened())
        return deadline - now < save_seconds + LOSS_WARNING

    def finish_saves(self) -> None:
        """Wait for the saves that are being written."""
        for run in self._opened():
            run.saves.wait()

    def script_ended(self, *, completed: bool) -> None:
        """Record in each run that the script has come to its own end.

        Args:
            completed: its exit code is 0.
        """
        for run in self._opened():
            run.script_ended(completed=completed)

    def ended(self, reason: Reason, exit_code: int | None, detail: str = "") -> None:
        """Record in the journal of each run why the attempt ends; see Run.ended."""
        for run in self._opened():
            run.ended(reason, exit_code, detail)

    def log_goodput(self) -> None:
        """Log the goodput of each run, as far as it is known; a preempted process waits little."""
        seconds = GOODPUT_AT_NOTICE if self.preemption.end else GOODPUT_SECONDS
        for run in self._opened():
            if goodput := run.journal.goodput(seconds):
                from keepfit.callbacks.journal.goodput_line import describe

                shares = goodput.parts.shares()
                log.info(
                    events.GOODPUT,
                    run=run.name,
                    line=describe(goodput),
                    **{name: round(share, 4) for name, share in shares.items()},
                )

    def claimed_runs(self) -> Iterator[tuple[Store, str]]:
        """Yield the store and the name of each run that this process has claimed.

        What is stored of them is complete: optional work that was under way is done.
        """
        for run in self._opened():
            if run.owned.claimed:
                run.owned.attempt.flush(None)
                yield run.owned.store, run.name

    def close(self) -> None:
        """Finish the saves that are being written, and close the runs."""
        for run in self._opened():
            run.close()
        if self._prefetcher:
            self._prefetcher.close()

    def _opened(self) -> tuple[Run, ...]:
        return tuple(self._runs.values())  # another thread may open one meanwhile


def may_have_checkpoint(store: str, run: str) -> bool:
    """Return False if a store in a directory has no such run; other stores are not asked here."""
    scheme, _, path = store.partition("://")
    return scheme != "file" or Path(path).expanduser().joinpath(head_key(run)).exists()


def reason_of(end: AttemptEnded | None, *, failed: bool) -> Reason:
    """Return why an attempt ends.

    Args:
        end: the exception by which keepfit has ended it, if it has.
        failed: the script has failed.
    """
    reasons: tuple[tuple[type[AttemptEnded], Reason], ...] = (
        (StoreUnreachable, Reason.UNREACHABLE),
        (LimitReached, Reason.LIMIT),
        (Preempted, Reason.PREEMPTED),
        (Fenced, Reason.FENCED),
        (Cancelled, Reason.CANCELLED),
    )
    if end is None:
        return Reason.FAILED if failed else Reason.FINISHED
    return next((reason for kind, reason in reasons if isinstance(end, kind)), Reason.REFUSED)


def _unknown_machine() -> Machine:
    """Return a machine of which nothing is known."""
    from keepfit.callbacks.journal.document import Machine

    return Machine()


_current: Session | None = None


def current() -> Session:
    """Return the session of this process; without a runner, create it, and close it at exit."""
    global _current  # it belongs to the process, as its signals do
    if _current is None:
        _current = Session(preemption.current())
        atexit.register(_end_with_process, _current)
    return _current


def _end_with_process(session: Session) -> None:
    """End a session as the runner does, at the end of an interpreter without one.

    What a script gives to sys.exit can't be found out here; an exception that ends it can.
    """
    has_failed = hasattr(sys, "last_exc") or hasattr(sys, "last_value")
    end = session.preemption.end
    if not end:
        session.script_ended(completed=not has_failed)
    session.ended(reason_of(end, failed=has_failed), exit_code=end.code if end else None)
    session.log_goodput()
    session.close()


@contextmanager
def open_session() -> Iterator[Session]:
    """Open a new session, which is the current one until the block ends."""
    global _current  # as above
    with preemption.new_state() as state:
        previous, _current = _current, Session(state)
        session = _current
        try:
            yield session
        finally:
            _current = previous
            session.close()
