"""SIGTERM and SIGINT as notices.

A handler only sets a flag: saving from within one would meet TensorFlow in any state. Training
acts on the flag at its next batch. Outside training nothing would, so there the process ends.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

from callbacks import events
from callbacks.errors import Preempted
from callbacks.session import Notice, Session

TRAPPED = (signal.SIGTERM, signal.SIGINT)
EXIT_AT_ONCE = 128 + signal.SIGINT
REACTIONS: dict[int, str] = {
    signal.SIGTERM: "save at the next batch and leave",
    signal.SIGINT: "save at the next batch and leave; Ctrl-C again leaves at once",
}

GRACE: dict[int, float] = {signal.SIGTERM: 30.0}
"""Seconds until SIGKILL follows, unless told otherwise: docker stop has 10, but ECS, AWS Batch and
Kubernetes have 30."""

log = structlog.get_logger("keepfit")


@contextmanager
def trapped(session: Session) -> Iterator[None]:
    """Turn the signals into notices to `session` until the block ends.

    A second SIGINT ends the process at once, whatever it is doing.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        grace = GRACE.get(number)
        deadline = None if grace is None else time.monotonic() + grace
        session.give_notice(Notice(signal.Signals(number).name, deadline))
        if not session.training:
            raise Preempted

    with _watched():
        previous = {number: signal.signal(number, handle) for number in TRAPPED}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@contextmanager
def _watched() -> Iterator[None]:
    """Answer signals on a thread of its own, at once.

    Python runs handlers on the main thread between two of its instructions, and that thread may be
    inside TensorFlow for as long as a batch takes. The wake-up descriptor is written immediately.
    """
    theirs, ours = socket.socketpair()
    ours.setblocking(False)
    watcher = threading.Thread(target=_watch, args=(theirs,), name="keepfit-signals", daemon=True)
    watcher.start()
    previous = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        ours.close()
        watcher.join()
        theirs.close()


def _watch(arrivals: socket.socket) -> None:
    """On the watcher's thread, until the other end is closed."""
    interrupts = 0
    while numbers := arrivals.recv(64):
        interrupts += numbers.count(signal.SIGINT)
        if interrupts > 1:
            os._exit(EXIT_AT_ONCE)
        for number in set(numbers) & set(TRAPPED):
            log.info(events.NOTICE, source=signal.Signals(number).name, reaction=REACTIONS[number])
