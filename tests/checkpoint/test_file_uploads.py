"""Files that travel beside the shards, and what a save that is in a hurry has of them."""

import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.commit import file_uploader, sending
from keepfit.callbacks.checkpoint.read.file_restore import restore_file
from keepfit.callbacks.checkpoint.snapshot import stamp_of
from keepfit.callbacks.logs.logger import capture_logs
from keepfit.callbacks.storage.base import StorageError
from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import (
    assert_all_committed_verify,
    assert_is,
    files_under,
    resume,
    snapshot,
    take_over,
)
from tests.checkpoint.stores import Hanging, Wrapped

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Make files of a few bytes have several parts, and a save in a hurry wait a short time."""
    monkeypatch.setattr(file_uploader, "MAX_PART_SIZE", 4)
    monkeypatch.setattr(sending, "FILE_BUDGET", 0.1)


def with_files(step, grown=(), replaced=()):
    """Return a snapshot with these files as they are now."""
    return replace(
        snapshot(step),
        append_only_files={str(path): path.stat().st_size for path in grown},
        replaced_files={str(path): stamp_of(str(path)) for path in replaced},
    )


def content_of(store, manifest, path, folder):
    """Return the file's content in the checkpoint; None if the checkpoint does not have it."""
    for file in manifest.files:
        if file.path == str(path):
            target = folder / "restored"
            target.unlink(missing_ok=True)
            restore_file(store, replace_path(file, target))
            return target.read_bytes()
    return None


def replace_path(file, path):
    return file.model_copy(update={"path": str(path)})


def assert_only_named_parts(store, manifest):
    """Assert that the store has no part except those of this checkpoint."""
    stored = {name for name in files_under(store._root) if "/logs/" in name}
    assert stored == {part.key for file in manifest.files for part in file.parts}


class Meeting(Wrapped):
    """A store in which each of the chosen puts waits until all of them are in flight."""

    parallel = 8

    def __init__(self, store, count, chosen):
        super().__init__(store)
        self._barrier = threading.Barrier(count)
        self._chosen = chosen

    def put(self, key, body, *, digest=None):
        if self._chosen(key):
            self._barrier.wait(10)
        super().put(key, body, digest=digest)


def test_files_are_in_flight_with_the_shards(tmp_path):
    """All five shards, both parts of one file and one of another are sent at the same time."""
    one, two = tmp_path / "log.csv", tmp_path / "model.keras"
    one.write_bytes(b"12345678")
    two.write_bytes(b"123")
    local = LocalStore(tmp_path / "store")
    store = Meeting(local, 8, lambda key: "/shards/" in key or "/logs/" in key)
    committed = take_over(store).commit(with_files(1, [one], [two]))
    assert content_of(local, committed.manifest, one, tmp_path) == b"12345678"
    assert content_of(local, committed.manifest, two, tmp_path) == b"123"
    assert committed.delayed == ()


def hangs_at_files(method, key):
    return method == "put" and "/logs/" in key


@pytest.mark.parametrize("why", ["last", "notice"])
def test_save_in_a_hurry_leaves_files_that_hang(tmp_path, why):
    """They stay at their previous version, one line names each, and later saves have them."""
    local = LocalStore(tmp_path / "store")
    grown, whole, new = (tmp_path / name for name in ("log.csv", "model.keras", "new.csv"))
    grown.write_bytes(b"12345")
    whole.write_bytes(b"first one")
    hangs = []
    hanging = Hanging(local, lambda method, key: bool(hangs) and hangs_at_files(method, key))
    attempt = take_over(hanging, keep=1)
    attempt.commit(with_files(1, [grown], [whole]))
    grown.write_bytes(b"12345678")
    whole.write_bytes(b"the second one")
    new.write_bytes(b"1")
    hangs.append(True)
    notice = threading.Timer(0.3, lambda: hangs.append("notice"))
    started = time.monotonic()
    with capture_logs() as logs:
        if why == "last":
            committed = attempt.commit(
                with_files(2, [grown, new], [whole]), last=True, hurry=lambda: True
            )
        else:
            notice.start()
            committed = attempt.commit(
                with_files(2, [grown, new], [whole]), hurry=lambda: "notice" in hangs
            )
    assert time.monotonic() - started < 10
    assert sorted(committed.delayed) == sorted(map(str, (grown, whole, new)))
    delayed = [(log["event"], log["file"]) for log in logs if log["log_level"] == "warning"]
    assert sorted(delayed) == sorted((events.FILE_DELAYED, path) for path in committed.delayed)
    assert content_of(local, committed.manifest, grown, tmp_path) == b"12345"
    assert content_of(local, committed.manifest, whole, tmp_path) == b"first one"
    assert content_of(local, committed.manifest, new, tmp_path) is None
    assert_is(resume(local, attempt), 2)
    hanging.release()
    after = attempt.commit(with_files(3, [grown, new], [whole]))
    assert after.delayed == ()
    assert content_of(local, after.manifest, grown, tmp_path) == b"12345678"
    assert content_of(local, after.manifest, whole, tmp_path) == b"the second one"
    assert content_of(local, after.manifest, new, tmp_path) == b"1"
    assert_all_committed_verify(local)


def test_part_that_is_stored_late_is_deleted(tmp_path):
    """No checkpoint names it, and one of the next commits deletes it."""
    local = LocalStore(tmp_path / "store")
    path = tmp_path / "log.csv"
    path.write_bytes(b"1234")
    hanging = Hanging(local, hangs_at_files)
    attempt = take_over(hanging, keep=1)
    committed = attempt.commit(with_files(1, [path]), last=True, hurry=lambda: True)
    assert committed.delayed == (str(path),)
    hanging.puts.clear()
    hanging.release()
    limit = time.monotonic() + 10
    while not attempt._objects.unconfirmed:  # the late part has been stored
        assert time.monotonic() < limit
        time.sleep(0.01)
    (late,) = (name for name in files_under(tmp_path / "store") if "/logs/" in name)
    after = attempt.commit(with_files(2, [path]))
    assert late not in {part.key for file in after.manifest.files for part in file.parts}
    assert_only_named_parts(local, after.manifest)


@pytest.mark.parametrize("last", [False, True])
def test_part_that_fails(tmp_path, last):
    """It fails an ordinary save; the last one is made with the file's previous version."""
    failing = []

    class Failing(Wrapped):
        def put(self, key, body, *, digest=None):
            if failing and "/logs/" in key:
                raise StorageError("no network")
            super().put(key, body, digest=digest)

    local = LocalStore(tmp_path / "store")
    path = tmp_path / "log.csv"
    path.write_bytes(b"1234")
    attempt = take_over(Failing(local), keep=1)
    attempt.commit(with_files(1, [path]))
    path.write_bytes(b"12345678")
    failing.append(True)
    if last:
        committed = attempt.commit(with_files(2, [path]), last=True, hurry=lambda: True)
        assert committed.delayed == (str(path),)
        assert content_of(local, committed.manifest, path, tmp_path) == b"1234"
    else:
        with pytest.raises(StorageError, match="no network"):
            attempt.commit(with_files(2, [path]))
    failing.clear()
    after = attempt.commit(with_files(3, [path]))
    assert content_of(local, after.manifest, path, tmp_path) == b"12345678"
    assert_only_named_parts(local, after.manifest)


class Replacing(Wrapped):
    """A store that calls `between` once, before the first part of a file is stored."""

    between = None

    def put(self, key, body, *, digest=None):
        between = self.between
        if between and "/logs/" in key:
            self.between = None
            between()
        super().put(key, body, digest=digest)


def in_place(path):
    """Write other content into the file, as HDF5 does."""
    path.write_bytes(b"x")


def by_rename(path):
    """Replace the file by another one."""
    other = path.with_suffix(".new")
    other.write_bytes(b"the content after it")
    other.rename(path)


@pytest.mark.parametrize(
    ("change", "expected"),
    [(in_place, b"the first content"), (by_rename, b"the second content"), (Path.unlink, None)],
)
def test_file_that_is_replaced_while_it_is_read(tmp_path, change, expected):
    """The checkpoint has the file as it was captured, or its earlier version; no save fails."""
    local = LocalStore(tmp_path / "store")
    path = tmp_path / "model.keras"
    store = Replacing(local)
    attempt = take_over(store, keep=1)
    path.write_bytes(b"the first content")
    attempt.commit(with_files(1, [], [path]))
    path.write_bytes(b"the second content")
    captured = with_files(2, [], [path])
    store.between = lambda: change(path)
    committed = attempt.commit(captured)
    found = content_of(local, committed.manifest, path, tmp_path)
    assert found == (expected or b"the second content")
    assert committed.delayed == ((str(path),) if change is in_place else ())
    path.write_bytes(b"the last content")
    after = attempt.commit(with_files(3, [], [path]))
    assert content_of(local, after.manifest, path, tmp_path) == b"the last content"
    assert_only_named_parts(local, after.manifest)


@pytest.mark.parametrize("change", [in_place, by_rename, Path.unlink])
def test_file_that_is_replaced_before_it_is_read(tmp_path, change):
    """The checkpoint has the earlier version; the next one has the present one."""
    local = LocalStore(tmp_path / "store")
    path = tmp_path / "model.keras"
    attempt = take_over(local, keep=1)
    path.write_bytes(b"the first content")
    attempt.commit(with_files(1, [], [path]))
    path.write_bytes(b"the second content")
    captured = with_files(2, [], [path])
    change(path)
    committed = attempt.commit(captured)
    assert content_of(local, committed.manifest, path, tmp_path) == b"the first content"
    assert committed.delayed == (str(path),)


def test_temporary_file_that_is_removed_before_it_is_read(tmp_path):
    """It is no longer needed, so the checkpoint has no version of it."""
    local = LocalStore(tmp_path / "store")
    path = tmp_path / "model.keras"
    attempt = take_over(local, keep=1)
    path.write_bytes(b"the first content")
    attempt.commit(with_files(1, [], [path]))
    path.write_bytes(b"the second content")
    captured = with_files(2, [], [path])
    stamps = {p: replace(s, temporary=True) for p, s in captured.replaced_files.items()}
    path.unlink()
    committed = attempt.commit(replace(captured, replaced_files=stamps))
    assert committed.manifest.files == ()
    assert committed.delayed == ()


def test_unchanged_file_is_not_read_again(tmp_path):
    """Its stamp is enough, also after a save that had found the content unchanged."""
    local = LocalStore(tmp_path / "store")
    path = tmp_path / "model.keras"
    path.write_bytes(b"the first content")
    take_over(local).commit(with_files(1, [], [path]))
    attempt = take_over(local)
    resume(local, attempt)
    first = attempt.commit(with_files(2, [], [path]))
    captured = with_files(3, [], [path])
    path.unlink()
    second = attempt.commit(captured)
    assert second.manifest.files == first.manifest.files
    assert second.delayed == ()


HANGING_PROCESS = """
import sys, threading
from pathlib import Path
from dataclasses import replace
from keepfit.callbacks.checkpoint.commit import sending
from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import snapshot, take_over
from tests.checkpoint.stores import Wrapped

class Forever(Wrapped):
    def put(self, key, body, *, digest=None):
        if "/logs/" in key:
            threading.Event().wait()
        super().put(key, body, digest=digest)

sending.FILE_BUDGET = 0.1
path = Path(sys.argv[1]) / "log.csv"
path.write_bytes(b"1")
attempt = take_over(Forever(LocalStore(Path(sys.argv[1]) / "store")))
captured = replace(snapshot(1), append_only_files={str(path): 1})
attempt.commit(captured, last=True, hurry=lambda: True)
"""


def test_upload_that_hangs_does_not_hold_the_process(tmp_path):
    """The process ends after its last save although a request has not ended."""
    subprocess.run(
        [sys.executable, "-c", HANGING_PROCESS, str(tmp_path)],
        cwd=REPOSITORY,
        check=True,
        timeout=60,
    )
    store = LocalStore(tmp_path / "store")
    assert_is(resume(store, take_over(store)), 1)
