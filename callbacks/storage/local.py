"""A directory as a Store.

An object is written under a temporary name, synced, and renamed into place under the lock of its
run, the first part of its key; then the directory is synced. After any crash, a key is absent or
whole, and what was committed remains.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

from keepfit.callbacks.storage.base import (
    MAX_LOAD,
    AlreadyExists,
    Body,
    Conflict,
    Damaged,
    Entry,
    NotFound,
    Replacement,
    StorageError,
    Transient,
    Version,
    every_key,
    too_large,
)
from keepfit.callbacks.storage.file_operations import FileOperations, NotRegular, open_regular
from keepfit.callbacks.storage.locks import LockLimits, holding

LOCK = ".lock"
TEMPORARY = ".tmp"


class LocalStore:
    """A store of objects as files below `root`, which is created with the first object."""

    parallel = 1

    def __init__(
        self,
        root: Path,
        files: FileOperations | None = None,
        locks: LockLimits = LockLimits(),  # noqa: B008 # frozen
    ) -> None:
        self._root = root.absolute()
        self._files = files or FileOperations()
        self._locks = locks
        self._writing: set[Path] = set()

    @property
    def uri(self) -> str:
        return f"file://{self._root}"

    def put(self, key: str, body: Body, *, digest: str | None = None) -> None:  # noqa: ARG002
        with self._translate_errors("write", key):
            path = self._path(key)
            if path.exists():
                raise AlreadyExists(f"{self.uri}/{key} exists already")
            with self._temporary_file(path, body) as temporary, self._locked(key):
                if path.exists():
                    raise AlreadyExists(f"{self.uri}/{key} exists already")
                self._place(temporary, path)

    def swap(self, key: str, body: bytes, *, expected: Version | None) -> Version:
        with (
            self._translate_errors("write", key),
            self._temporary_file(path := self._path(key), [body]) as temporary,
            self._locked(key),
        ):
            self._expect(key, expected)
            self._files.rename(temporary, path)
            try:
                self._files.sync(path.parent)
            except OSError as error:
                raise Transient(f"{self.uri}/{key} may not be durable: {error.strerror}") from error
        return _version(body)

    def load(self, key: str, limit: int = MAX_LOAD) -> tuple[bytes, Version]:
        with self._translate_errors("read", key), self._opened(key) as file:
            size = os.fstat(file.fileno()).st_size
            if size > limit:
                raise too_large(f"{self.uri}/{key}", size, limit)
            content = file.read(size)
        return content, _version(content)

    def version_of(self, key: str) -> Version:
        with self._translate_errors("read", key), self._opened(key) as file:
            return _version_of(file)

    def read_into(self, key: str, into: memoryview) -> None:
        with self._translate_errors("read", key), self._opened(key, buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size != into.nbytes:
                raise Damaged(f"{self.uri}/{key} has {size} bytes instead of {into.nbytes}")
            done = 0
            while done < size:
                done += (got := file.readinto(into[done:]) or 0)
                if not got:
                    raise Damaged(f"{self.uri}/{key} ended after {done} of {size} bytes")

    def list(self, prefix: str) -> Iterator[Entry]:
        with self._translate_errors("list", prefix):
            folder = self._path(prefix) if prefix.endswith("/") else self._path(prefix).parent
            found = list(self._entries(folder if prefix else self._root))
        yield from sorted((e for e in found if e.key.startswith(prefix)), key=lambda e: e.key)

    def folders(self, prefix: str) -> Iterator[str]:
        with self._translate_errors("list", prefix):
            path = self._path(prefix)
            found = (
                [entry.name for entry in os.scandir(path) if entry.is_dir()]
                if path.exists()
                else []
            )
        yield from sorted(name for name in found if not name.startswith("."))

    def delete(self, key: str) -> None:
        with self._translate_errors("delete", key):
            self._files.remove(self._path(key))

    def move(self, source: str, target: str, *, replace: Replacement | None = None) -> None:
        old, new = self._path(source), self._path(target)
        with self._translate_errors("move", source):
            old.stat()
        with self._translate_errors("move", source), self._locked(f"{source}/"):
            if new.exists():
                raise AlreadyExists(f"{self.uri}/{target} exists already")
            if replace:
                self._expect(replace.key, replace.expected)
            self._files.rename(old, new)
            self._files.sync(new.parent)
        if replace:
            with suppress(Conflict):  # another process has begun a new run already
                self.swap(replace.key, replace.body, expected=None)

    def clear_unfinished(self, prefix: str, older: Callable[[str], bool] = every_key) -> None:
        with self._translate_errors("clear", prefix):
            for path in self._path(prefix).rglob(f".*{TEMPORARY}"):
                # `older` can't tell whose HEAD it is; this process knows its own files.
                if path not in self._writing and older(self._key_of_temporary(path)):
                    self._files.remove(path)

    def _expect(self, key: str, version: Version | None) -> None:
        """Raise Conflict unless the object has this version (None: unless it does not exist)."""
        try:
            with self._opened(key) as file:
                present: Version | None = _version_of(file)
        except FileNotFoundError:
            present = None
        if present != version:
            raise Conflict(f"{self.uri}/{key} was changed by another writer")

    def _entries(self, folder: Path) -> Iterator[Entry]:
        for parent, _, names in os.walk(folder, onerror=_raise_unless_missing):
            for name in names:
                path = Path(parent, name)
                if not name.startswith("."):
                    with suppress(FileNotFoundError):  # deleted in the meantime
                        yield Entry(path.relative_to(self._root).as_posix(), path.stat().st_size)

    def _opened(self, key: str, buffering: int = -1) -> Any:
        """Open an object; anything but a regular file is an error, and is not waited for."""
        return os.fdopen(open_regular(self._path(key)), "rb", buffering)

    def _path(self, key: str) -> Path:
        """Return the path of an object, which is never outside the store, whatever the key.

        The store and the folder of a run may be links, but no folder below: whoever may write to a
        run could have another one's objects written, read or deleted.
        """
        parts = key.split("/")
        if "\0" in key or key.startswith("/") or ".." in parts:
            raise StorageError(f"{key!r} is not a valid key of {self.uri}")
        folder = self._root / parts[0]
        for part in parts[1:-1]:
            folder /= part
            if folder.is_symlink():
                raise StorageError(
                    f"{folder} is a link, and a run has none: what it leads to is not the run's"
                )
        return self._root / key

    @contextmanager
    def _temporary_file(self, path: Path, body: Body) -> Iterator[Path]:
        """Yield a synced temporary file beside `path` with the body; remove it after an error."""
        self._make_folders(path.parent)
        temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}{TEMPORARY}"
        self._writing.add(temporary)
        with ExitStack() as always, ExitStack() as after_error:
            always.callback(self._writing.discard, temporary)
            after_error.callback(self._files.remove, temporary)
            self._files.write(temporary, body)
            self._files.sync(temporary)
            yield temporary
            after_error.pop_all()

    def _key_of_temporary(self, path: Path) -> str:
        """Return the key of the object that a temporary file was to become."""
        name = path.name.removeprefix(".").removesuffix(TEMPORARY).rpartition(".")[0]
        return (path.parent / name).relative_to(self._root).as_posix()

    def _place(self, temporary: Path, path: Path) -> None:
        self._files.rename(temporary, path)
        self._files.sync(path.parent)

    def _make_folders(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folders(folder.parent)
        self._files.make_folder(folder)
        self._files.sync(folder.parent)

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Hold the lock of the key's run; that of the store for an object that is in no run."""
        run, separator, _ = key.partition("/")
        folder = self._root / run if separator else self._root
        self._make_folders(folder)
        with holding(self._files, folder / LOCK, self._locks):
            yield

    @contextmanager
    def _translate_errors(self, action: str, key: str) -> Iterator[None]:
        """Turn errors of the operating system into the store's, with the attempted operation."""
        try:
            yield
        except OSError as error:
            if action == "read" and isinstance(error, FileNotFoundError):
                raise NotFound(f"{self.uri}/{key} does not exist") from error
            kind = Damaged if isinstance(error, NotRegular) else StorageError
            raise kind(f"could not {action} {self.uri}/{key}: {error.strerror}") from error


def _raise_unless_missing(error: OSError) -> None:
    """Raise the error unless the directory does not exist: it then contains no objects."""
    if not isinstance(error, FileNotFoundError):
        raise error


def _version_of(file: BufferedReader) -> Version:
    """Return the version of an object of any size."""
    return Version(hashlib.file_digest(file, "sha256").hexdigest())


def _version(content: bytes) -> Version:
    return Version(hashlib.sha256(content).hexdigest())
