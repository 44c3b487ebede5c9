"""What is no object of the store, or a larger one than anybody has written, is one line."""

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
