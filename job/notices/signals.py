"""SIGTERM and SIGINT as notices, SIGUSR1 as a request to save.

A handler only sets a flag: saving from within one would meet TensorFlow in any state. Training
acts on the flag at its next batch. Outside training nothing would, so there the process ends.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.errors import Preempted
from keepfit.callbacks.session import Notice, Session

TRAPPED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
EXIT_AT_ONCE = 128 + signal.SIGINT
REACTIONS: dict[int, str] = {
    signal.SIGTERM: "save at the next batch and leave",
    signal.SIGINT: "save at the next batch and leave; Ctrl-C again leaves at once",
    signal.SIGUSR1: "save at the next batch and go on",
}

GRACE = 30.0
"""Seconds from SIGTERM to SIGKILL, unless told otherwise: docker stop has 10, but ECS, AWS Batch
and Kubernetes have 30."""

RESEND_SECONDS = 0.2
"""Seconds after which a signal is sent again whose handler has raised in vain."""

log = structlog.get_logger("keepfit")


@contextmanager
def trap_signals(session: Session, grace: float = GRACE) -> Iterator[None]:
    """Turn the signals into notices to `session` until the block ends.

    A second SIGINT ends the process at once, whatever it is doing.
    """

    def give(number: int) -> None:
        """By the watcher at once, and by the handler, which must not depend on a thread."""
        if number == signal.SIGUSR1:
            session.request_save()
            return
        deadline = time.monotonic() + grace if number == signal.SIGTERM else None
        session.give_notice(Notice(signal.Signals(number).name, deadline))

    raised: list[int] = []
    lost: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        give(number)
        if number != signal.SIGUSR1 and not session.training:
            raised.append(number)
            raise Preempted

    with _signal_thread(give, lost), _record_dropped_exceptions(lost, raised):
        previous: dict[int, Any] = {n: signal.signal(n, handle) for n in TRAPPED_SIGNALS}
        ended = _reset_in_children(previous)
        try:
            yield
        finally:
            ended.set()
            for number, handler in previous.items():
                signal.signal(number, handler)


@contextmanager
def _record_dropped_exceptions(lost: list[int], raised: list[int]) -> Iterator[None]:
    """Note the signals whose exception Python drops: it was raised within some `__del__`."""
    previous = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, Preempted) and raised:
            lost.append(raised.pop())
        else:
            previous(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = previous


def _reset_in_children(previous: Mapping[int, Any]) -> threading.Event:
    """Worker processes that are forked from this one have no part in its notices.

    SIGTERM ends them, as multiprocessing expects when it closes a pool. SIGINT and SIGUSR1 often
    come to all processes of a group, and it is for this one to act on them: they go on working.

    Returns:
        To be set when the signals are no longer trapped.
    """
    ended = threading.Event()

    def in_child() -> None:
        if ended.is_set():
            return
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, previous[signal.SIGTERM])
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    os.register_at_fork(after_in_child=in_child)
    return ended


@contextmanager
def _signal_thread(give: Callable[[int], None], lost: list[int]) -> Iterator[None]:
    """Answer signals on a thread of its own, at once.

    Python runs handlers on the main thread between two of its instructions, and that thread may be
    inside TensorFlow for as long as a batch takes. The wake-up descriptor is written immediately.
    """
    theirs, ours = socket.socketpair()
    ours.setblocking(False)
    watcher = threading.Thread(
        target=_handle_arrivals, args=(theirs, give, lost), name="keepfit-signals", daemon=True
    )
    watcher.start()
    previous = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        # Not `close`: a worker process that was forked meanwhile holds the descriptor as well.
        ours.shutdown(socket.SHUT_RDWR)
        watcher.join()
        ours.close()
        theirs.close()


def _handle_arrivals(arrivals: socket.socket, give: Callable[[int], None], lost: list[int]) -> None:
    """On the watcher's thread, until the other end is closed."""
    interrupts = 0
    sent_again: list[int] = []
    while True:
        try:
            numbers = arrivals.recv(64)
        except TimeoutError:
            while lost:
                sent_again.append(lost.pop())
                signal.pthread_kill(_main_thread(), sent_again[-1])
            continue
        if not numbers:
            return
        arrivals.settimeout(RESEND_SECONDS)
        for number in numbers:
            if number in sent_again:
                sent_again.remove(number)
                continue
            interrupts += number == signal.SIGINT
            if interrupts > 1:
                os._exit(EXIT_AT_ONCE)
            if number in TRAPPED_SIGNALS:
                if number != signal.SIGUSR1:  # its handler asks, once
                    give(number)
                name = signal.Signals(number).name
                log.info(events.NOTICE, source=name, reaction=REACTIONS[number])


def _main_thread() -> int:
    return threading.main_thread().ident or 0
