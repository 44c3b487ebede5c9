"""The retries of S3 requests: with backoff, and never beyond the deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_before_delay,
)

from keepfit.callbacks import events
from keepfit.callbacks.backoff import Backoff
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import Transient
from keepfit.callbacks.storage.s3.errors import Expired

log = get_logger()

T = TypeVar("T")

RENEWALS = 2
"""Number of times that expired credentials are requested again."""


def no_deadline() -> float | None:
    """Return None: this process has no known deadline."""
    return None


@dataclass(frozen=True)
class RetryPolicy:
    """When to give up on S3.

    Attributes:
        seconds: limit for one operation, all its tries together.
        connect, read: limits in seconds for a connection, and for a server that sends nothing.
        longest_wait: the longest wait between two tries, in seconds.
        deadline: returns when this machine is gone, in the time of `clock`, or None if unknown.
    """

    seconds: float = 60.0
    connect: float = 10.0
    read: float = 20.0
    longest_wait: float = 8.0
    deadline: Callable[[], float | None] = no_deadline
    clock: Callable[[], float] = time.monotonic

    def call(self, action: Callable[[int], T], on_expired: Callable[[], None]) -> T:
        """Call `action` until it succeeds or the policy gives up; return its result.

        Args:
            action: called with the number of the try, from 1; may raise Transient, and is then
                called again.
            on_expired: called before the next try if the credentials have expired.

        Raises:
            Transient: the last try's error, when the policy has given up.
        """

        def wait(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            log.warning(
                events.STORE_RETRY,
                reason=str(error),
                tries=state.attempt_number,
                seconds=round(state.upcoming_sleep, 2),
            )
            if isinstance(error, Expired):
                on_expired()

        retrying = Retrying(
            retry=retry_if_exception_type(Transient),
            wait=Backoff(0.2, self.longest_wait),
            stop=self._stop,
            before_sleep=wait,
            reraise=True,
        )
        for attempt in retrying:
            with attempt:
                return action(attempt.retry_state.attempt_number)
        raise AssertionError("tenacity ends with a result or the last error")

    def _stop(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Expired) and state.attempt_number > RENEWALS:
            return True
        deadline = self.deadline()
        if deadline is not None and self.clock() + state.upcoming_sleep >= deadline:
            return True
        return stop_before_delay(self.seconds)(state)
