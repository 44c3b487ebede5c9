"""Threads that upload the objects of one commit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class UploadPool:
    """A thread pool whose threads never delay the end of the process.

    concurrent.futures.ThreadPoolExecutor joins its threads when the interpreter exits: a request
    that hangs would hold an attempt that has made its last save. These threads are daemons.

    Args:
        threads: number of tasks that run at once.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        for number in range(threads):
            name = f"keepfit-sender_{number}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, task: Callable[[], T]) -> Future[T]:
        """Run `task` on one of the threads, in the order of the calls."""
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = task()
            except BaseException as error:  # noqa: BLE001 # the caller of Future.result gets it
                future.set_exception(error)
            else:
                future.set_result(result)

        self._tasks.put(run)
        return future

    def close(self) -> None:
        """Let each thread end after its task, without waiting for it."""
        for _ in range(self._threads):
            self._tasks.put(None)

    def _work(self) -> None:
        while task := self._tasks.get():
            task()
            del task  # a task holds the memory of its shard
