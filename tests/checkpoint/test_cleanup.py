"""Deletions, sweeps and artifacts on a thread of their own, while saves go on."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.commit.claim import claim, find_run
from keepfit.callbacks.checkpoint.commit.cleanup import Cleanup, InlineCleanup, Task
from keepfit.callbacks.checkpoint.format.keys import shard_key
from keepfit.callbacks.checkpoint.retention import KeepNewest
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.storage.base import StorageError, Transient
from keepfit.callbacks.storage.file_operations import FileOperations
from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import (
    RUN,
    VERSIONS,
    assert_all_committed_verify,
    assert_is,
    assert_no_orphans,
    files_under,
    head_of,
    resume,
    snapshot,
    take_over,
    trained,
)
from tests.checkpoint.stores import Hanging, Wrapped


@contextmanager
def attempt_with_thread(store, keep=1, reclaim_seconds=5.0):
    """Claim the run for an attempt whose cleanup has a thread; end the thread after the block."""
    cleanup = Cleanup(store, reclaim_seconds)
    found = find_run(store, RUN)
    attempt = claim(
        store, RUN, found, retention=KeepNewest(keep), versions=VERSIONS, cleanup=cleanup
    )
    try:
        yield attempt
    finally:
        if isinstance(store, Hanging):
            store.release()
        assert attempt.close(10)


def assert_one_warning(logs, event, reason):
    """Assert that the log consists of this warning."""
    assert [(log["event"], log["log_level"]) for log in logs] == [(event, "warning")]
    assert reason in logs[0]["reason"]


def test_deletion_that_hangs_delays_no_save(store):
    """Saves are committed while the first deletion hangs; it is done when the store answers."""
    hanging = Hanging(store, lambda method, _: method == "delete")
    with attempt_with_thread(hanging) as attempt:
        for step in (1, 2, 3):
            attempt.commit(snapshot(step))
            assert_is(resume(store, attempt), step)
        hanging.wait_until_one_hangs()
        assert not attempt.flush(0.01)
        hanging.release()
        assert attempt.flush(10)
        assert_all_committed_verify(store)
        assert_no_orphans(store._root)


def test_close_waits_only_so_long(store):
    """Closing gives up on deletions that hang; the next attempt's sweep does them."""
    hanging = Hanging(store, lambda method, _: method == "delete")
    with attempt_with_thread(hanging) as attempt:
        attempt.commit(snapshot(1))
        attempt.commit(snapshot(2))
        hanging.wait_until_one_hangs()
        assert not attempt.close(0.01)
    again = take_over(store, keep=1)
    again.commit(snapshot(3))
    again.sweep()
    assert_no_orphans(store._root)


def frozen_shard(attempt, manifest):
    """Return the key of the shard of the frozen weights, which later checkpoints may share."""
    (shard,) = (s for s in manifest.shards if s.size > 1 << 20)
    assert shard.key == shard_key(RUN, shard.digest, attempt.number)
    return shard.key


def test_shard_that_is_needed_again_before_its_deletion(store):
    """It is taken out of the queue, and is there when the queue has been worked off."""
    hanging = Hanging(store, lambda method, key: method == "delete" and key.endswith(".json"))
    with attempt_with_thread(hanging) as attempt:
        shard = frozen_shard(attempt, attempt.commit(snapshot(1)).manifest)
        attempt.commit(snapshot(100))
        hanging.wait_until_one_hangs()
        assert frozen_shard(attempt, attempt.commit(snapshot(200)).manifest) == shard
        hanging.release()
        assert attempt.flush(10)
        assert_all_committed_verify(store)
        assert_no_orphans(store._root)


def hanging_at_the_shard(store):
    """Return a store in which deletions of large shards hang, with a list for their keys."""
    large = []
    return Hanging(store, lambda method, key: method == "delete" and key in large), large


def test_shard_that_is_needed_again_during_its_deletion(store):
    """The save waits for the end of the deletion, and writes the shard again."""
    hanging, large = hanging_at_the_shard(store)
    with attempt_with_thread(hanging) as attempt, ThreadPoolExecutor(1) as thread:
        large.append(frozen_shard(attempt, attempt.commit(snapshot(1)).manifest))
        attempt.commit(snapshot(100))
        hanging.wait_until_one_hangs()
        hanging.puts.clear()
        saving = thread.submit(attempt.commit, snapshot(200))
        hanging.release()
        saving.result(10)
        assert large[0] in hanging.puts, "written again"
        assert attempt.flush(10)
        assert_all_committed_verify(store)
        assert_no_orphans(store._root)


def test_shard_whose_deletion_does_not_end(store):
    """That save fails, and the checkpoint before it stays; saves that don't need it go on."""
    hanging, large = hanging_at_the_shard(store)
    with attempt_with_thread(hanging, reclaim_seconds=0.01) as attempt:
        large.append(frozen_shard(attempt, attempt.commit(snapshot(1)).manifest))
        attempt.commit(snapshot(100))
        hanging.wait_until_one_hangs()
        with pytest.raises(Transient, match="needed again while its deletion is under way"):
            attempt.commit(snapshot(200))
        assert_all_committed_verify(store)
        attempt.commit(snapshot(101))
        hanging.release()
        assert attempt.flush(10)
        attempt.commit(snapshot(201))
        assert attempt.flush(10)
        assert_all_committed_verify(store)
        assert_no_orphans(store._root)


def test_sweep_leaves_own_objects_in_flight(store):
    """A shard that is stored for a checkpoint that is not committed yet survives a sweep."""
    trained(store, 1)
    lost = take_over(store)
    lost._swap = failing_swap
    with pytest.raises(StorageError):
        lost.commit(snapshot(7))
    hanging = Hanging(store, lambda method, key: method == "put" and "checkpoints/" in key)
    with attempt_with_thread(hanging) as attempt, ThreadPoolExecutor(1) as thread:
        resume(store, attempt)
        saving = thread.submit(attempt.commit, snapshot(2))
        hanging.wait_until_one_hangs()
        own = {key for key in hanging.puts if "-0003" in key}
        assert own, "shards are stored, their manifest is not"
        attempt.begin_sweep()
        assert attempt.flush(10)
        left = {entry.key for entry in store.list(f"{RUN}/")}
        assert own <= left
        assert not {key for key in left if "-0002" in key}, "the killed attempt's are deleted"
        hanging.release()
        saving.result(10)
        assert attempt.flush(10)
    assert_all_committed_verify(store)
    assert_no_orphans(store._root)


def failing_swap(**_):
    raise StorageError("killed before the swap")


class SlowFiles(FileOperations):
    """File operations in which the sync of chosen files hangs until it is released."""

    def __init__(self, part):
        self._part = part
        self.entered, self.released = threading.Event(), threading.Event()

    def sync(self, path):
        super().sync(path)
        if self._part in path.name and not self.released.is_set():
            self.entered.set()
            assert self.released.wait(30)


@pytest.mark.parametrize("name", [".safetensors.", "HEAD.json."])
def test_sweep_leaves_own_temporary_files(tmp_path, name):
    """What this process is writing survives a sweep, HEAD included; an older attempt's does not."""
    trained(LocalStore(tmp_path), 1)
    files = SlowFiles(name)
    files.released.set()
    store = LocalStore(tmp_path, files)
    with attempt_with_thread(store) as attempt, ThreadPoolExecutor(1) as thread:
        older = f"shards/.{'0' * 64}-0001.safetensors.1a.tmp"
        (tmp_path / RUN / older).write_bytes(b"half")
        files.released.clear()
        saving = thread.submit(attempt.commit, snapshot(2))
        assert files.entered.wait(10)
        attempt.begin_sweep()
        assert attempt.flush(10)
        temporary = [path for path in files_under(tmp_path / RUN) if path.endswith(".tmp")]
        assert temporary, "its own"
        assert older not in temporary
        files.released.set()
        saving.result(10)
        assert attempt.flush(10)
    assert_all_committed_verify(store)
    assert_no_orphans(tmp_path)


def test_errors_are_one_warning_each(store, tmp_path):
    """Artifacts and sweeps that fail neither fail a save nor end the thread."""

    class Failing(Wrapped):
        def swap(self, key, body, *, expected):
            if "/artifacts/" in key:
                raise StorageError("may not write artifacts")
            return self._store.swap(key, body, expected=expected)

        def clear_unfinished(self, prefix, older):
            raise ValueError("a bug")

    path = tmp_path / "log.csv"
    path.write_bytes(b"1\n")
    with attempt_with_thread(Failing(store)) as attempt:
        with capture_logs() as logs:
            attempt.commit(replace(snapshot(1), append_only_files={str(path): 2}))
            assert attempt.flush(10)
        assert_one_warning(logs, events.ARTIFACT_FAILED, "may not write artifacts")
        with capture_logs() as logs:
            attempt.begin_sweep()
            assert attempt.flush(10)
        assert_one_warning(logs, events.PRUNE_FAILED, "a bug")
        attempt.commit(snapshot(2))
    assert_is(resume(store, take_over(store)), 2)


def test_deletion_that_failed_is_tried_again(store):
    """The next deletions include it; a manifest that stays keeps its shards until then."""
    broken = []

    class Failing(Wrapped):
        def delete(self, key):
            if broken:
                raise StorageError("no network")
            self._store.delete(key)

    with attempt_with_thread(Failing(store)) as attempt:
        attempt.commit(snapshot(1))
        broken.append(True)
        with capture_logs() as logs:
            attempt.commit(snapshot(2))
            assert attempt.flush(10)
        assert_one_warning(logs, events.PRUNE_FAILED, "no network")
        assert len(list(store.list(f"{RUN}/checkpoints/"))) == 2
        broken.clear()
        attempt.commit(snapshot(3))
        assert attempt.flush(10)
        assert_no_orphans(store._root)


@pytest.mark.parametrize("kind", [InlineCleanup, Cleanup])
def test_tasks_come_before_deletions(store, kind):
    """Artifacts don't wait for the many deletions of a sweep."""
    done, gate = [], threading.Event()

    class Recording(Wrapped):
        def delete(self, key):
            done.append(key)
            if key == "first":
                cleanup.submit(Task(lambda: done.append("task"), "failed"))
            gate.set()

    cleanup = kind(Recording(store))
    cleanup.delete(["first", "second", "third"])
    assert gate.wait(10)
    assert cleanup.close(10)
    assert done == ["first", "task", "second", "third"]


def test_artifacts_are_complete_after_a_flush(store, tmp_path):
    """Whatever was requested while the thread was busy, the last content is published."""
    path, content = tmp_path / "log.csv", b""
    hanging = Hanging(store, lambda method, _: method == "delete")
    with attempt_with_thread(hanging) as attempt:
        for step in range(1, 6):
            content += b"line\n" * step
            path.write_bytes(content)
            sizes = {str(path): len(content)}
            attempt.commit(replace(snapshot(step, finished=step == 5), append_only_files=sizes))
        hanging.release()
        assert attempt.flush(10)
    (artifact,) = store.list(f"{RUN}/artifacts/")
    assert store.load(artifact.key)[0] == content
    assert head_of(store).finished
