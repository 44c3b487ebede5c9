"""Optional work after a commit: deletions, the sweep, and the publishing of artifacts.

None of it may delay or fail a save, so an error is one line in the log. What was to be deleted when
an error occurred is tried again with the next deletions; what remains at the end of the process is
left to the sweep of the next attempt.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import Store, Transient

log = get_logger()

RECLAIM_SECONDS = 1.0
"""How long a save waits for the deletion in progress of an object that it needs again."""


@dataclass(frozen=True)
class Task:
    """Work other than a deletion.

    Attributes:
        run: does the work; may raise.
        failed: the event of the log line after an error.
    """

    run: Callable[[], None]
    failed: str


class InlineCleanup:
    """Does the work at once, on the thread that asks for it: for tools, which have nothing else.

    Any thread may call the methods.
    """

    def __init__(self, store: Store, reclaim_seconds: float = RECLAIM_SECONDS) -> None:
        self._store = store
        self._reclaim_seconds = reclaim_seconds
        self._changed = threading.Condition()
        self._tasks: deque[Task] = deque()
        self._doomed: dict[str, None] = {}
        self._deleting: str | None = None
        self._paused = False

    def submit(self, task: Task) -> None:
        """Do this task before any deletion that is still waiting."""
        with self._changed:
            self._tasks.append(task)
        self._start()

    def delete(self, keys: Iterable[str]) -> None:
        """Delete these objects, in this order, after those that are still waiting.

        If one can't be deleted, the ones after it stay, since an object must not be deleted before
        the manifest that names it; they are tried again at the next call.
        """
        with self._changed:
            self._doomed.update(dict.fromkeys(keys))
            self._paused = False
        self._start()

    def reclaim(self, key: str) -> None:
        """Take an object out of the deletions, because a checkpoint needs it again.

        After this call the object is there or not, and no deletion of it is under way.

        Raises:
            Transient: its deletion is under way and has not ended in time.
        """
        with self._changed:
            self._doomed.pop(key, None)
            if not self._changed.wait_for(lambda: self._deleting != key, self._reclaim_seconds):
                raise Transient(
                    f"{self._store.uri}/{key} is needed again while its deletion is under way, "
                    f"which has not ended after {self._reclaim_seconds} s"
                )

    def flush(self, seconds: float | None) -> bool:
        """Wait at most `seconds`, or without a limit if None, until all the work is done.

        Returns:
            True if it is done; deletions that failed are not waited for.
        """
        with self._changed:
            return self._changed.wait_for(self._is_idle, seconds)

    def close(self, seconds: float | None) -> bool:
        """Like flush; what is not done by then is given up, except the request under way."""
        done = self.flush(seconds)
        with self._changed:
            self._tasks.clear()
            self._doomed.clear()
        return done

    def _start(self) -> None:
        """Have the work done."""
        while self._step():
            pass

    def _is_idle(self) -> bool:
        waiting = self._tasks or (self._doomed and not self._paused)
        return not waiting and self._deleting is None

    def _step(self) -> bool:
        """Do one task or deletion; return False if there was none."""
        with self._changed:
            task = self._tasks.popleft() if self._tasks else None
            key = None if self._paused or task else next(iter(self._doomed), None)
            if key is not None:
                del self._doomed[key]
                self._deleting = key
        if task:
            self._run(task)
        elif key is not None:
            self._delete(key)
        return task is not None or key is not None

    def _run(self, task: Task) -> None:
        try:
            task.run()
        except Exception as error:  # noqa: BLE001 # optional work: no error of it ends anything
            log.warning(task.failed, reason=str(error) or repr(error))

    def _delete(self, key: str) -> None:
        try:
            self._store.delete(key)
        except Exception as error:  # noqa: BLE001 # as above
            with self._changed:
                self._doomed = {key: None, **self._doomed}
                self._paused = True
            log.warning(events.PRUNE_FAILED, reason=str(error) or repr(error))
        finally:
            with self._changed:
                self._deleting = None
                self._changed.notify_all()


class Cleanup(InlineCleanup):
    """Does the work on a thread of its own, so that no request of it can delay a save.

    The thread is a daemon: it never delays the end of the process. It starts with the first work.
    """

    def __init__(self, store: Store, reclaim_seconds: float = RECLAIM_SECONDS) -> None:
        super().__init__(store, reclaim_seconds)
        self._thread: threading.Thread | None = None
        self._busy = False
        self._closed = False

    def close(self, seconds: float | None) -> bool:
        """Like flush; then the thread ends, at the latest with the request under way."""
        limit = None if seconds is None else time.monotonic() + seconds
        done = super().close(seconds)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread:
            self._thread.join(None if limit is None else max(0.0, limit - time.monotonic()))
        return done

    def _start(self) -> None:
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._work, name="keepfit-cleanup", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def _is_idle(self) -> bool:
        return not self._busy and super()._is_idle()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._closed or not super(Cleanup, self)._is_idle())
                if self._closed:
                    return
                self._busy = True
            self._step()
