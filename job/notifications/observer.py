"""The interface of an observer of an attempt, whose methods the runner calls."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from keepfit.callbacks.engine.session import Session
from keepfit.job.notifications.notification import AttemptEnd


class AttemptObserver(Protocol):
    """Observes one attempt. No method may wait, or raise an error."""

    def watching(self, session: Session) -> AbstractContextManager[None]:
        """Watch the training of this session until the block ends."""

    def attempt_ends(self, end: AttemptEnd) -> None:
        """Called when it is known how the attempt ends, before it waits for anything else.

        Called once more, with a preemption, if a notice arrives after that.
        """
