"""The wheels of a job in the store: uploaded by `keepfit submit`, downloaded by each attempt."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keepfit.callbacks.daemon_executor import DaemonExecutor
from keepfit.callbacks.storage.base import AlreadyExists, Damaged, NotFound, StorageError, Store
from keepfit.job.requirements.document import Requirements, Wheel, document_key

PARALLEL: Final = 8
"""Wheels that are downloaded at once: a page of memory each, since they are mapped files."""

_AGAIN = "delete it and submit the job again"


@dataclass(frozen=True)
class Uploaded:
    """What the store lacked: a number of wheels, and their bytes."""

    wheels: int
    size: int


def upload_wheels(store: Store, document: Requirements, paths: Mapping[str, Path]) -> Uploaded:
    """Upload the wheels that the store lacks, and last the document that lists them.

    Raises:
        StorageError: the store can't be written.
    """
    there = {(entry.key, entry.size) for entry in store.list(".wheels/")}
    new = [wheel for wheel in document.wheels if (wheel.key, wheel.size) not in there]
    for wheel in new:
        _upload(store, wheel, paths[wheel.file])
    with suppress(AlreadyExists):
        store.put(document_key(document.digest), [document.to_bytes()])
    return Uploaded(len(new), sum(wheel.size for wheel in new))


def _upload(store: Store, wheel: Wheel, path: Path) -> None:
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as content,
        suppress(AlreadyExists),
    ):
        store.put(wheel.key, [content], digest=wheel.sha256)


def load_document(store: Store, digest: str) -> Requirements:
    """Return the stored document of that digest.

    Raises:
        Damaged: it is not the one that was uploaded.
        StorageError: it can't be read.
    """
    key = document_key(digest)
    try:
        content, _ = store.load(key)
    except NotFound as error:
        raise _absent(store, f"requirements {digest}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise Damaged(f"{store.uri}/{key} is damaged; {_AGAIN}")
    try:
        return Requirements.from_bytes(content)
    except ValueError as error:
        raise Damaged(f"{store.uri}/{key}: {error}; {_AGAIN}") from error


def download_wheels(store: Store, wheels: Sequence[Wheel], folder: Path) -> list[Path]:
    """Write the wheels into a folder, several at once, and return their paths.

    Raises:
        Damaged: a wheel is not the one that was uploaded.
        StorageError: a wheel can't be read.
        OSError: the folder can't be written.
    """
    executor = DaemonExecutor(PARALLEL, "keepfit-wheel")
    try:
        started = [executor.submit(_download, store, wheel, folder) for wheel in wheels]
        return [future.result() for future in started]
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def _download(store: Store, wheel: Wheel, folder: Path) -> Path:
    path = folder / wheel.file
    with path.open("xb+") as file:
        file.truncate(wheel.size)
        with mmap.mmap(file.fileno(), wheel.size) as mapped, memoryview(mapped) as content:
            try:
                store.read_into(wheel.key, content)
            except NotFound as error:
                raise _absent(store, f"wheel {wheel.file}") from error
            if hashlib.sha256(content).hexdigest() != wheel.sha256:
                raise Damaged(f"{store.uri}/{wheel.key} is damaged; {_AGAIN}")
    return path


def _absent(store: Store, what: str) -> StorageError:
    return StorageError(
        f"{store.uri} has no {what}: submit the job again, or use the store to which it was "
        f"submitted"
    )
