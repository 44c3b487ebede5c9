"""SIGTERM and SIGINT as notices.

A handler only sets a flag: saving from within one would meet TensorFlow in any state. Training
acts on the flag at its next batch. Outside training nothing would, so there the process ends.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from callbacks.errors import Preempted
from callbacks.session import Notice, Session

TRAPPED = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def trapped(session: Session) -> Iterator[None]:
    """Turn the signals into notices to `session` until the block ends.

    A second SIGINT is left to the system, which ends the process at once.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        session.give_notice(Notice(signal.Signals(number).name))
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if not session.training:
            raise Preempted

    previous = {number: signal.signal(number, handle) for number in TRAPPED}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
