"""The callbacks' files of a checkpoint: restored from their parts, and named in keys."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from pathlib import Path

from keepfit.callbacks.checkpoint.format.manifest import StoredFile, StoredPart
from keepfit.callbacks.checkpoint.read.reader import MAX_READS
from keepfit.callbacks.storage.base import Damaged, Store


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


def read_span(path: str, start: int, end: int) -> bytes:
    """Return these bytes of a file. Raises OSError."""
    with open(path, "rb") as file:
        file.seek(start)
        content = file.read(end - start)
    if len(content) < end - start:
        raise OSError(f"{path} has become shorter than {end} bytes during training")
    return content
