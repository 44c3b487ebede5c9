"""Send the objects of one checkpoint: shards first, files on the same threads beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from functools import partial

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.commit.file_uploader import FileUpload, PlannedFile
from keepfit.callbacks.checkpoint.format.manifest import (
    StoredFile,
    StoredPart,
    StoredShard,
    StoredTensor,
)
from keepfit.callbacks.checkpoint.format.shards import Shard, stored_shape
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import StorageError

log = get_logger()

FILE_BUDGET = 1.0
"""How long a save in a hurry waits for files, in seconds after its shards are stored."""

POLL_SECONDS = 0.05
"""Interval in which a save that waits looks whether it is in a hurry by now."""


@dataclass(frozen=True)
class SentFiles:
    """The outcome of sending the files.

    Attributes:
        files: the files as the manifest names them.
        delayed: paths of those that stay at their previous version, or are left out.
    """

    files: tuple[StoredFile, ...]
    delayed: tuple[str, ...]


@dataclass(frozen=True)
class Sending:
    """Objects that are being sent.

    Attributes:
        shards: each shard with the future of its entry in the manifest.
    """

    shards: Sequence[tuple[Shard, Future[StoredShard]]]
    files: Sequence[FileUpload]


def start_sending(
    pool: Executor,
    shards: Iterable[Shard],
    write: Callable[[Shard], StoredShard],
    files: Iterable[PlannedFile],
) -> Sending:
    """Begin to send shards, pack the next while others are being sent, and then begin with files.

    So a file that hangs can't keep a shard from a thread.
    """
    writing = [(shard, pool.submit(partial(write, shard))) for shard in shards]
    return Sending(writing, [file.start(pool) for file in files])


class GivenUp(Exception):
    """An optional checkpoint is given up: the process ends soon."""

    def __init__(self) -> None:
        super().__init__("a notice has come, and the final state does not wait for it")


def wait_for_shards(
    sending: Sending, given_up: Callable[[], bool] | None = None
) -> list[tuple[Shard, StoredShard]]:
    """Wait until the shards are stored.

    Args:
        given_up: returns whether to give up; asked repeatedly. None: never.

    Raises:
        StorageError: one could not be written; those after it that had not been begun are dropped.
        GivenUp: as `given_up` says; those that had not been begun are dropped.
    """
    try:
        pending = {stored for _, stored in sending.shards}
        while given_up and pending:
            _, pending = wait(pending, timeout=POLL_SECONDS)
            if pending and given_up():
                raise GivenUp
        return [(shard, stored.result()) for shard, stored in sending.shards]
    finally:
        # Another snapshot must not be captured while this one is still in memory.
        wait([stored for _, stored in sending.shards if not stored.cancel()])


def stored_tensors(shards: Sequence[Shard]) -> tuple[StoredTensor, ...]:
    """Return the manifest's entries of the tensors in these shards."""
    return tuple(
        StoredTensor(
            name=tensor.name,
            dtype=tensor.dtype,
            shape=stored_shape(tensor, size),
            shard=number,
            offset=start,
            size=size,
        )
        for number, shard in enumerate(shards)
        for tensor, start, size in shard.tensors
    )


def wait_for_files(
    uploads: Sequence[FileUpload],
    hurry: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> SentFiles:
    """Wait until the files are stored; in a hurry, at most FILE_BUDGET from now.

    Args:
        hurry: returns whether the save is in a hurry; asked repeatedly.

    Raises:
        OSError: a file can't be read.
        StorageError: a file could not be uploaded, and the save is not in a hurry.
    """
    limit = clock() + FILE_BUDGET
    pending = {part for upload in uploads for part in upload.parts}
    while pending and not (clock() >= limit and hurry()):
        _, pending = wait(pending, timeout=POLL_SECONDS)
    files, delayed = [], []
    for upload in uploads:
        file = upload.before if (reason := _delay(upload, hurry)) else upload.result()
        if file:
            files.append(file)
        if reason:
            delayed.append(upload.path)
            log.warning(events.FILE_DELAYED, file=upload.path, reason=reason, fix=_fix(upload))
    return SentFiles(tuple(files), tuple(delayed))


def abandon(uploads: Iterable[FileUpload], unconfirmed: set[str]) -> None:
    """Give up the parts that have not been stored.

    Args:
        unconfirmed: keys that no checkpoint may name; a part that is stored later is added to it,
            on any thread.
    """
    for upload in uploads:
        started = upload.parts[len(upload.parts) - len(upload.keys) :]
        for key, part in zip(upload.keys, started, strict=True):
            if not part.cancel():
                part.add_done_callback(partial(_add, unconfirmed, key))


def _add(unconfirmed: set[str], key: str, _: Future[StoredPart]) -> None:
    unconfirmed.add(key)


def _delay(upload: FileUpload, hurry: Callable[[], bool]) -> str | None:
    """Return why the checkpoint has the file's previous version; None if it has the present one."""
    if not upload.done:
        return f"it was still being uploaded {FILE_BUDGET} s after the rest of the last save"
    try:
        if upload.result():
            return None
    except StorageError as error:
        if not hurry():
            raise
        return str(error)
    return "training has replaced it again while it was being read"


def _fix(upload: FileUpload) -> str:
    """Return what the checkpoint has in place of the present version."""
    if upload.before is None:
        return "the checkpoint does not have the file; keep it apart if you need it"
    return "the checkpoint has its previous version; keep the present one apart if you need it"
