"""Append-only files are restored on an empty machine as they were at any checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keepfit.callbacks.checkpoint.format.key_names import key_from_path
from keepfit.callbacks.checkpoint.format.manifest import StoredFile
from keepfit.callbacks.checkpoint.read.file_restore import restore_file
from keepfit.callbacks.storage.base import AlreadyExists, Damaged, NotFound
from keepfit.callbacks.storage.local import LocalStore
from tests.checkpoint.samples import RUN, files_under, resume, snapshot, take_over
from tests.checkpoint.stores import Wrapped


def commit(attempt, step, *paths):
    """Commit a checkpoint with these files as they are now; return their manifest entries."""
    sizes = {str(path): path.stat().st_size for path in paths}
    return attempt.commit(replace(snapshot(step), append_only_files=sizes)).manifest.files


def restored(store, file, folder):
    """Restore the file on an empty machine and return its content."""
    path = folder / "elsewhere" / "file"
    assert restore_file(store, StoredFile(path=str(path), parts=file.parts)) == (file.size > 0)
    return path.read_bytes() if path.exists() else b""


@settings(max_examples=25)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=30))
def test_every_checkpoint_has_its_own_prefix(steps):
    """Each checkpoint restores exactly the content at its time, whatever was written since."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        store = LocalStore(folder / "store")
        attempt = take_over(store, keep=100)
        path, content, saved = folder / "log.csv", b"", []
        for number, step in enumerate(steps):
            content += bytes([number % 256]) * step
            path.write_bytes(content)
            (file,) = commit(attempt, number, path)
            saved.append((file, content))
            assert len(file.parts) <= 2 + max(1, len(content)).bit_length()
        for number, (file, expected) in enumerate(saved):
            assert restored(store, file, folder / str(number)) == expected


def test_each_byte_is_sent_a_few_times_at_most(tmp_path):
    """A byte of a file that grows line by line is sent about log n times, not n times."""
    store = Wrapped(LocalStore(tmp_path / "store"))
    sent = []
    put = store.put
    store.put = lambda key, body, **more: sent.append((key, body)) or put(key, body, **more)
    attempt = take_over(store)
    path = tmp_path / "log.csv"
    for number in range(64):
        with open(path, "ab") as file:
            file.write(b"x" * 100)
        commit(attempt, number, path)
    parts = sum(len(body[0]) for key, body in sent if "/logs/" in key)
    assert parts <= 8 * 6400


def test_next_attempt_reuses_the_parts(tmp_path):
    """It sends only what is new, and the parts that it builds on stay after it has pruned."""
    store = LocalStore(tmp_path / "store")
    path = tmp_path / "log.csv"
    path.write_bytes(b"a" * 1000)
    first = take_over(store, keep=1)
    (before,) = commit(first, 1, path)
    path.write_bytes(b"a" * 1000 + b"b" * 10)
    second = take_over(store, keep=1)
    assert resume(store, second).manifest.files == (before,)
    (after,) = commit(second, 2, path)
    second.sweep()
    assert after.parts[0] == before.parts[0]
    assert restored(store, after, tmp_path) == path.read_bytes()


def test_no_part_is_left_behind(tmp_path):
    """Parts that no kept manifest names are deleted with their manifests, or by the next sweep."""
    store = LocalStore(tmp_path / "store")
    path = tmp_path / "log.csv"
    take_over(store)
    attempt = take_over(store, keep=1)
    for number in range(10):
        path.write_bytes(b"line\n" * 10 * (number + 1))
        (file,) = commit(attempt, number, path)
    store.put(f"{RUN}/logs/log.csv/000000000000-0001-0099", [b"of a commit that was killed"])
    attempt.sweep()
    stored = {name for name in files_under(tmp_path / "store") if "/logs/" in name}
    assert stored == {part.key for part in file.parts}


def test_whole_file_among_the_artifacts(tmp_path):
    """The whole file is among the artifacts, by its own name, as it was at the last checkpoint."""
    store = LocalStore(tmp_path / "store")
    path = tmp_path / "log.csv"
    attempt = take_over(store)
    for content in (b"one\n", b"one\ntwo\n"):
        path.write_bytes(content)
        commit(attempt, len(content), path)
        (name,) = (n for n in files_under(tmp_path / "store") if "/artifacts/" in n)
        assert name.endswith("/log.csv")
        assert store.load(name)[0] == content


def test_file_that_a_fit_has_started_over(tmp_path):
    """The old parts are dropped, even if the file has grown longer than they were."""
    store = LocalStore(tmp_path / "store")
    path = tmp_path / "log.csv"
    attempt = take_over(store)
    path.write_bytes(b"old" * 10)
    commit(attempt, 1, path)
    attempt.begin_files({str(path): 0})
    path.write_bytes(b"new" * 20)
    (file,) = commit(attempt, 2, path)
    assert restored(store, file, tmp_path) == b"new" * 20


def test_commit_that_failed_leaves_the_parts_as_they_were(tmp_path):
    """Parts that no committed manifest names may be swept, so no later commit builds on them."""
    store = LocalStore(tmp_path / "store")
    path = tmp_path / "log.csv"
    attempt = take_over(store)
    path.write_bytes(b"a" * 100)
    commit(attempt, 1, path)
    path.write_bytes(b"a" * 100 + b"b" * 90)
    blocked = {f"{RUN}/checkpoints/0000000002-0001-0001.json"}
    store.put(*blocked, [b"in the way"])
    with pytest.raises(AlreadyExists):
        commit(attempt, 2, path)
    attempt.sweep()
    (file,) = commit(attempt, 3, path)
    assert restored(store, file, tmp_path) == path.read_bytes()


@pytest.mark.parametrize("content", [None, b"", b"other", b"right"])
def test_local_file_is_compared(tmp_path, content):
    """A local file that starts with the stored content stays; an image's stale file is replaced."""
    store = LocalStore(tmp_path / "store")
    path = tmp_path / "log.csv"
    path.write_bytes(b"right")
    (file,) = commit(take_over(store), 1, path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert restore_file(store, file) == (content != b"right")
    assert path.read_bytes() == b"right"
    path.write_bytes(b"right and longer")
    assert not restore_file(store, file)
    assert path.read_bytes() == b"right and longer"


@pytest.mark.parametrize(("damage", "error"), [("remove", NotFound), ("change", Damaged)])
def test_part_that_cannot_be_used(tmp_path, damage, error):
    """The error names the part, and the file on the machine is left alone."""
    store = LocalStore(tmp_path / "store")
    path = tmp_path / "log.csv"
    path.write_bytes(b"right")
    (file,) = commit(take_over(store), 1, path)
    part = tmp_path / "store" / file.parts[0].key
    part.unlink() if damage == "remove" else part.write_bytes(b"wrong")
    path.write_bytes(b"mine")
    with pytest.raises(error, match="logs/"):
        restore_file(store, file)
    assert path.read_bytes() == b"mine"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["log.csv"]


@pytest.mark.parametrize(
    "name", ["a/b.csv", "./a.csv", "../../up.csv", "sp ace/é.csv", "..", "a/../b"]
)
def test_keys_stay_within_the_run(name):
    """Wherever a script keeps its file, no part of the key can lead out of the run."""
    key = key_from_path(name)
    assert key
    assert not {"", ".", ".."} & set(key.split("/"))
    assert key.isascii()


def test_file_that_became_shorter(tmp_path):
    """A file that was truncated during training fails that save, in one line, but no later one."""
    store = LocalStore(tmp_path / "store")
    path = tmp_path / "log.csv"
    path.write_bytes(b"12345")
    attempt = take_over(store)
    with pytest.raises(OSError, match="has become shorter than 9 bytes"):
        attempt.commit(replace(snapshot(1), append_only_files={str(path): 9}))
    (file,) = commit(attempt, 2, path)
    assert file.size == 5
