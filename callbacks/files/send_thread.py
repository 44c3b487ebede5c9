"""The thread of one callback that sends files or reports, so that training never waits for them."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from tenacity import (
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_delay,
    stop_any,
    stop_when_event_set,
)

from keepfit.callbacks import events
from keepfit.callbacks.backoff import Backoff
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.masking import mask_urls

log = get_logger()

RETRY_SECONDS = 60.0
"""Seconds for all tries of one job together."""

Job = Callable[[], None]


class NotSent(Exception):
    """The job could not be done now; it is tried again with the next job."""


class SendThread:
    """A thread that does one job after another. `finish` is the only way to stop it.

    Of several jobs with one name, only the newest is done. The thread starts with the first job. It
    is a daemon: the end of the process does not wait for it, whatever its job waits for.

    Attributes:
        abandoned: set when the results of all jobs have become useless; a long job checks it.
    """

    def __init__(self, name: str) -> None:
        self.abandoned = threading.Event()
        self._changed = threading.Condition()
        self._waiting: dict[str, Job] = {}
        self._failed: dict[str, Job] = {}
        self._current: str | None = None
        self._finishing = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def add(self, name: str, job: Job, before: Job | None = None) -> None:
        """Have the job done, in place of a waiting one of the same name.

        Args:
            before: called at once, while no job can end; it must be quick.
        """
        with self._changed:
            if before:
                before()
            self._failed.pop(name, None)
            self._waiting[name] = job
            self._waiting |= self._failed
            self._failed.clear()
            if self._thread.ident is None:
                self._thread.start()
            self._changed.notify_all()

    def unless_replaced(self, name: str, action: Job) -> None:
        """Call `action`, unless a newer job of this name waits, or the thread is abandoned."""
        with self._changed:
            if name not in self._waiting and not self.abandoned.is_set():
                action()

    def finish(self, seconds: float | None) -> Sequence[str]:
        """Wait until all jobs are done, and stop the thread. Return the names of those not done.

        Args:
            seconds: how long to wait; None for as long as the jobs take. A job that is under way
                then is abandoned: its thread ends with it, or with the process.
        """
        with self._changed:
            self._waiting |= self._failed
            self._failed.clear()
            self._finishing = True
            self._changed.notify_all()
            if self._thread.ident is not None:
                self._changed.wait_for(lambda: not self._waiting and self._current is None, seconds)
            current = () if self._current is None else (self._current,)
            left = tuple(dict.fromkeys((*current, *self._waiting, *self._failed)))
            self.abandoned.set()
            self._waiting.clear()
            self._failed.clear()
        return left

    def join(self, seconds: float) -> bool:
        """Wait for the end of the thread after `finish`. Return whether it has ended."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while next_job := self._next():
            name, job = next_job
            failed = False
            try:
                job()
            except NotSent:
                failed = True
            except Exception as error:  # noqa: BLE001 # no error of a side channel ends training
                log.error(
                    events.SEND_FAILED,
                    name=name,
                    reason=mask_urls(f"{type(error).__name__}: {error}"),
                    fix="training continues without it; please report this",
                )
            with self._changed:
                self._current = None
                if failed and name not in self._waiting and not self.abandoned.is_set():
                    self._failed[name] = job
                self._changed.notify_all()

    def _next(self) -> tuple[str, Job] | None:
        """Wait for the next job; return None when the thread has to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._finishing)
            if not self._waiting:
                return None
            self._current = next(iter(self._waiting))
            return self._current, self._waiting.pop(self._current)


def retrying(abandoned: threading.Event, is_transient: Callable[[BaseException], bool]) -> Retrying:
    """Return the tries of one job, which end when it is done, given up or abandoned.

    Args:
        abandoned: that of the thread.
        is_transient: returns whether another try may succeed after this error.
    """
    return Retrying(
        retry=retry_if_exception(is_transient),
        stop=stop_any(stop_after_delay(RETRY_SECONDS), stop_when_event_set(abandoned)),
        sleep=sleep_using_event(abandoned),
        wait=Backoff(0.5, 8.0),
        reraise=True,
    )


class Sender(ABC):
    """An owner of a SendThread, which exists from the first job until `finish`."""

    def __init__(self) -> None:
        self._thread: SendThread | None = None
        self._deferred = False

    def defer(self) -> None:
        """Let `end_of_training` leave what is still to be sent to a later call of `finish`."""
        self._deferred = True

    def end_of_training(self) -> None:
        """Wait for what is still to be sent, unless it is deferred."""
        if not self._deferred:
            self.finish(None)

    @abstractmethod
    def finish(self, seconds: float | None) -> None:
        """Wait at most so long, log what has not been sent, and stop the thread.

        Args:
            seconds: None for as long as the limits of each request allow.
        """

    def finish_thread(self, seconds: float | None) -> Sequence[str]:
        """Stop the thread as SendThread.finish does; return the names of the jobs not done."""
        thread, self._thread = self._thread, None
        return thread.finish(seconds) if thread else ()
