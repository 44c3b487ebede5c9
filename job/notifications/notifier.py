"""Observes an attempt: its notifications, and the log line `stalled`."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from keepfit.callbacks import events
from keepfit.callbacks.engine.run_progress import RunProgress, TrainingPosition
from keepfit.callbacks.engine.session import Session
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.runner_settings import NotificationSettings
from keepfit.job.notifications.notification import AttemptEnd, Kind, Notification
from keepfit.job.notifications.sender import END_SECONDS, NotificationSender
from keepfit.job.notifications.stall import StallDetector

log = get_logger()

CHECK_INTERVAL: Final = 1.0
"""Seconds between two checks, each of which costs some microseconds."""

EXIT_MARGIN: Final = 1.0
"""Seconds before the deadline of a preempted process that are left for its exit."""


class AttemptNotifier:
    """Sends the notifications of one attempt; an AttemptObserver.

    A thread checks each second whether the run has resumed, and whether it has stalled.

    Args:
        run: the name of the run until a fit has claimed one.
        clock: returns the present time in seconds, as time.monotonic() does.
        now: returns the present time in UTC.
    """

    def __init__(
        self,
        settings: NotificationSettings,
        run: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        every: float = CHECK_INTERVAL,
    ) -> None:
        self._sender = NotificationSender(settings.urls)
        self._run = run
        self._clock = clock
        self._now = now
        self._every = every
        self._stalled_after = settings.stalled_after
        self._detector = StallDetector(settings.stalled_seconds, clock)
        self._session: Session | None = None
        self._resumed: set[str] = set()
        self._sent_end: Kind | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="keepfit-progress", daemon=True)

    @contextmanager
    def watching(self, session: Session) -> Iterator[None]:
        """Check each second until the block ends, or the attempt."""
        self._session = session
        self._thread.start()
        try:
            yield
        finally:
            self._stop_watching()

    def check(self) -> None:
        """Notify that the run has resumed or stalled, if it has since the last check."""
        runs = self._session.progress if self._session else ()
        for run in runs:
            if run.has_resumed and run.run not in self._resumed:
                self._resumed.add(run.run)
                self._send(Kind.RESUMED, run, run.resumed_from)
        training = self._session is not None and self._session.preemption.training
        done = sum(run.events for run in runs) if training else None
        if self._detector.has_just_stalled(done):
            self._report_stall(runs)

    def attempt_ends(self, end: AttemptEnd) -> None:
        """Send the notification of the end, and that of a start that no check has seen yet."""
        if self._sent_end is end.kind:
            return
        if self._sent_end is None:
            self._stop_watching()
            self.check()
        self._sent_end = end.kind
        runs = self._session.progress if self._session else ()
        newest = runs[-1] if runs else None
        self._send(end.kind, newest, reason=end.reason, exit_code=end.code)

    def close(self) -> None:
        """Wait for what is still to be sent: END_SECONDS at most, less if a deadline is near."""
        deadline = self._session.preemption.deadline() if self._session else None
        left = END_SECONDS if deadline is None else deadline - EXIT_MARGIN - self._clock()
        self._sender.finish(max(0.0, min(END_SECONDS, left)))

    def _stop_watching(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(self._every):
            self.check()

    def _report_stall(self, runs: tuple[RunProgress, ...]) -> None:
        newest = runs[-1] if runs else None
        reason = f"no batch for {self._stalled_after}, though a fit is under way"
        log.warning(
            events.STALLED,
            run=newest.run if newest else self._run,
            step=newest.position.step if newest else None,
            reason=reason,
            fix="look for input that waits, or a callback that takes long; if this is normal, "
            "--stalled-after allows more",
        )
        self._send(Kind.STALLED, newest, reason=reason)

    def _send(
        self,
        kind: Kind,
        run: RunProgress | None,
        at: TrainingPosition | None = None,
        *,
        reason: str | None = None,
        exit_code: int | None = None,
    ) -> None:
        """Send a notification.

        Args:
            at: the position that it names; that of the run by default.
        """
        position = at or (run.position if run else None)
        self._sender.send(
            Notification(
                event=kind,
                run=run.run if run else self._run,
                attempt=run.attempt if run else None,
                step=position.step if position else None,
                epoch=position.epoch if position else None,
                time=self._now(),
                host=socket.gethostname(),
                reason=reason,
                exit_code=exit_code,
            )
        )


@contextmanager
def notifier(settings: NotificationSettings, run: str) -> Iterator[AttemptNotifier]:
    """Return a notifier for the attempt within the block; wait for it briefly at the end."""
    made = AttemptNotifier(settings, run)
    try:
        yield made
    finally:
        made.close()
