"""The contract that every Store implements, local or in S3."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import (
    AlreadyExists,
    Conflict,
    Damaged,
    Entry,
    NotFound,
    Replacement,
    StorageError,
)

REPOSITORY = Path(__file__).parents[2]


def read(store, key):
    return store.load(key)[0]


def keys(store, prefix=""):
    return [entry.key for entry in store.list(prefix)]


@pytest.mark.parametrize(
    "body",
    [
        [],
        [b""],
        [b"one"],
        [b"", b"a", b"", memoryview(b"bc"), b""],
        [bytes([i % 256]) for i in range(3000)],
        [memoryview(bytearray(1 << 20)), b"end"],
    ],
    ids=["none", "empty", "one", "holes", "many", "large"],
)
def test_put_writes_the_concatenation(store, body):
    """An object is the concatenation of its buffers, however many and however empty they are."""
    whole = b"".join(body)
    store.put("run/object", body)
    into = bytearray(len(whole))
    store.read_into("run/object", memoryview(into))
    assert read(store, "run/object") == bytes(into) == whole
    assert list(store.list("run/")) == [Entry("run/object", len(whole))]


def test_put_takes_memory_that_is_not_bytes(store):
    """A buffer of any item type is written as the bytes that it consists of."""
    numbers = memoryview(bytes(range(32))).cast("d")
    store.put("object", [numbers])
    assert read(store, "object") == bytes(range(32))


def test_put_again_leaves_the_content_alone(store):
    """A key is written once: a second put raises AlreadyExists and changes nothing."""
    store.put("run/object", [b"first"])
    with pytest.raises(AlreadyExists, match=r"run/object"):
        store.put("run/object", [b"second, and longer"])
    assert read(store, "run/object") == b"first"
    assert keys(store) == ["run/object"]


def test_swap_that_expects_none(store):
    """`expected=None` means that the object must not exist."""
    version = store.swap("run/HEAD", b"1", expected=None)
    assert store.load("run/HEAD") == (b"1", version)
    with pytest.raises(Conflict, match=r"run/HEAD"):
        store.swap("run/HEAD", b"2", expected=None)
    assert store.load("run/HEAD") == (b"1", version)


def test_swap_from_the_version_it_returned(store):
    """A single writer can swap repeatedly without reading."""
    version = None
    for number in range(5):
        version = store.swap("HEAD", str(number).encode(), expected=version)
        assert store.load("HEAD") == (str(number).encode(), version)


def test_swap_from_the_version_that_load_returned(store):
    """The version that load returns can be swapped, also through another handle."""
    store.swap("HEAD", b"1", expected=None)
    other = open_store(store.uri)
    version = other.swap("HEAD", b"2", expected=other.load("HEAD")[1])
    assert store.load("HEAD") == (b"2", version)


def test_stale_swap_conflicts(store):
    """A swap from an old version is refused, and the newer content stays."""
    old = store.swap("HEAD", b"1", expected=None)
    new = store.swap("HEAD", b"2", expected=old)
    with pytest.raises(Conflict):
        store.swap("HEAD", b"3", expected=old)
    assert store.load("HEAD") == (b"2", new)


def test_swap_of_a_deleted_object_conflicts(store):
    """A swap from the version of a deleted object is refused."""
    version = store.swap("HEAD", b"1", expected=None)
    store.delete("HEAD")
    with pytest.raises(Conflict):
        store.swap("HEAD", b"2", expected=version)
    assert keys(store) == []


def test_swap_may_write_an_empty_object(store):
    """An empty object exists and has a version."""
    version = store.swap("HEAD", b"", expected=None)
    assert store.load("HEAD") == (b"", version)
    store.swap("HEAD", b"more", expected=version)
    assert read(store, "HEAD") == b"more"


def test_one_of_many_processes_wins_each_swap(store):
    """Exactly one of several processes wins a swap from the same version; no update is lost."""
    count, rounds, turns = 4, 25, 15
    with ExitStack() as stack:
        racers = [stack.enter_context(racer(store.uri, f"racer{i}", turns)) for i in range(count)]
        assert [line(process) for process in racers] == ["ready"] * count
        version = ""
        for number in range(rounds):
            for process in racers:
                process.stdin.write(f"{version}\n")
                process.stdin.flush()
            results = [line(process) for process in racers]
            assert sorted(results) == ["lost"] * (count - 1) + ["won"], number
            content, version = store.load("race/key")
            assert content == f"{number} racer{results.index('won')}".encode()
        for process in racers:
            process.stdin.close()
        assert [process.wait() for process in racers] == [0] * count
    assert read(store, "race/key.count") == str(count * turns).encode()
    assert keys(store) == ["race/key", "race/key.count"]


def racer(uri, name, turns):
    """Start a process that races for `race/key`."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.storage.racer", uri, "race/key", name, str(turns)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line(process):
    return process.stdout.readline().strip()


@pytest.mark.parametrize("key", ["object", "run/object", "no/such/folder/object"])
def test_missing_object(store, key):
    """NotFound names the object, before anything was written and afterwards."""
    for _ in range(2):
        with pytest.raises(NotFound, match=key):
            store.load(key)
        with pytest.raises(NotFound, match=key):
            store.read_into(key, memoryview(bytearray(1)))
        with pytest.raises(NotFound, match=key):
            store.read_into(key, memoryview(bytearray()))
        if not keys(store):
            store.put("run/other", [b"x"])


@pytest.mark.parametrize("size", [0, 4, 6, 1 << 20])
def test_read_into_another_size_is_damage(store, size):
    """A buffer whose size differs from the object's is Damaged, never silently half filled."""
    store.put("run/object", [b"12345"])
    with pytest.raises(Damaged, match=r"run/object"):
        store.read_into("run/object", memoryview(bytearray(size)))


def test_list_is_in_order_of_keys(store):
    """Keys are listed with their sizes in string order, across folders."""
    sizes = {"a/2": 2, "a-1": 1, "a/10": 3, "a/b/c/d": 4, "a.x": 0, "b": 5}
    for key, size in sizes.items():
        store.put(key, [bytes(size)])
    expected = [Entry(key, sizes[key]) for key in sorted(sizes)]
    assert list(store.list("a")) == expected[:-1]
    assert list(store.list("a/")) == [e for e in expected if e.key.startswith("a/")]


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", ["run/x", "run/y/z", "run2/x", "rut"]),
        ("r", ["run/x", "run/y/z", "run2/x", "rut"]),
        ("ru", ["run/x", "run/y/z", "run2/x", "rut"]),
        ("run", ["run/x", "run/y/z", "run2/x"]),
        ("run/", ["run/x", "run/y/z"]),
        ("run/y", ["run/y/z"]),
        ("run/y/", ["run/y/z"]),
        ("run/x", ["run/x"]),
        ("run/none", []),
        ("none/none/", []),
    ],
)
def test_list_prefixes(store, prefix, expected):
    """A prefix is the beginning of a key, not a folder."""
    for key in ("run/x", "run/y/z", "run2/x", "rut"):
        store.put(key, [b"x"])
    assert keys(store, prefix) == expected


def test_list_of_an_empty_store(store):
    """A store in which nothing was written yet lists nothing, whatever the prefix."""
    assert keys(store, "run/") == keys(store, "run") == keys(store, "") == []


def test_delete_is_idempotent(store):
    """Deleting twice, or a missing object, is no error; the key can be written again."""
    store.delete("run/object")
    store.put("run/object", [b"1"])
    store.put("run/other", [b"2"])
    store.delete("run/object")
    store.delete("run/object")
    assert keys(store) == ["run/other"]
    store.put("run/object", [b"3"])
    assert read(store, "run/object") == b"3"


def test_move_takes_everything_and_nothing_else(store):
    """Every object of the source is moved to the target, and keys with the same prefix stay."""
    for key in ("run/HEAD.json", "run/shards/a", "run2/x", "run.old/y"):
        store.put(key, [key.encode()])
    store.move("run", "run.aside")
    assert keys(store) == ["run.aside/HEAD.json", "run.aside/shards/a", "run.old/y", "run2/x"]
    assert read(store, "run.aside/shards/a") == b"run/shards/a"
    store.swap("run/HEAD.json", b"new", expected=None)
    assert read(store, "run.aside/HEAD.json") == b"run/HEAD.json"


def test_move_replaces_one_object(store):
    """The old content is moved, and the new one is there afterwards."""
    store.put("run/shards/a", [b"a"])
    version = store.swap("run/HEAD.json", b"old", expected=None)
    store.move("run", "aside", replace=Replacement("run/HEAD.json", b"new", version))
    assert keys(store) == ["aside/HEAD.json", "aside/shards/a", "run/HEAD.json"]
    assert read(store, "aside/HEAD.json") == b"old"
    assert read(store, "run/HEAD.json") == b"new"


def test_move_whose_replaced_object_has_changed(store):
    """Nothing is deleted, since whoever has changed it may need the rest."""
    store.put("run/shards/a", [b"a"])
    version = store.swap("run/HEAD.json", b"old", expected=None)
    store.swap("run/HEAD.json", b"changed", expected=version)
    with pytest.raises(Conflict):
        store.move("run", "aside", replace=Replacement("run/HEAD.json", b"new", version))
    assert read(store, "run/HEAD.json") == b"changed"
    assert read(store, "run/shards/a") == b"a"


def test_clear_unfinished_leaves_finished_objects(store):
    """Only half-written objects are deleted; a store that was never interrupted has none."""
    store.clear_unfinished("run/")
    store.put("run/object", [b"1"])
    store.swap("run/HEAD", b"2", expected=None)
    store.clear_unfinished("run/")
    assert keys(store) == ["run/HEAD", "run/object"]
    store.clear_unfinished("none/")


def test_uri_opens_the_same_store(store):
    """The store's `uri` opens the same store."""
    store.put("object", [b"1"])
    assert open_store(store.uri).uri == store.uri
    assert read(open_store(store.uri), "object") == b"1"


def test_every_error_is_a_storage_error():
    """A caller that handles StorageError handles every error that a store raises."""
    assert all(issubclass(e, StorageError) for e in (AlreadyExists, Conflict, Damaged, NotFound))
