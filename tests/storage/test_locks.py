"""Locks of runs in a directory: one for each run, logged and limited while they are awaited."""

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.storage.base import Transient
from keepfit.callbacks.storage.file_operations import FileOperations
from keepfit.callbacks.storage.local import LocalStore
from keepfit.callbacks.storage.locks import LockLimits, holding


@contextmanager
def locked(path):
    """Hold the lock at `path` within the block, as another process does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


ACTIONS = {
    "put": lambda store: store.put("run/new", [b"x"]),
    "swap": lambda store: store.swap("run/HEAD", b"x", expected=None),
    "move": lambda store: store.move("run", "aside"),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_lock_that_is_held_for_too_long(tmp_path, action):
    """The operation fails, changes nothing, says which lock it is, and how to find its holder."""
    store = LocalStore(tmp_path, locks=LockLimits(log_after=0.05, give_up_after=0.3))
    store.put("run/object", [b"x"])
    lock = tmp_path / "run/.lock"
    with locked(lock), capture_logs() as logs, pytest.raises(Transient) as caught:
        ACTIONS[action](store)
    assert f"{lock} has been locked by another process for 0.3 s" in str(caught.value)
    assert f"fuser -v {lock}" in str(caught.value)
    assert [(log["event"], log["file"]) for log in logs] == [(events.LOCK_AWAITED, str(lock))]
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [".lock", "object"]
    ACTIONS[action](store)


def test_lock_that_is_released_in_time(tmp_path):
    """The operation waits and succeeds, after one line in the log."""
    store = LocalStore(tmp_path, locks=LockLimits(log_after=0.0, give_up_after=30))
    with ThreadPoolExecutor(1) as thread, capture_logs() as logs:
        with locked(tmp_path / "run/.lock"):
            writing = thread.submit(store.put, "run/object", [b"x"])
            while not logs:
                assert not writing.done()
        writing.result(10)
    assert [log["event"] for log in logs] == [events.LOCK_AWAITED]
    assert store.load("run/object")[0] == b"x"


def test_lock_that_is_free_is_not_logged(tmp_path):
    """Operations of one process after another, and at once, write no line."""
    store = LocalStore(tmp_path)
    with ThreadPoolExecutor(4) as threads, capture_logs() as logs:
        list(threads.map(lambda i: store.put(f"run/{i}", [b"x"]), range(40)))
    assert logs == []
    assert len(list(store.list("run/"))) == 40


def test_runs_do_not_wait_for_each_other(tmp_path):
    """A lock that is held in one run delays no operation on another one."""
    store = LocalStore(tmp_path, locks=LockLimits(log_after=0.0, give_up_after=0.0))
    with locked(tmp_path / "other/.lock"), locked(tmp_path / ".lock"), capture_logs() as logs:
        for action in ("put", "swap", "move"):
            ACTIONS[action](store)
    assert logs == []


def test_locks_are_not_listed(tmp_path):
    """A lock is no object, and no folder."""
    store = LocalStore(tmp_path)
    store.put("run/object", [b"x"])
    store.put("object", [b"x"])
    assert (tmp_path / "run/.lock").exists()
    assert [entry.key for entry in store.list("")] == ["object", "run/object"]
    assert list(store.folders("")) == ["run"]
    assert list(store.folders("run/")) == []


def test_lock_whose_folder_is_moved_while_it_is_awaited(tmp_path):
    """The lock that is held in the end is the one at the path, not the one that was moved away."""
    path = tmp_path / "run/.lock"
    limits = LockLimits(log_after=0.0, give_up_after=30)

    class Files(FileOperations):
        tries = 0

        @contextmanager
        def locked(self, path):
            self.tries += 1
            if self.tries == 2:  # after it has found the lock held
                path.parent.rename(tmp_path / "aside")
                path.parent.mkdir()
            with super().locked(path):
                yield

    with locked(path):
        moved, files = path.stat().st_ino, Files()
        with holding(files, path, limits):
            with pytest.raises(BlockingIOError), FileOperations().locked(path):
                pass
            assert path.stat().st_ino != moved
        assert files.tries == 2


def test_lock_that_moves_between_open_and_lock(tmp_path, monkeypatch):
    """A lock on a file that is no longer at the path is given up, and the present one is taken."""
    store = LocalStore(tmp_path)
    store.put("run/object", [b"x"])
    flock = fcntl.flock
    moved = []

    def move_first(fd, operation):
        if not moved:
            (tmp_path / "run").rename(tmp_path / "aside")
            moved.append(tmp_path / "aside")
            (tmp_path / "run").mkdir()
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", move_first)
    with pytest.raises(BlockingIOError), FileOperations().locked(tmp_path / "run/.lock"):
        pass
    with FileOperations().locked(tmp_path / "run/.lock"), locked(moved[0] / ".lock"):
        pass


def test_a_process_that_is_forked_meanwhile_does_not_keep_the_lock(tmp_path):
    """A worker of the input pipeline has the descriptor of the lock, and may outlive its use."""
    files, path = FileOperations(), tmp_path / ".lock"
    end, ended = os.pipe()
    with files.locked(path):
        child = os.fork()
        if not child:
            os.close(ended)
            os.read(end, 1)
            os._exit(0)
    try:
        with files.locked(path):
            assert path.exists()
    finally:
        os.close(ended)
        os.waitpid(child, 0)
        os.close(end)
