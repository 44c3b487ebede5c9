"""Wait for the threads of a program, as Python does before a process ends.

Python itself waits after the last line of the main program, when the interpreter shuts down: too
late for a `fit` in such a thread, since its run is closed by then.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures.thread import _threads_queues
from queue import SimpleQueue
from typing import Any, Final

OWN_PREFIX: Final = "keepfit-"
"""The prefix of the names of keepfit's own threads, which end when their owner is closed."""

_ENDED_AT_SHUTDOWN: Final = "_ExecutorManagerThread"
"""The class of the threads of process pools (concurrent.futures, loky), which end when the
interpreter shuts down. They have no work left if the process that submitted it has ended."""

_SECONDS_BETWEEN_CHECKS = 0.2


def wait_for_threads() -> None:
    """Wait until the threads of the program have ended and its thread pools have no work left.

    Daemon threads are not waited for. A thread may start others, which are waited for as well.
    """
    while threads := _program_threads():
        for thread in threads:
            thread.join()
    _wait_for_pools()


def _program_threads() -> list[threading.Thread]:
    """Return the running threads for which Python would wait, without those of pools.

    In CPython 3.11, a thread whose `join` an exception has interrupted counts as ended while it
    runs (python/cpython#90882): another `join` returns at once, and Python does not wait for it.
    """
    return [
        thread
        for thread in threading.enumerate()
        if thread.is_alive() and thread not in _threads_queues and not _is_left_to_others(thread)
    ]


def _is_left_to_others(thread: threading.Thread) -> bool:
    return (
        thread.daemon
        or thread is threading.current_thread()
        or thread.name.startswith(OWN_PREFIX)
        or type(thread).__name__ == _ENDED_AT_SHUTDOWN
    )


def _wait_for_pools() -> None:
    """Wait until each ThreadPoolExecutor has done what was submitted to it.

    The threads of a pool that was not shut down never end by themselves: Python ends them when the
    interpreter shuts down, after the work that is queued. A queue has no public name.
    """
    pools: dict[SimpleQueue[Any], list[threading.Thread]] = {}
    for thread, tasks in tuple(_threads_queues.items()):
        if not _is_left_to_others(thread):
            pools.setdefault(tasks, []).append(thread)
    for tasks, threads in pools.items():
        _wait_until_idle(tasks, threads)


def _wait_until_idle(tasks: SimpleQueue[Any], threads: Iterable[threading.Thread]) -> None:
    """Wait until all threads of a pool are held by tasks that are queued behind all others."""
    alive = [thread for thread in threads if thread.is_alive()]
    hold = _Hold()
    for _ in alive:
        tasks.put(hold)
    try:
        while alive and not hold.has_caught(len(alive), _SECONDS_BETWEEN_CHECKS):
            alive = [thread for thread in alive if thread.is_alive()]  # a task may end its pool
    finally:
        hold.release()


class _Hold:
    """A task that occupies each thread that executes it, until it is released."""

    def __init__(self) -> None:
        self._caught = 0
        self._released = False
        self._change = threading.Condition()

    def run(self) -> None:
        """Occupy the thread. A thread pool calls this method of each of its tasks."""
        with self._change:
            self._caught += 1
            self._change.notify_all()
            self._change.wait_for(lambda: self._released)

    def has_caught(self, threads: int, timeout: float) -> bool:
        """Return whether so many threads are occupied, after at most `timeout` seconds."""
        with self._change:
            return self._change.wait_for(lambda: self._caught >= threads, timeout)

    def release(self) -> None:
        """Let the threads go on."""
        with self._change:
            self._released = True
            self._change.notify_all()
