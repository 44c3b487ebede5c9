"""The thread that writes snapshots while training continues."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.commit.attempt import Superseded
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.checkpoint.snapshot import Snapshot
from keepfit.callbacks.daemon_executor import DaemonExecutor
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()

WRITER_THREAD: Final = "keepfit-writer"
"""The prefix of the name of the thread."""

NICENESS = 10
"""Niceness of the writer's thread: hashing and copying then slow training less on few cores."""


@dataclass(frozen=True)
class Written:
    """The snapshot is the newest committed checkpoint.

    Attributes:
        seconds: from the start of the save until it was durable.
        size: size of the snapshot's shards in bytes.
    """

    position: Position
    seconds: float
    size: int


@dataclass(frozen=True)
class Failed:
    """The snapshot could not be saved; the checkpoint before it is still the committed one."""

    reason: str


@dataclass(frozen=True)
class FencedBy:
    """A newer attempt owns the run; nothing of it was changed."""

    reason: str


SaveResult = Written | Failed | FencedBy


class SnapshotWriter:
    """Writes one snapshot at a time on a thread of its own.

    Memory is bounded by one snapshot: none may be submitted while another one is being written.

    Args:
        write: writes a snapshot, given whether it is the last one of its fit. Every exception that
            it raises becomes a result: a failed save never ends training.
    """

    def __init__(self, write: Callable[[Snapshot, bool], Written]) -> None:
        self._write = write
        self._pool = DaemonExecutor(1, WRITER_THREAD, _lower_thread_priority)
        self._newest: Future[SaveResult] | None = None

    @property
    def busy(self) -> bool:
        """True while a snapshot is being written."""
        return self._newest is not None and not self._newest.done()

    def submit(self, snapshot: Snapshot, *, last: bool = False) -> Future[SaveResult]:
        """Start to write the snapshot.

        Raises:
            RuntimeError: another snapshot is being written.
        """
        if self.busy:
            raise RuntimeError("a snapshot was submitted while another one is being written")
        self._newest = self._pool.submit(self._result_of, snapshot, last)
        return self._newest

    def wait(self) -> None:
        """Wait until no snapshot is being written."""
        if self._newest is not None:
            self._newest.exception()

    def close(self) -> None:
        """Wait for the snapshot that is being written, and end the thread."""
        self._pool.shutdown(wait=True)

    def _result_of(self, snapshot: Snapshot, last: bool) -> SaveResult:
        try:
            return self._write(snapshot, last)
        except Superseded as error:
            return FencedBy(str(error))
        # MemoryError, TensorFlow's ResourceExhaustedError, a bug: training is worth more than any.
        except Exception as error:  # noqa: BLE001
            reason = str(error) if str(error) else type(error).__name__
            log.error(
                events.SAVE_FAILED,
                step=snapshot.position.step,
                reason=reason,
                kind=type(error).__name__,
            )
            return Failed(reason)


def _lower_thread_priority() -> None:
    """Lower the priority of this thread only: Linux has a niceness for each thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
