"""The callbacks' files in the store: parts to resume from, and whole files for users.

Of an append-only file, each checkpoint uploads the bytes that were appended since the checkpoint
before it. A part is written once and named by manifests, as shards are. Small parts at the end are
uploaded again as one, so that each byte of a file of n parts has been uploaded about log n times,
and n stays small.

A file that is replaced as a whole is uploaded when it has changed. If training replaces it again
while it is being read, the checkpoint has the version before: the steps after the checkpoint will
be repeated, and they write the file again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from keepfit.callbacks.checkpoint.key_names import keys_from_paths
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
"""Size in bytes from which a part is never uploaded again; also the part size of whole files."""

SMALL_ARTIFACT = 1 << 20
"""Size in bytes up to which a file's copy for users is uploaded again at each checkpoint."""


class FileUploader:
    """Uploads the files, and tracks which parts are stored. Not thread-safe, like its Attempt."""

    def __init__(self, store: Store, run: str, attempt: int) -> None:
        self._store = store
        self._run = run
        self._attempt = attempt
        self._parts: dict[str, tuple[StoredPart, ...]] = {}
        self._replaced: dict[str, StoredFile] = {}
        self._stamps: dict[str, FileStamp] = {}
        self._published_sizes: dict[str, int] = {}
        self._versions: dict[str, Version] = {}
        self._key_names: dict[str, str] = {}

    def resume_from(self, manifest: Manifest) -> None:
        """Continue from the files as they were at a checkpoint."""
        self._parts = {file.path: file.parts for file in manifest.files if not file.whole}
        self._replaced = {file.path: file for file in manifest.files if file.whole}

    def begin(self, sizes: Mapping[str, int]) -> None:
        """Forget the parts of files that a `fit` has started over.

        Args:
            sizes: present size in bytes of each append-only file, by path.
        """
        for path, size in sizes.items():
            if size < _total_size(self._parts.get(path, ())):
                del self._parts[path]

    def send(
        self, sizes: Mapping[str, int], files: Mapping[str, FileStamp], sequence: int
    ) -> tuple[StoredFile, ...]:
        """Upload the new bytes of append-only files, and the replaced files that have changed.

        Args:
            sizes: append-only files by path, each with the number of bytes to upload up to.
            files: files that are replaced as a whole, by path, each with its stamp.
            sequence: the checkpoint's number within the attempt.

        Returns:
            The files as the manifest names them.

        Raises:
            OSError: a file can't be read.
            StorageError: a file could not be uploaded.
        """
        self._key_names = keys_from_paths((*sizes, *files))
        grown = (
            StoredFile(path=path, parts=self._with_new_part(path, size, sequence))
            for path, size in sorted(sizes.items())
        )
        replaced = (
            self._replaced_file(path, stamp, sequence) for path, stamp in sorted(files.items())
        )
        return (*grown, *(file for file in replaced if file))

    def confirm(self, manifest: Manifest) -> None:
        """Record that the checkpoint that names these parts is committed, so they are kept."""
        self.resume_from(manifest)

    def publish_artifacts(self, manifest: Manifest) -> None:
        """Upload append-only files as whole artifacts for users.

        A small file is uploaded at each checkpoint, a larger one when it has doubled in size and
        when the fit has finished.

        Raises:
            OSError: a file can't be read.
            StorageError: an artifact could not be uploaded.
        """
        key_names = keys_from_paths(file.path for file in manifest.files)
        for file in (file for file in manifest.files if not file.whole):
            grown = file.size >= 2 * self._published_sizes.get(file.path, 0)
            if file.size <= SMALL_ARTIFACT or grown or manifest.position.finished:
                self._publish_artifact(file, artifact_key(self._run, key_names[file.path]))
                self._published_sizes[file.path] = file.size

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
        key = part_key(self._run, self._key_names[path], start, self._attempt, sequence)
        digest = hashlib.sha256(content).hexdigest()
        self._store.put(key, [content], digest=digest)
        return (*parts, StoredPart(key=key, digest=digest, size=len(content)))

    def _replaced_file(self, path: str, stamp: FileStamp, sequence: int) -> StoredFile | None:
        """Upload the file as it is at `stamp`; if it has changed since, return the last upload."""
        before = self._replaced.get(path)
        if before and self._stamps.get(path) == stamp:
            return before
        stored = before.parts if before else ()
        parts = []
        for i, start in enumerate(range(0, stamp.size, MAX_PART_SIZE)):
            if stamp_of(path) != stamp:
                return before
            content = _read(path, start, min(stamp.size, start + MAX_PART_SIZE))
            digest = hashlib.sha256(content).hexdigest()
            if stamp_of(path) != stamp:
                return before
            if i < len(stored) and stored[i].digest == digest:
                parts.append(stored[i])
                continue
            key = part_key(self._run, self._key_names[path], start, self._attempt, sequence)
            self._store.put(key, [content], digest=digest)
            parts.append(StoredPart(key=key, digest=digest, size=len(content)))
        self._stamps[path] = stamp
        return StoredFile(path=path, parts=tuple(parts), whole=True)

    def _publish_artifact(self, file: StoredFile, key: str) -> None:
        content = _read(file.path, 0, file.size)
        try:
            version = self._store.swap(key, content, expected=self._versions.get(key))
        except Conflict:  # the artifact is an earlier attempt's
            _, version = self._store.load(key)
            version = self._store.swap(key, content, expected=version)
        self._versions[key] = version


def restore_file(store: Store, file: StoredFile) -> bool:
    """Restore a file to its content at the checkpoint, unless it still has that content.

    An append-only file that begins with that content and is longer is not changed. An append-only
    file is written in place, since the script may have opened it already; a file that is replaced
    as a whole is replaced.

    Returns:
        True if the file was written.

    Raises:
        NotFound, Damaged: a part can't be used; the file was not changed.
        StorageError: the store can't be read; the file was not changed.
        OSError: the file can't be written.
    """
    path = Path(file.path)
    longer = path.exists() and path.stat().st_size > file.size
    if _begins_with(path, file) and not (file.whole and longer):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "xb") as new:
            for part in file.parts:
                new.write(_read_part(store, part))
            new.flush()
            os.fsync(new.fileno())
        if file.whole or not path.exists():
            temporary.rename(path)
        else:
            _overwrite(path, temporary)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _overwrite(path: Path, source: Path) -> None:
    """Copy `source` into the existing file `path`, in place.

    If a crash leaves the file incomplete, the next restore_file notices and writes it again.
    """
    with open(source, "rb") as new, open(path, "r+b") as file:
        file.truncate(0)
        shutil.copyfileobj(new, file)
        file.flush()
        os.fsync(file.fileno())


def _read_part(store: Store, part: StoredPart) -> bytearray:
    """Read and verify a part."""
    content = bytearray(part.size)
    for _ in range(MAX_READS):
        store.read_into(part.key, memoryview(content))
        if hashlib.sha256(content).hexdigest() == part.digest:
            return content
    raise Damaged(f"{store.uri}/{part.key} does not have the digest that its manifest names")


def _begins_with(path: Path, file: StoredFile) -> bool:
    """Return True if the file at `path` begins with the content of `file`."""
    if not path.exists():
        return file.size == 0
    with open(path, "rb") as present:
        return all(
            hashlib.sha256(present.read(part.size)).hexdigest() == part.digest
            for part in file.parts
        )


def _read(path: str, start: int, end: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        content = file.read(end - start)
    if len(content) < end - start:
        raise OSError(f"{path} has become shorter than {end} bytes during training")
    return content


def _total_size(parts: tuple[StoredPart, ...] | list[StoredPart]) -> int:
    return sum(part.size for part in parts)
