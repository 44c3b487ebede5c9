"""SIGTERM, SIGINT and SIGHUP as notices, SIGUSR1 as a request to save.

A handler only sets a flag: a save from within one would find TensorFlow in any state. Training
acts on the flag at its next batch. Outside training nothing would, so there the process exits.
"""

from __future__ import annotations

import errno
import os
import queue
import signal
import socket
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from keepfit.callbacks import events
from keepfit.callbacks.engine.preemption import Notice, PreemptionState, no_action
from keepfit.callbacks.errors import Preempted
from keepfit.callbacks.logs.logger import get_logger

EXIT_AT_ONCE = 128 + signal.SIGINT
REACTIONS: dict[int, str] = {
    signal.SIGTERM: "save at the next batch and exit",
    signal.SIGINT: "save at the next batch and exit; a second Ctrl-C exits at once",
    signal.SIGHUP: "save at the next batch and exit",
    signal.SIGUSR1: "save at the next batch and continue",
}

GRACE = 30.0
"""Default seconds from SIGTERM to SIGKILL: docker stop leaves 10, but ECS, AWS Batch and Kubernetes
leave 30."""

RESEND_SECONDS = 0.2
"""Seconds after which a signal is sent again if its handler's exception was dropped."""

log = get_logger()


def trapped_signals() -> tuple[signal.Signals, ...]:
    """Return the signals to trap: SIGHUP only if it is not ignored, as it is under nohup."""
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    hangup = () if ignored else (signal.SIGHUP,)
    return (signal.SIGTERM, signal.SIGINT, *hangup, signal.SIGUSR1)


@contextmanager
def trap_signals(state: PreemptionState, grace: float = GRACE) -> Iterator[None]:
    """Turn the signals into notices until the block ends. Call it on the main thread.

    A second SIGINT ends the process at once, whatever it is doing.
    """

    def record(number: int) -> None:
        """Record a signal: on the thread at once, and in the handler, which needs no thread."""
        if number == signal.SIGUSR1:
            state.request_save()
            return
        if number == signal.SIGHUP:
            _detach_from_lost_terminal()
        deadline = time.monotonic() + grace if number == signal.SIGTERM else None
        state.give_notice(Notice(signal.Signals(number).name, deadline))

    raised: list[int] = []
    dropped: list[int] = []
    wake = _MainThreadWaker()

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if not wake.handled(number):
            record(number)
        if number != signal.SIGUSR1 and not state.training:
            raised.append(number)
            end = state.end_of_attempt()
            state.record_end(end)
            raise end

    with _signal_thread(record, dropped, wake), _record_dropped_exceptions(dropped, raised):
        previous: dict[int, Any] = {n: signal.signal(n, handle) for n in trapped_signals()}
        ended = _reset_in_children(previous)
        state.on_preemption(wake)
        try:
            yield
        finally:
            state.on_preemption(no_action)
            ended.set()
            for number, handler in previous.items():
                signal.signal(number, handler)


def _detach_from_lost_terminal() -> None:
    """Discard further output to a terminal that is gone: each write to it would raise an error."""
    for descriptor in (1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            if error.args[0] == errno.EIO:  # otherwise it is a file or a pipe
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, descriptor)
                os.close(null)


class _MainThreadWaker:
    """Interrupts the main thread when a fit in another thread was left because of a notice.

    The main thread may wait for that thread, or serve something else; only a signal reaches it. Its
    handler then raises Preempted there, unless other fits are still under way.
    """

    def __init__(self) -> None:
        self._for_handler: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._for_thread: queue.SimpleQueue[int] = queue.SimpleQueue()

    def __call__(self) -> None:
        """Send the signal, unless this is the main thread. Any thread may call it."""
        if threading.get_ident() != _main_thread():
            self._for_handler.put(signal.SIGTERM)
            self._for_thread.put(signal.SIGTERM)
            signal.pthread_kill(_main_thread(), signal.SIGTERM)

    def handled(self, number: int) -> bool:
        """Return True if the handler was called for a signal sent by this class."""
        return number == signal.SIGTERM and _take(self._for_handler)

    def arrived(self, number: int) -> bool:
        """Return True if the signal that has arrived on the signal thread was sent by it."""
        return number == signal.SIGTERM and _take(self._for_thread)


def _take(sent: queue.SimpleQueue[int]) -> bool:
    try:
        sent.get_nowait()
    except queue.Empty:
        return False
    return True


@contextmanager
def _record_dropped_exceptions(dropped: list[int], raised: list[int]) -> Iterator[None]:
    """Record the signals whose exception Python drops: it was raised within some `__del__`."""
    previous = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if isinstance(unraisable.exc_value, Preempted) and raised:
            dropped.append(raised.pop())
        else:
            previous(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = previous


def _reset_in_children(previous: Mapping[int, Any]) -> threading.Event:
    """Reset the handlers in forked worker processes, which take no part in this one's notices.

    SIGTERM ends them, as multiprocessing expects when it closes a pool. The others are often sent
    to all processes of a group, and this process alone acts on them: the workers continue.

    Returns:
        An event to set when the signals are no longer trapped.
    """
    ended = threading.Event()

    def in_child() -> None:
        if ended.is_set():
            return
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, previous[signal.SIGTERM])
        for number in previous.keys() - {signal.SIGTERM}:
            signal.signal(number, signal.SIG_IGN)

    os.register_at_fork(after_in_child=in_child)
    return ended


@contextmanager
def _signal_thread(
    record: Callable[[int], None], dropped: list[int], wake: _MainThreadWaker
) -> Iterator[None]:
    """Handle signals on a thread of its own, at once.

    Python runs handlers on the main thread between two of its instructions, and that thread may be
    inside TensorFlow for as long as a batch takes. The wake-up descriptor is written immediately.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    thread = threading.Thread(
        target=_handle_arrivals,
        args=(receiver, record, dropped, wake),
        name="keepfit-signals",
        daemon=True,
    )
    thread.start()
    previous = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        # Not `close`: a worker process that was forked meanwhile has the descriptor as well.
        sender.shutdown(socket.SHUT_RDWR)
        thread.join()
        sender.close()
        receiver.close()


def _handle_arrivals(
    receiver: socket.socket,
    record: Callable[[int], None],
    dropped: list[int],
    wake: _MainThreadWaker,
) -> None:
    """Handle signals on the signal thread, until the other end of the socket is shut down."""
    interrupts = 0
    sent_again: list[int] = []
    while True:
        try:
            numbers = receiver.recv(64)
        except TimeoutError:
            while dropped:
                sent_again.append(dropped.pop())
                signal.pthread_kill(_main_thread(), sent_again[-1])
            continue
        if not numbers:
            return
        receiver.settimeout(RESEND_SECONDS)
        for number in numbers:
            if number in sent_again:
                sent_again.remove(number)
                continue
            if wake.arrived(number):
                continue
            interrupts += number == signal.SIGINT
            if interrupts > 1:
                os._exit(EXIT_AT_ONCE)
            if number in REACTIONS:
                if number != signal.SIGUSR1:  # its handler requests the save, once
                    record(number)
                name = signal.Signals(number).name
                log.info(events.NOTICE, source=name, reaction=REACTIONS[number])


def _main_thread() -> int:
    return threading.main_thread().ident or 0
