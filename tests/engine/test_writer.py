"""SnapshotWriter and its thread."""

import threading

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.commit.attempt import Superseded
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.checkpoint.snapshot import Snapshot
from keepfit.callbacks.engine.writer import Failed, FencedBy, SnapshotWriter, Written
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.storage.base import StorageError

SNAPSHOTS = [Snapshot(Position(step=step), (), {}) for step in range(4)]
TIMEOUT = 30


class Slow:
    """A `write` function that stores nothing and returns when it is told to."""

    def __init__(self):
        self.written, self.threads = [], set()
        self.begun, self.proceed = threading.Event(), threading.Event()

    def __call__(self, snapshot, last):
        self.threads.add(threading.current_thread())
        self.begun.set()
        assert self.proceed.wait(TIMEOUT)
        self.written.append(snapshot)
        return Written(snapshot.position, 1.0, 8)


def test_one_at_a_time():
    """While a snapshot is being written, the writer is busy and takes no other."""
    slow = Slow()
    writer = SnapshotWriter(slow)
    assert not writer.busy
    first = writer.submit(SNAPSHOTS[0])
    assert slow.begun.wait(TIMEOUT)
    assert writer.busy
    with pytest.raises(RuntimeError, match="while another"):
        writer.submit(SNAPSHOTS[1])
    slow.proceed.set()
    assert first.result(TIMEOUT) == Written(SNAPSHOTS[0].position, 1.0, 8)
    assert not writer.busy
    writer.submit(SNAPSHOTS[2])
    writer.close()
    assert slow.written == [SNAPSHOTS[0], SNAPSHOTS[2]]


def test_writes_on_one_thread_of_its_own():
    """All snapshots are written by the same thread, which is not the caller's."""
    slow = Slow()
    slow.proceed.set()
    writer = SnapshotWriter(slow)
    for snapshot in SNAPSHOTS:
        writer.submit(snapshot)
        writer.wait()
    (thread,) = slow.threads
    assert thread is not threading.current_thread()
    assert thread.name.startswith("keepfit-writer")
    writer.close()
    assert not thread.is_alive()
    assert slow.written == SNAPSHOTS


def test_close_finishes_the_write():
    """A write that has begun is completed before close returns."""
    slow = Slow()
    writer = SnapshotWriter(slow)
    writer.submit(SNAPSHOTS[0])
    assert slow.begun.wait(TIMEOUT)
    closing = threading.Thread(target=writer.close)
    closing.start()
    assert slow.written == []
    slow.proceed.set()
    closing.join(TIMEOUT)
    assert slow.written == SNAPSHOTS[:1]


def test_nothing_to_wait_for():
    """Waiting for or closing a writer that wrote nothing does nothing."""
    writer = SnapshotWriter(Slow())
    writer.wait()
    writer.close()
    writer.close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StorageError("no space"), "no space"),
        (OSError("gone"), "gone"),
        (MemoryError(), "MemoryError"),
        (ZeroDivisionError("a bug"), "a bug"),
    ],
)
def test_every_exception_is_a_failed_save(error, reason):
    """It is logged, and the next snapshot is written as if nothing had happened."""

    def write(snapshot, last):
        if snapshot is SNAPSHOTS[0]:
            raise error
        return Written(snapshot.position, 1.0, 8)

    writer = SnapshotWriter(write)
    with capture_logs() as logs:
        assert writer.submit(SNAPSHOTS[0]).result(TIMEOUT) == Failed(reason)
    (entry,) = logs
    assert entry["event"] == events.SAVE_FAILED
    assert (entry["reason"], entry["kind"]) == (reason, type(error).__name__)
    writer.wait()
    assert isinstance(writer.submit(SNAPSHOTS[1]).result(TIMEOUT), Written)
    writer.close()


def test_another_attempt_owns_the_run():
    """The result says so; nothing is logged as a failed save."""

    def write(snapshot, last):
        raise Superseded("attempt 2 owns the run now")

    writer = SnapshotWriter(write)
    with capture_logs() as logs:
        result = writer.submit(SNAPSHOTS[0]).result(TIMEOUT)
    assert result == FencedBy("attempt 2 owns the run now")
    assert logs == []
    writer.close()
