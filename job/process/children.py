"""A child process that does the work of this one, which only waits for it and passes signals on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

SI_KERNEL: Final = 0x80
"""The si_code of a signal that the kernel itself sends to all processes of a terminal."""

FAULT_SIGNALS: Final = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP}
)
JOB_CONTROL: Final = frozenset({signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP})
_NOT_FORWARDED: Final = JOB_CONTROL | {signal.SIGCHLD}


@dataclass(frozen=True)
class ChildEnd:
    """The end of a child.

    Attributes:
        code: its exit code; the negative number of the signal that has killed it, as in subprocess.
        received: the signals that this process has received until then.
    """

    code: int
    received: frozenset[int]


class Supervisor:
    """Waits for signals in place of handling them, so that none is lost between two waits.

    Args:
        unblocked: signals that keep their usual effect on this process.
    """

    def __init__(self, unblocked: Collection[int] = ()) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an ignored one reaps children unseen
        self._signals = signal.valid_signals() - FAULT_SIGNALS - set(unblocked)
        self._before = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)

    def fork(self) -> int:
        """Start a child, whose signals are as before; return its id, and 0 in the child."""
        child = os.fork()
        if not child:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)
        return child

    def forward_until_end(self, child: int) -> ChildEnd:
        """Pass signals on to the child until it has ended; reap other children meanwhile.

        A terminal sends its signals to the child as well, so these are not passed on.
        """
        received: set[int] = set()
        while True:
            arrived = signal.sigwaitinfo(self._signals)
            if arrived.si_signo == signal.SIGCHLD:
                code = _reap(child)
                if code is not None:
                    return ChildEnd(code, frozenset(received))
                continue
            received.add(arrived.si_signo)
            if arrived.si_signo not in _NOT_FORWARDED and arrived.si_code != SI_KERNEL:
                os.kill(child, arrived.si_signo)

    def wait(self, seconds: float, ending: Collection[int]) -> int | None:
        """Wait so long, or for one of the signals `ending`, which is returned."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            arrived = signal.sigtimedwait(self._signals, left)
            if arrived is None:
                break
            if arrived.si_signo in ending:
                return arrived.si_signo
            if arrived.si_signo == signal.SIGCHLD:
                _reap()
        return None


def exit_code(code: int) -> int:
    """Return the exit code that a shell gives a process which has ended with `code`."""
    return code if code >= 0 else 128 - code


def _reap(child: int = 0) -> int | None:
    """Reap all ended children; return the exit code if `child` is among them."""
    code = None
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if process == 0:
            return code
        if process == child:
            code = os.waitstatus_to_exitcode(status)
