"""Waiting for the threads that a script has left behind."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

from keepfit.job.process.threads import wait_for_threads


class Interrupted(Exception):
    """Raised by a signal handler of the script."""


def wait_after_interrupted_join() -> None:
    """Interrupt the `join` of a running thread, then wait for all threads."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    with suppress(Interrupted):
        thread.join()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(20)
    if thread.is_alive():  # it counts as running, so it is waited for
        go_on.set()
    wait_for_threads()


def test_a_join_that_was_interrupted():
    """A thread that Python does not wait for any more is not waited for, and not in a loop."""
    child = os.fork()
    if not child:
        wait_after_interrupted_join()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
