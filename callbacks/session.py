"""What the parts of keepfit share within one process: the notice, and the runs it works on.

The runner makes a session around the script; under plain `python train.py` the first Resumable
makes one, which ends with the process.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from callbacks.settings import Settings

if TYPE_CHECKING:
    from callbacks.run import Run


@dataclass(frozen=True)
class Notice:
    """A warning that this process has to go.

    Attributes:
        source: what it came from, as people know it: "SIGTERM".
        deadline: when the process is gone at the latest, as time.monotonic() counts, if known.
    """

    source: str
    deadline: float | None = None


class Session:
    """One process at work. The signal handlers write the notice, the training thread reads it."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], Run] = {}
        self._notice: Notice | None = None
        self._save_asked = False
        self._training = 0

    @property
    def notice(self) -> Notice | None:
        return self._notice

    def deadline(self) -> float | None:
        """When this process is gone, as far as that is known."""
        return self._notice.deadline if self._notice else None

    def give_notice(self, notice: Notice) -> None:
        """Latch the first notice. Does nothing else, so that a signal handler may call it."""
        if self._notice is None:
            self._notice = notice

    def ask_for_save(self) -> None:
        """Have a checkpoint made at the next batch; training goes on."""
        self._save_asked = True

    @property
    def save_asked(self) -> bool:
        """Whether somebody waits for a checkpoint."""
        return self._save_asked

    def answer_save_request(self) -> None:
        """A checkpoint of this moment is on its way."""
        self._save_asked = False

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

    def run(self, settings: Settings) -> Run:
        """The run that `settings` name, claimed for this process at first use."""
        from callbacks.run import Run  # brings TensorFlow, which the runner can do without

        key = (settings.store, settings.run)
        if key not in self._runs:
            self._runs[key] = Run.claim(settings, self.deadline)
        return self._runs[key]

    def enter_training(self) -> None:
        self._training += 1

    def leave_training(self) -> None:
        self._training -= 1

    def close(self) -> None:
        """Finish what is being saved."""
        for run in self._runs.values():
            run.close()


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
def opened() -> Iterator[Session]:
    """A new session, current until the block ends."""
    session = Session()
    token = _current.set(session)
    try:
        yield session
    finally:
        _current.reset(token)
        session.close()
