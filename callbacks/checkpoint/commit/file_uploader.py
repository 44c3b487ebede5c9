"""Upload the callbacks' files of a checkpoint, in parts, while its shards are being uploaded.

Of an append-only file, each checkpoint uploads the bytes that were appended since the checkpoint
before it. A part is written once and named by manifests, as shards are. Small parts at the end are
uploaded again as one, so that each byte of a file of n parts has been uploaded about log n times,
and n stays small.

A file that is replaced as a whole is uploaded when it has changed. If training replaces it again
before it has been read, the checkpoint has the version before: the steps after the checkpoint will
be repeated, and they write the file again.
"""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from functools import partial

from keepfit.callbacks.checkpoint.format.key_names import keys_from_paths
from keepfit.callbacks.checkpoint.format.keys import part_key
from keepfit.callbacks.checkpoint.format.manifest import Manifest, StoredFile, StoredPart
from keepfit.callbacks.checkpoint.read.file_restore import read_span
from keepfit.callbacks.checkpoint.snapshot import FileStamp, Snapshot, stamp_of_open
from keepfit.callbacks.storage.base import Store

MAX_PART_SIZE = 16 << 20
"""Largest size in bytes of a part; one of this size is never uploaded again as part of another.

Each thread that uploads has one part in memory.
"""


class _Replaced(Exception):
    """The file no longer has the content that the checkpoint needs."""


class _Source:
    """A file that is replaced as a whole, read through one descriptor.

    Training may replace it by renaming a new file, which does not change the open one, or write
    into it, which the stamp shows.
    """

    def __init__(self, path: str, stamp: FileStamp) -> None:
        self._stamp = stamp
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        # A part may be read after its commit has ended, so the last reader closes the file.
        weakref.finalize(self, os.close, self._descriptor)

    def read(self, start: int, end: int) -> bytes:
        """Return this part of the file. Raises _Replaced."""
        content = os.pread(self._descriptor, end - start, start)
        while len(content) < end - start:
            more = os.pread(self._descriptor, end - start - len(content), start + len(content))
            if not more:
                raise _Replaced
            content += more
        if stamp_of_open(self._descriptor) != self._stamp:
            raise _Replaced
        return content


@dataclass(frozen=True)
class FileUpload:
    """A file on its way to the store.

    Attributes:
        parts: all parts in order; those that are stored already are done from the start.
        keys: the keys of the parts that may be written.
        before: the file as the checkpoint before has it; None if it has not.
        stamp: the stamp of a file that is replaced as a whole; None for an append-only file.
    """

    path: str
    parts: tuple[Future[StoredPart], ...]
    keys: tuple[str, ...] = ()
    before: StoredFile | None = None
    stamp: FileStamp | None = None

    @property
    def done(self) -> bool:
        """True if no part is being uploaded any more."""
        return all(part.done() for part in self.parts)

    def result(self) -> StoredFile | None:
        """Return the file as the manifest names it; None if its content has been replaced.

        Raises:
            OSError: the file can't be read.
            StorageError: a part could not be uploaded.
        """
        try:
            parts = tuple(part.result() for part in self.parts)
        except _Replaced:
            return None
        return StoredFile(path=self.path, parts=parts, whole=self.stamp is not None)


@dataclass(frozen=True)
class PlannedFile:
    """A file to upload, opened if training may replace it.

    Attributes:
        upload: the upload with the parts that are stored already.
        sends: uploads a part, for each part of `upload.keys`.
    """

    upload: FileUpload
    sends: tuple[Callable[[], StoredPart], ...] = ()

    def start(self, pool: Executor) -> FileUpload:
        """Begin to upload."""
        started = tuple(pool.submit(send) for send in self.sends)
        return replace(self.upload, parts=(*self.upload.parts, *started))


class FileUploader:
    """Uploads the files, and tracks which parts are stored. Not thread-safe, like its Attempt."""

    def __init__(self, store: Store, run: str, attempt: int) -> None:
        self._store = store
        self._run = run
        self._attempt = attempt
        self._files: dict[str, StoredFile] = {}
        self._stamps: dict[str, FileStamp] = {}
        self._key_names: dict[str, str] = {}

    def resume_from(self, manifest: Manifest) -> None:
        """Continue from the files as they were at a checkpoint."""
        self._files = {file.path: file for file in manifest.files}
        self._stamps = {}

    def begin(self, sizes: Mapping[str, int]) -> None:
        """Forget the parts of files that a `fit` has started over.

        Args:
            sizes: present size in bytes of each append-only file, by path.
        """
        for path, size in sizes.items():
            if (file := self._files.get(path)) and not file.whole and size < file.size:
                del self._files[path]

    def plan(self, snapshot: Snapshot, sequence: int) -> list[PlannedFile]:
        """Plan the upload of append-only files' new bytes, and of replaced files that have changed.

        Nothing is recorded before `confirm`, so a part that is stored after its commit is not used.

        Args:
            sequence: the checkpoint's number within the attempt.

        Raises:
            OSError: a file can't be opened.
        """
        self._key_names = keys_from_paths((*snapshot.append_only_files, *snapshot.replaced_files))
        grown = sorted(snapshot.append_only_files.items())
        replaced = sorted(snapshot.replaced_files.items())
        planned = (self._plan_replaced(path, stamp, sequence) for path, stamp in replaced)
        return [
            *(self._plan_grown(path, size, sequence) for path, size in grown),
            *(file for file in planned if file),
        ]

    def confirm(
        self, manifest: Manifest, uploads: Iterable[FileUpload], delayed: Collection[str]
    ) -> None:
        """Record that the checkpoint that names these parts is committed, so they are kept.

        Args:
            delayed: paths of the files that the manifest names as the one before it does.
        """
        stamps = {
            upload.path: self._stamps.get(upload.path) if upload.path in delayed else upload.stamp
            for upload in uploads
        }
        self.resume_from(manifest)
        self._stamps = {path: stamp for path, stamp in stamps.items() if stamp}

    def _plan_grown(self, path: str, size: int, sequence: int) -> PlannedFile:
        before = self._files.get(path)
        before = before if before and not before.whole else None
        parts = list(before.parts) if before and size >= before.size else []
        start = sum(part.size for part in parts)
        while size > start and parts and parts[-1].size < min(MAX_PART_SIZE, 2 * (size - start)):
            start -= parts.pop().size
        upload = FileUpload(path, tuple(map(_stored, parts)), before=before)
        reads = [(at, partial(read_span, path, at, end)) for at, end in _spans(start, size)]
        return self._planned(upload, reads, (), sequence)

    def _plan_replaced(self, path: str, stamp: FileStamp, sequence: int) -> PlannedFile | None:
        """Plan to upload the file as it is at `stamp`; return None if it is no longer needed.

        A model's copy for S3 is removed when it has arrived there: an earlier version of it must
        not be sent again by a resumed attempt.
        """
        before = self._files.get(path)
        before = before if before and before.whole else None
        upload = FileUpload(path, (), before=before, stamp=stamp)
        if before and self._stamps.get(path) == stamp:
            return PlannedFile(replace(upload, parts=tuple(map(_stored, before.parts))))
        try:
            source = _Source(path, stamp)
        except FileNotFoundError:
            if stamp.temporary:
                return None
            return PlannedFile(replace(upload, parts=(_replaced(),)))
        reads = [(at, partial(source.read, at, end)) for at, end in _spans(0, stamp.size)]
        return self._planned(upload, reads, before.parts if before else (), sequence)

    def _planned(
        self,
        upload: FileUpload,
        reads: Sequence[tuple[int, Callable[[], bytes]]],
        stored: Sequence[StoredPart],
        sequence: int,
    ) -> PlannedFile:
        """Plan to send parts of a file, each given by its offset and a function that reads it."""
        name = self._key_names[upload.path]
        keys = tuple(part_key(self._run, name, at, self._attempt, sequence) for at, _ in reads)
        sends = tuple(
            partial(self._send, key, read, stored[i : i + 1])
            for i, (key, (_, read)) in enumerate(zip(keys, reads, strict=True))
        )
        return PlannedFile(replace(upload, keys=keys), sends)

    def _send(
        self, key: str, read: Callable[[], bytes], stored: Sequence[StoredPart]
    ) -> StoredPart:
        """Upload a part, unless it is one of `stored`. Runs on a thread of the pool."""
        content = read()
        digest = hashlib.sha256(content).hexdigest()
        for part in stored:
            if part.digest == digest:
                return part
        self._store.put(key, [content], digest=digest)
        return StoredPart(key=key, digest=digest, size=len(content))


def _spans(start: int, end: int) -> list[tuple[int, int]]:
    """Return the start and the end of each part of these bytes."""
    return [(at, min(end, at + MAX_PART_SIZE)) for at in range(start, end, MAX_PART_SIZE)]


def _stored(part: StoredPart) -> Future[StoredPart]:
    """Return a future of a part that is stored already."""
    future: Future[StoredPart] = Future()
    future.set_result(part)
    return future


def _replaced() -> Future[StoredPart]:
    """Return a future of a part whose file has been replaced."""
    future: Future[StoredPart] = Future()
    future.set_exception(_Replaced())
    return future
