"""The files of a training's callbacks, in the store: parts for resume, whole files for people.

Of an append-only file each checkpoint sends what it has grown by since the one before it. A part is
written once and named by manifests, as shards are. Small parts at the end are sent again as one, so
that a file of n parts has had each byte sent about log n times, and n stays small.

A file that is replaced as a whole is sent when it has changed. If training replaces it once more
while it is read, the checkpoint has it as it was before: what came after the checkpoint will be
done again, and with it the file.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from keepfit.callbacks.checkpoint.manifest import (
    Manifest,
    StoredFile,
    StoredPart,
    artifact_key,
    part_key,
)
from keepfit.callbacks.checkpoint.reader import MAX_READS
from keepfit.callbacks.checkpoint.snapshot import FileStamp, stamp_of
from keepfit.callbacks.storage.base import Conflict, Damaged, Store, Version

MAX_PART_SIZE = 64 << 20
"""Bytes from which a part is never sent again, and of a part of a whole file."""

SMALL_ARTIFACT = 1 << 20
"""Bytes up to which the whole file is sent with each checkpoint, for people to look at."""


class FileUploader:
    """What of the files is in the store. Not thread-safe, as the attempt that owns it."""

    def __init__(self, store: Store, run: str, attempt: int) -> None:
        self._store = store
        self._run = run
        self._attempt = attempt
        self._parts: dict[str, tuple[StoredPart, ...]] = {}
        self._whole: dict[str, StoredFile] = {}
        self._marks: dict[str, FileStamp] = {}
        self._shown: dict[str, int] = {}
        self._versions: dict[str, Version] = {}

    def resume_from(self, manifest: Manifest) -> None:
        """Go on from the files as they were at a checkpoint."""
        self._parts = {log.path: log.parts for log in manifest.files if not log.whole}
        self._whole = {log.path: log for log in manifest.files if log.whole}

    def begin(self, sizes: Mapping[str, int]) -> None:
        """Forget the files that a `fit` has begun anew, given how long they are now."""
        for path, size in sizes.items():
            if size < _total_size(self._parts.get(path, ())):
                del self._parts[path]

    def send(
        self, sizes: Mapping[str, int], files: Mapping[str, FileStamp], sequence: int
    ) -> tuple[StoredFile, ...]:
        """Send what is new in the append-only files, up to these sizes, and the whole ones.

        Raises:
            OSError: a file can't be read.
            StorageError: it could not be sent.
        """
        grown = (
            StoredFile(path=path, parts=self._with_new_part(path, size, sequence))
            for path, size in sorted(sizes.items())
        )
        whole = (self._as_whole(path, mark, sequence) for path, mark in sorted(files.items()))
        return (*grown, *(log for log in whole if log))

    def confirm(self, manifest: Manifest) -> None:
        """The checkpoint that names these parts is in force, so they will stay."""
        self.resume_from(manifest)

    def show(self, manifest: Manifest) -> None:
        """Put whole files where people look for them, the larger ones only now and then.

        Raises:
            StorageError: one of them could not be sent.
        """
        for log in (log for log in manifest.files if not log.whole):
            grown = log.size >= 2 * self._shown.get(log.path, 0)
            if log.size <= SMALL_ARTIFACT or grown or manifest.position.finished:
                self._show(log)
                self._shown[log.path] = log.size

    def _with_new_part(self, path: str, size: int, sequence: int) -> tuple[StoredPart, ...]:
        parts = list(self._parts.get(path, ()))
        if size < _total_size(parts):
            parts = []
        start = _total_size(parts)
        if size == start:
            return tuple(parts)
        while parts and parts[-1].size < min(MAX_PART_SIZE, 2 * (size - start)):
            start -= parts.pop().size
        content = _read(path, start, size)
        key = part_key(self._run, _key_from_path(path), start, self._attempt, sequence)
        digest = hashlib.sha256(content).hexdigest()
        self._store.put(key, [content], digest=digest)
        return (*parts, StoredPart(key=key, digest=digest, size=len(content)))

    def _as_whole(self, path: str, mark: FileStamp, sequence: int) -> StoredFile | None:
        """The file as it is at `mark`, or, if it is so no more, as it was sent last."""
        before = self._whole.get(path)
        if before and self._marks.get(path) == mark:
            return before
        known = before.parts if before else ()
        parts = []
        for i, start in enumerate(range(0, mark.size, MAX_PART_SIZE)):
            if stamp_of(path) != mark:
                return before
            content = _read(path, start, min(mark.size, start + MAX_PART_SIZE))
            digest = hashlib.sha256(content).hexdigest()
            if stamp_of(path) != mark:
                return before
            if i < len(known) and known[i].digest == digest:
                parts.append(known[i])
                continue
            key = part_key(self._run, _key_from_path(path), start, self._attempt, sequence)
            self._store.put(key, [content], digest=digest)
            parts.append(StoredPart(key=key, digest=digest, size=len(content)))
        self._marks[path] = mark
        return StoredFile(path=path, parts=tuple(parts), whole=True)

    def _show(self, log: StoredFile) -> None:
        key = artifact_key(self._run, _key_from_path(log.path))
        content = _read(log.path, 0, log.size)
        try:
            version = self._store.swap(key, content, expected=self._versions.get(key))
        except Conflict:  # an earlier attempt's
            _, version = self._store.load(key)
            version = self._store.swap(key, content, expected=version)
        self._versions[key] = version


def restore_file(store: Store, log: StoredFile) -> bool:
    """Give a file the content that it had at the checkpoint, unless it still has it.

    An append-only file that is longer and begins with that content is left alone. It is written in
    place, since the script may hold it open already; one that is whole is replaced.

    Returns:
        Whether it was written.

    Raises:
        NotFound, Damaged: a part can't be used; the file was left alone.
        OSError: it can't be written.
    """
    path = Path(log.path)
    longer = path.exists() and path.stat().st_size > log.size
    if _begins_with(path, log) and not (log.whole and longer):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "xb") as file:
            for part in log.parts:
                file.write(_read_part(store, part))
            file.flush()
            os.fsync(file.fileno())
        if log.whole or not path.exists():
            temporary.rename(path)
        else:
            _overwrite(path, temporary)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _overwrite(path: Path, source: Path) -> None:
    """The content of `source` into the same file; a crash in between is found by the next."""
    with open(source, "rb") as new, open(path, "r+b") as file:
        file.truncate(0)
        shutil.copyfileobj(new, file)
        file.flush()
        os.fsync(file.fileno())


def _read_part(store: Store, part: StoredPart) -> bytearray:
    """The bytes of a part, verified."""
    content = bytearray(part.size)
    for _ in range(MAX_READS):
        store.read_into(part.key, memoryview(content))
        if hashlib.sha256(content).hexdigest() == part.digest:
            return content
    raise Damaged(f"{store.uri}/{part.key} is not what was written")


def _begins_with(path: Path, log: StoredFile) -> bool:
    if not path.exists():
        return log.size == 0
    with open(path, "rb") as file:
        return all(
            hashlib.sha256(file.read(part.size)).hexdigest() == part.digest for part in log.parts
        )


def _read(path: str, start: int, end: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        content = file.read(end - start)
    if len(content) < end - start:
        raise OSError(f"{path} has become shorter than {end} bytes while training went on")
    return content


def _total_size(parts: tuple[StoredPart, ...] | list[StoredPart]) -> int:
    return sum(part.size for part in parts)


def _key_from_path(path: str) -> str:
    """The path as a part of a key: no root, no `..`, no character that S3 or a folder minds."""
    parts = (quote(part, safe=" ()+=@") for part in path.split("/") if part not in ("", "."))
    return "/".join("%2E%2E" if part == ".." else part for part in parts)
