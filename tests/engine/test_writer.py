"""SnapshotWriter and its thread."""

import threading

import pytest

from keepfit.callbacks.checkpoint.snapshot import Position, Snapshot
from keepfit.callbacks.engine.writer import SnapshotWriter

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


def test_declines_while_busy():
    """A snapshot that is submitted while another is written is declined and never written."""
    slow = Slow()
    writer = SnapshotWriter(slow)
    assert not writer.busy
    assert writer.submit(SNAPSHOTS[0])
    assert slow.begun.wait(TIMEOUT)
    assert writer.busy
    assert not writer.submit(SNAPSHOTS[1])
    slow.proceed.set()
    writer.wait()
    assert not writer.busy
    assert writer.submit(SNAPSHOTS[2])
    writer.close()
    assert slow.written == [SNAPSHOTS[0], SNAPSHOTS[2]]


def test_writes_on_one_thread_of_its_own():
    """All snapshots are written by the same thread, which is not the caller's."""
    slow = Slow()
    slow.proceed.set()
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


@pytest.mark.parametrize("call", ["submit", "wait", "close"])
def test_escaping_error_reaches_the_caller(call):
    """An error that `write` does not handle is raised by the next call, once."""
    failed = threading.Event()

    def write(snapshot, last):
        if snapshot is SNAPSHOTS[0]:
            failed.set()
            raise ZeroDivisionError("a bug")

    writer = SnapshotWriter(write)
    writer.submit(SNAPSHOTS[0])
    assert failed.wait(TIMEOUT)
    calls = {
        "submit": lambda: submit_until_accepted(writer),
        "wait": writer.wait,
        "close": writer.close,
    }
    with pytest.raises(ZeroDivisionError, match="a bug"):
        calls[call]()
    if call != "close":
        assert writer.submit(SNAPSHOTS[2])
        writer.close()


def submit_until_accepted(writer):
    """Submit until it is accepted: the thread may still be about to end its write."""
    while not writer.submit(SNAPSHOTS[1]):
        pass
