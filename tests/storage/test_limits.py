"""Pipes, folders, links and oversized files in a store: each operation ends with one error."""

from __future__ import annotations

import os
import socket

import pytest

from keepfit.callbacks.storage.base import MAX_LOAD, Damaged, StorageError
from keepfit.callbacks.storage.local import LocalStore


def test_load_reads_no_more_than_its_limit(store):
    """An object above the limit is named with its size; one of exactly the limit is read."""
    store.put("run/object", [b"x" * 100])
    assert len(store.load("run/object", 100)[0]) == 100
    with pytest.raises(Damaged, match="has 100 bytes, and at most 99 are read"):
        store.load("run/object", 99)


def test_version_of_is_that_of_load(store):
    """The version of an object is known without its content, and a swap takes it."""
    store.put("run/object", [b"one"])
    version = store.version_of("run/object")
    assert version == store.load("run/object")[1]
    store.swap("run/object", b"two", expected=version)
    assert store.version_of("run/object") != version


KINDS = {
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a link": lambda path: path.symlink_to("/etc/hostname"),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_not_waited_for(tmp_path, kind):
    """It is damaged for every reader, and a swap leaves it as it is."""
    (tmp_path / "run").mkdir()
    KINDS[kind](tmp_path / "run" / "o")
    before = (tmp_path / "run" / "o").lstat()
    store = LocalStore(tmp_path)
    for read in (
        lambda: store.load("run/o"),
        lambda: store.version_of("run/o"),
        lambda: store.read_into("run/o", memoryview(bytearray(3))),
        lambda: store.swap("run/o", b"x", expected=None),
    ):
        with pytest.raises(Damaged, match=r"it is (not a regular file|a folder)"):
            read()
    assert (tmp_path / "run" / "o").lstat().st_ino == before.st_ino


def test_twenty_gigabytes_are_not_read(tmp_path):
    """The size alone is enough to tell that it is no document."""
    path = tmp_path / "run" / "HEAD.json"
    path.parent.mkdir()
    path.touch()
    os.truncate(path, 20 << 30)
    with pytest.raises(Damaged, match=f"has {20 << 30} bytes, and at most {MAX_LOAD} are read"):
        LocalStore(tmp_path).load("run/HEAD.json")


@pytest.mark.parametrize("name", ["shards", "logs", ".lock"])
def test_a_link_within_a_run_leads_nowhere(tmp_path, name):
    """Nothing is written, or locked, where a link in a run's folder leads to."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "store" / "run").mkdir(parents=True)
    target = tmp_path / "outside" / ("lock" if name == ".lock" else "")
    (tmp_path / "store" / "run" / name).symlink_to(target)
    key = "run/logs/a/x" if name == "logs" else "run/shards/x"
    with pytest.raises(StorageError, match="link"):
        LocalStore(tmp_path / "store").put(key, [b"x"])
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.parametrize("name", ["store", "store/run"])
def test_a_store_or_a_run_may_be_a_link(tmp_path, name):
    """The user has put it on another disk: everything is as without the link."""
    (tmp_path / "disk").mkdir()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to(tmp_path / "disk")
    store = LocalStore(tmp_path / "store")
    store.put("run/shards/x", [b"x"])
    version = store.swap("run/HEAD", b"1", expected=None)
    store.swap("run/HEAD", b"2", expected=version)
    assert store.load("run/HEAD")[0] == b"2"
    store.delete("run/shards/x")
    assert {path.name for path in (tmp_path / "disk").rglob("*") if path.is_file()} >= {"HEAD"}


def test_a_link_in_a_run_reaches_no_object_of_another(tmp_path):
    """No operation follows it, however deep below the link the object would be."""
    store = LocalStore(tmp_path)
    store.put("other/logs/a/x", [b"theirs"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "logs").symlink_to(tmp_path / "other" / "logs")
    for use in (
        lambda: store.delete("run/logs/a/x"),
        lambda: store.load("run/logs/a/x"),
        lambda: store.read_into("run/logs/a/x", memoryview(bytearray(6))),
        lambda: store.put("run/logs/a/y", [b"mine"]),
        lambda: store.swap("run/logs/a/x", b"mine", expected=None),
        lambda: list(store.list("run/logs/")),
        lambda: store.clear_unfinished("run/logs/a/"),
    ):
        with pytest.raises(StorageError, match="is a link, and a run has none"):
            use()
    assert list(store.list("run/")) == []
    assert store.load("other/logs/a/x")[0] == b"theirs"
    assert [entry.key for entry in store.list("other/")] == ["other/logs/a/x"]
