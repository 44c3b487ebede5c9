"""Behaviour of LocalStore alone: temporary files, folders, and errors of the system."""

import os
import re
import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import AlreadyExists, StorageError, Transient
from keepfit.callbacks.storage.file_operations import FileOperations
from keepfit.callbacks.storage.local import LocalStore
from tests.storage.faults import FaultyFiles, fail_with_io_error


class WatchedFiles(FaultyFiles):
    """File operations that call `look` before every step and in the middle of writes."""

    def __init__(self, look):
        super().__init__()
        self._look = look

    def _step(self, action, path):
        self._look()


def test_nothing_is_seen_half_written(tmp_path):
    """A reader sees all of an object or nothing while it is written."""
    old, new, seen = b"old" * 100, b"newer" * 100, []
    plain = LocalStore(tmp_path)
    plain.swap("run/HEAD", old, expected=None)

    def look():
        seen.append({entry.key: plain.load(entry.key)[0] for entry in plain.list("run/")})

    store = LocalStore(tmp_path, WatchedFiles(look))
    store.put("run/object", [new, new])
    store.swap("run/HEAD", new, expected=plain.load("run/HEAD")[1])
    look()
    expected = [
        {"run/HEAD": old},
        {"run/HEAD": old, "run/object": new + new},
        {"run/HEAD": new, "run/object": new + new},
    ]
    assert [s for i, s in enumerate(seen) if i == 0 or s != seen[i - 1]] == expected


def test_content_is_durable_before_its_name(tmp_path):
    """A power cut never leaves a name without its content: sync, rename, sync of the folder."""
    files = FaultyFiles()
    store = LocalStore(tmp_path, files)
    store.put("run/shards/object", [b"x"])
    folders = [tmp_path / "run", tmp_path / "run/shards"]
    assert [(a, p) for a, p in files.steps if a in ("make_folder", "sync", "rename")] == [
        ("make_folder", folders[0]),
        ("sync", tmp_path),
        ("make_folder", folders[1]),
        ("sync", folders[0]),
        ("sync", next(p for a, p in files.steps if a == "write")),
        ("rename", folders[1] / "object"),
        ("sync", folders[1]),
    ]


def test_temporary_files_of_killed_writers_are_cleared(tmp_path):
    """Files that killed writers left are deleted under the prefix, and stay elsewhere."""
    store = LocalStore(tmp_path)
    store.put("run/shards/object", [b"x"])
    store.put("run2/object", [b"x"])
    left = [".HEAD.json.12ab.tmp", "shards/.object.34cd.tmp"]
    for name in left:
        (tmp_path / "run" / name).write_bytes(b"half")
        (tmp_path / "run2" / Path(name).name).write_bytes(b"half")
    assert [e.key for e in store.list("run")] == ["run/shards/object", "run2/object"]
    store.clear_unfinished("run/")
    assert names(tmp_path / "run") == [".lock", "shards/object"]
    assert len(names(tmp_path / "run2")) == 4


@pytest.mark.parametrize("action", ["put", "swap"])
def test_a_failed_write_leaves_no_file(tmp_path, action):
    """A write that fails at any step leaves the object absent or whole, and no temporary file."""
    files = FaultyFiles(fail_with_io_error)
    store = LocalStore(tmp_path / "dry", files)
    write(store, action)
    for at in range(len(files.steps)):
        files = FaultyFiles(fail_with_io_error)
        files.arm(at)
        store = LocalStore(tmp_path / str(at), files)
        with pytest.raises(StorageError, match=r"file://\S*/run/object"):
            write(store, action)
        left = [name for name in names(tmp_path / str(at)) if name != "run/.lock"]
        failed, path = files.steps[at]
        if failed == "remove":
            assert set(left) <= {"run/object", f"run/{path.name}"}
        else:
            assert set(left) <= {"run/object"}, failed
        if "run/object" in left:
            assert store.load("run/object")[0] == b"content"


def test_swap_that_can_not_be_made_durable_has_an_unknown_outcome(tmp_path):
    """Once HEAD is renamed, a failing sync must not be reported as a swap that did not happen."""
    files = FaultyFiles(fail_with_io_error)
    store = LocalStore(tmp_path, files)
    version = store.swap("run/HEAD", b"1", expected=None)
    files.arm()
    version = store.swap("run/HEAD", b"2", expected=version)
    last_sync = max(i for i, (action, _) in enumerate(files.steps) if action == "sync")
    files.arm(last_sync)
    with pytest.raises(Transient):
        store.swap("run/HEAD", b"3", expected=version)


def write(store, action):
    if action == "put":
        store.put("run/object", [b"con", b"tent"])
    else:
        store.swap("run/object", b"content", expected=None)


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_move_onto_a_run_is_refused(tmp_path):
    """An existing target is neither merged nor replaced."""
    store = LocalStore(tmp_path)
    store.put("a/x", [b"a"])
    store.put("b/x", [b"b"])
    with pytest.raises(AlreadyExists):
        store.move("a", "b")
    assert [store.load(key)[0] for key in ("a/x", "b/x")] == [b"a", b"b"]


def test_list_of_everything_stays_inside(tmp_path):
    """The empty prefix lists the store, not its neighbours."""
    (tmp_path / "neighbour").write_bytes(b"mine")
    store = LocalStore(tmp_path / "store")
    store.put("run/object", [b"x"])
    assert [entry.key for entry in store.list("")] == ["run/object"]


def test_list_while_another_deletes(tmp_path):
    """An object that is deleted during a listing is left out, without an error."""
    store = LocalStore(tmp_path)
    done = threading.Event()

    def churn():
        while not done.is_set():
            for i in range(20):
                (tmp_path / f"x{i}").write_bytes(b"1")
            for i in range(20):
                store.delete(f"x{i}")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(1500):
            list(store.list("x"))
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("action", ["put", "swap", "load", "read_into", "move"])
def test_root_that_is_a_file(tmp_path, action):
    """One line names the store and the cause."""
    root = tmp_path / "file"
    root.write_bytes(b"not a folder")
    assert_one_line(attempt(LocalStore(root), action), root, "Not a directory|exists|File exists")
    assert root.read_bytes() == b"not a folder"


@pytest.mark.parametrize("action", ["list", "list below"])
def test_folder_that_may_not_be_listed(action):
    """A folder that can't be listed is not treated as empty: a run would start from zero."""
    with TemporaryDirectory() as name:  # not pytest's folder, which other users may not enter
        Path(name).chmod(0o755)
        store = LocalStore(Path(name))
        store.put("run/checkpoints/object", [b"x"])
        (Path(name) / "run/checkpoints").chmod(0o000)
        message = as_nobody(lambda: attempt(store, action))
        (Path(name) / "run/checkpoints").chmod(0o755)
    assert re.fullmatch(rf"could not list file://{name}/run/\S*: Permission denied", message)


@pytest.mark.parametrize("action", ["put", "swap", "load", "read_into"])
def test_root_that_may_not_be_used(tmp_path, action):
    """One line reports the missing permission, also if the tests run as root."""
    root = tmp_path / "closed"
    root.mkdir(mode=0o500 if action in ("put", "swap") else 0o000)
    message = as_nobody(lambda: attempt(LocalStore(root / "store"), action))
    assert_one_line(message, root, "Permission denied")


ACTIONS = {
    "put": lambda store: write(store, "put"),
    "swap": lambda store: write(store, "swap"),
    "load": lambda store: store.load("run/object"),
    "read_into": lambda store: store.read_into("run/object", memoryview(bytearray(3))),
    "move": lambda store: store.move("run", "other"),
    "list": lambda store: list(store.list("run/")),
    "list below": lambda store: list(store.list("run/checkpoints/")),
}


def attempt(store, action):
    """Return the message of the StorageError that the action raises."""
    with pytest.raises(StorageError) as caught:
        ACTIONS[action](store)
    return str(caught.value)


def assert_one_line(message, root, cause):
    """Assert that the message is one line with the operation, the object and the cause."""
    verb = r"could not (write|read|move)"
    assert re.fullmatch(rf"{verb} file://{root}\S*/\S+: ({cause})", message), message


def as_nobody(call):
    """Return what `call` returns in a child process without root's rights."""
    receive, send = os.pipe()
    if not (child := os.fork()):
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            os.write(send, call().encode())
        finally:
            os._exit(0)
    os.close(send)
    os.waitpid(child, 0)
    with open(receive, "rb") as pipe:
        return pipe.read().decode()


@pytest.mark.parametrize("key", ["/etc/hostname", "../outside", "run/../../outside", "run/\0"])
def test_keys_do_not_lead_out_of_the_store(tmp_path, key):
    """A key from a damaged document that leads out of the store is refused with a StorageError."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    store = LocalStore(tmp_path / "store")
    store.put("run/object", [b"x"])
    with pytest.raises(StorageError):
        store.load(key)
    with pytest.raises(StorageError):
        store.read_into(key, memoryview(bytearray(4)))
    with pytest.raises(StorageError):
        store.put(key, [b"x"])
    if not key.startswith("/"):
        with pytest.raises(StorageError):
            store.delete(key)
    assert outside.read_bytes() == b"mine"


def test_operations_for_tests_match_the_default(tmp_path):
    """The default operations and those for tests leave the same files."""
    for name, files in (("plain", None), ("explicit", FileOperations()), ("faulty", FaultyFiles())):
        LocalStore(tmp_path / name, files).put("run/object", [b"1", b"2"])
    found = [names(tmp_path / name) for name in ("plain", "explicit", "faulty")]
    assert found == [["run/.lock", "run/object"]] * 3


def test_open_store_relative_and_absolute(tmp_path, monkeypatch):
    """A relative path is resolved when the store is opened; a later chdir does not change it."""
    monkeypatch.chdir(tmp_path)
    relative, absolute = open_store("file://./runs"), open_store(f"file://{tmp_path}/runs")
    assert relative.uri == absolute.uri == f"file://{tmp_path}/runs"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    relative.put("object", [b"1"])
    assert absolute.load("object")[0] == b"1"


def test_open_store_creates_nothing(tmp_path):
    """A store is created with its first object, not when it is opened."""
    store = open_store(f"file://{tmp_path}/runs")
    list(store.list("run/"))
    assert not (tmp_path / "runs").exists()


def test_open_store_takes_any_path(tmp_path):
    """Characters with a meaning in a URL are ordinary characters of a path."""
    for name in ("a b", "a?b", "a#b", "[a", "a%20b", "ä"):
        assert open_store(f"file://{tmp_path}/{name}").uri == f"file://{tmp_path}/{name}"
    assert open_store("file://[a").uri.endswith("/[a")


def test_open_store_at_home(tmp_path, monkeypatch):
    """A tilde is the home directory, as in a shell."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("file://~/runs").uri == f"file://{tmp_path}/runs"


@pytest.mark.parametrize(
    "uri",
    [
        *("", "runs", "./runs", "/runs", "file:", "file:runs", "file://", "file//x"),
        *("gs://bucket", "http://host/x", "FILE://x", "x://[y"),
    ],
)
def test_open_store_refuses_other_forms(uri):
    """One line names the possible forms and the value that was received."""
    with pytest.raises(ConfigurationError) as caught:
        open_store(uri)
    message = str(caught.value)
    assert message.endswith(f"Received: store={uri!r}")
    assert "file://" in message
    assert "\n" not in message
