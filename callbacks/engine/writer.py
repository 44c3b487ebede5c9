"""The thread that writes snapshots while training continues."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from keepfit.callbacks.checkpoint.snapshot import Snapshot

NICENESS = 10
"""Niceness of the writer's thread: hashing and copying then slow training less on few cores."""


class SnapshotWriter:
    """Writes one snapshot at a time on a thread of its own.

    Memory is bounded by one snapshot: a snapshot that is submitted while another one is being
    written is declined, and the caller submits a newer one at a later batch. `write` handles its
    own errors; an exception that escapes it is a bug, and is raised at the next call.

    Args:
        write: called with a snapshot, and whether it is the last one of its fit.
    """

    def __init__(self, write: Callable[[Snapshot, bool], None]) -> None:
        self._write = write
        self._pool = ThreadPoolExecutor(1, "keepfit-writer", _lower_thread_priority)
        self._last: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """True while a snapshot is being written."""
        return self._last is not None and not self._last.done()

    def submit(self, snapshot: Snapshot, *, last: bool = False) -> bool:
        """Start to write the snapshot; return False if another one is still being written."""
        if self.busy:
            return False
        self.wait()
        self._last = self._pool.submit(self._write, snapshot, last)
        return True

    def wait(self) -> None:
        """Wait until no snapshot is being written."""
        if self._last is not None:
            last, self._last = self._last, None
            last.result()

    def close(self) -> None:
        """Wait for the snapshot that is being written, and end the thread."""
        self._pool.shutdown(wait=True)
        self.wait()


def _lower_thread_priority() -> None:
    """Lower the priority of this thread only: Linux has a niceness for each thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
