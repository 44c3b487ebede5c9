"""The writer's thread."""

import threading

import pytest

from keepfit.callbacks.checkpoint.snapshot import Position, Snapshot
from keepfit.callbacks.checkpoint.writer import SnapshotWriter

SNAPSHOTS = [Snapshot(Position(step=step), (), {}) for step in range(4)]
PATIENCE = 30


class Slow:
    """Writes nothing, and takes as long as it is told."""

    def __init__(self):
        self.written, self.threads = [], set()
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, snapshot, last):
        self.threads.add(threading.current_thread())
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        self.written.append(snapshot)


def test_declines_while_busy():
    """An offer that comes while another is written is declined, and none of it is written."""
    slow = Slow()
    writer = SnapshotWriter(slow)
    assert not writer.busy
    assert writer.submit(SNAPSHOTS[0])
    assert slow.begun.wait(PATIENCE)
    assert writer.busy
    assert not writer.submit(SNAPSHOTS[1])
    slow.go_on.set()
    writer.wait()
    assert not writer.busy
    assert writer.submit(SNAPSHOTS[2])
    writer.close()
    assert slow.written == [SNAPSHOTS[0], SNAPSHOTS[2]]


def test_writes_on_one_thread_of_its_own():
    """All snapshots are written by the same thread, which is not the caller's."""
    slow = Slow()
    slow.go_on.set()
    writer = SnapshotWriter(slow)
    for snapshot in SNAPSHOTS:
        assert writer.submit(snapshot)
        writer.wait()
    (thread,) = slow.threads
    assert thread is not threading.current_thread()
    assert thread.name.startswith("keepfit-writer")
    writer.close()
    assert not thread.is_alive()
    assert slow.written == SNAPSHOTS


def test_close_finishes_the_write():
    """What has begun is written to its end before close returns."""
    slow = Slow()
    writer = SnapshotWriter(slow)
    writer.submit(SNAPSHOTS[0])
    assert slow.begun.wait(PATIENCE)
    closing = threading.Thread(target=writer.close)
    closing.start()
    assert slow.written == []
    slow.go_on.set()
    closing.join(PATIENCE)
    assert slow.written == SNAPSHOTS[:1]


def test_nothing_to_wait_for():
    """To wait for or to close a writer that wrote nothing is nothing."""
    writer = SnapshotWriter(Slow())
    writer.wait()
    writer.close()
    writer.close()


@pytest.mark.parametrize("call", ["offer", "wait", "close"])
def test_escaping_error_reaches_the_caller(call):
    """An error that the write does not handle is raised at the next call, once."""
    failed = threading.Event()

    def write(snapshot, last):
        if snapshot is SNAPSHOTS[0]:
            failed.set()
            raise ZeroDivisionError("a bug")

    writer = SnapshotWriter(write)
    writer.submit(SNAPSHOTS[0])
    assert failed.wait(PATIENCE)
    calls = {"offer": lambda: until_taken(writer), "wait": writer.wait, "close": writer.close}
    with pytest.raises(ZeroDivisionError, match="a bug"):
        calls[call]()
    if call != "close":
        assert writer.submit(SNAPSHOTS[2])
        writer.close()


def until_taken(writer):
    """Offer until it is not declined: the thread may still be about to end its write."""
    while not writer.submit(SNAPSHOTS[1]):
        pass
