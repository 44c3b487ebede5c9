"""An executor whose threads the end of the process does not wait for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DaemonExecutor(Executor):
    """An executor with daemon threads.

    Python waits at exit for the threads of a ThreadPoolExecutor, and so for a server that they
    wait for; and a ThreadPoolExecutor takes no call once the main thread has ended, though a `fit`
    in another thread may still train and save.

    Args:
        max_workers: the number of threads; each starts when there is a call for it.
        thread_name_prefix: prefix of the names of the threads.
        initializer: called in each thread when it starts.
    """

    def __init__(
        self,
        max_workers: int,
        thread_name_prefix: str = "keepfit-part",
        initializer: Callable[[], None] | None = None,
    ) -> None:
        self._max_workers = max_workers
        self._name = thread_name_prefix
        self._initializer = initializer
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = (
            queue.SimpleQueue()
        )
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError(f"{self._name} has been shut down")
            self._calls.put((future, partial(fn, *args, **kwargs)))
            if not self._idle.acquire(blocking=False) and len(self._threads) < self._max_workers:
                name = f"{self._name}_{len(self._threads)}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._lock:
            self._closed = True
        with suppress(queue.Empty):
            while cancel_futures:
                if call := self._calls.get_nowait():
                    call[0].cancel()
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads if wait else ():
            thread.join()

    def _work(self) -> None:
        if self._initializer:
            self._initializer()
        while call := self._calls.get():
            future, function = call
            if future.set_running_or_notify_cancel():
                try:
                    result = function()
                except BaseException as error:  # noqa: BLE001 # raised by future.result()
                    future.set_exception(error)
                else:
                    future.set_result(result)
                    del result
            del call, future, function  # they hold the memory of a shard
            self._idle.release()
