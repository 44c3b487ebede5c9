"""Inspect the runs in a store, read only and without disturbing a running attempt.

A running attempt commits new checkpoints and deletes old ones while they are being inspected. So an
object counts as missing only if HEAD, read again, still names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from keepfit.callbacks.checkpoint.format.head import Head
from keepfit.callbacks.checkpoint.format.keys import attempt_of, head_key
from keepfit.callbacks.checkpoint.format.manifest import Manifest, StoredPart, StoredShard
from keepfit.callbacks.checkpoint.read.documents import read_head, read_manifest, read_manifests
from keepfit.callbacks.checkpoint.retention import unreferenced
from keepfit.callbacks.storage.base import Damaged, NotFound, StorageError, Store, Transient

TRIES = 5
"""How often an inspection starts over because an attempt has changed HEAD meanwhile."""


class NoSuchRun(Exception):
    """The store has no run of this name."""


class RunMoved(Exception):
    """The folder contains another run, moved here by --fresh.

    The message names that run and says how to move it back.
    """


@dataclass(frozen=True)
class Summary:
    """A summary of a run.

    Attributes:
        state: "finished", "resumable", "begun" (nothing saved yet), "set aside" (moved by --fresh),
            "damaged", or "unreadable" (the store does not let us read it).
        attempts: number of attempts so far.
        first_attempt: number of the first one; higher than 1 after --fresh, which moves the earlier
            attempts aside.
        fit, epoch: position of the newest checkpoint, counted from 1 as users count.
        batch, step: batches done in that epoch and in the run.
        saved: creation time of the newest checkpoint, UTC.
        size: size in bytes of all committed checkpoints; shared objects are counted once.
        checkpoints: number of checkpoints that HEAD keeps.
        reason: why the run is damaged, or which run was moved here.
    """

    run: str
    state: str
    attempts: int = 0
    fit: int | None = None
    epoch: int | None = None
    batch: int | None = None
    step: int | None = None
    saved: datetime | None = None
    size: int = 0
    checkpoints: int = 0
    reason: str | None = None
    first_attempt: int = 1


@dataclass(frozen=True)
class ObjectCheck:
    """The result of verifying one object.

    Attributes:
        size: size in bytes.
        problem: why the object can't be used; None if it is exactly as it was written.
    """

    key: str
    size: int
    problem: str | None = None


@dataclass(frozen=True)
class CommittedState:
    """HEAD and the manifests that it names, read at one consistent moment.

    Attributes:
        manifests: the manifests by key, the newest first.
        problems: why a manifest can't be read, by key.
    """

    head: Head
    manifests: dict[str, Manifest]
    problems: dict[str, str]

    @property
    def newest(self) -> Manifest | None:
        """The newest manifest that can be read."""
        return next(iter(self.manifests.values()), None)


def summarize_all(store: Store) -> Iterator[Summary]:
    """Yield all runs by name, the ones moved aside included; skip folders that contain no run.

    A run that can't be read is one of them, and does not hide the others.

    Raises:
        StorageError: the store itself can't be listed, or does not answer.
    """
    for name in store.folders(""):
        try:
            yield summarize(store, name)
        except NoSuchRun:
            continue
        except Transient:
            raise
        except StorageError as error:
            yield Summary(name, "unreadable", reason=str(error))


def summarize(store: Store, run: str) -> Summary:
    """Summarize a run.

    This needs one request for each committed checkpoint, however many checkpoints the run has had.

    Raises:
        NoSuchRun: there is no run of this name.
        StorageError: the store can't be read.
    """
    try:
        committed = read_committed(store, run)
    except (Damaged, RunMoved) as error:
        state = "damaged" if isinstance(error, Damaged) else "set aside"
        return Summary(run, state, reason=str(error))
    return summary_of(run, committed)


def summary_of(run: str, committed: CommittedState) -> Summary:
    """Summarize a run whose HEAD and manifests have been read."""
    head, manifests = committed.head, committed.manifests
    newest = next(iter(head.checkpoints), None)
    if newest is None:
        return Summary(run, "begun", attempts=head.attempt, first_attempt=head.first_attempt)
    if newest not in manifests:
        return Summary(
            run,
            "damaged",
            attempts=head.attempt,
            reason=committed.problems[newest],
            first_attempt=head.first_attempt,
        )
    position = manifests[newest].position
    finished = position.finished and head.finished.get(position.fit) == newest
    return Summary(
        run=run,
        state="finished" if finished else "resumable",
        attempts=head.attempt,
        fit=position.fit + 1,
        epoch=position.epoch + 1,
        batch=position.batch,
        step=position.step,
        saved=created_at(manifests[newest]),
        size=sum(_sizes(manifests.values()).values()),
        checkpoints=len(head.checkpoints),
        first_attempt=head.first_attempt,
    )


def created_at(manifest: Manifest) -> datetime | None:
    """Return when the checkpoint was created, UTC; None if the manifest has no valid time."""
    try:
        return datetime.fromisoformat(manifest.created).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def read_committed(store: Store, run: str) -> CommittedState:
    """Read HEAD and the manifests that it names, as they were at one moment.

    Raises:
        NoSuchRun: there is no run of this name.
        RunMoved: the folder contains another run.
        Damaged: HEAD is missing or damaged.
    """
    head = read_named_head(store, run)
    for _ in range(TRIES):
        loaded = read_manifests(store, run, head.manifests())
        before, head = head, read_named_head(store, run) if loaded.problems else head
        if head.manifests() == before.manifests():
            break
    return CommittedState(before, loaded.manifests, loaded.problems)


def read_named_head(store: Store, run: str) -> Head:
    """Read HEAD, or raise the reason why it can't be used.

    Raises:
        NoSuchRun, RunMoved, Damaged: as for read_committed.
    """
    loaded = read_head(store, run)
    if loaded.head:
        return loaded.head
    key = head_key(run)
    with suppress(NotFound):
        try:
            head = Head.from_bytes(store.load(key)[0])
        except ValueError as error:
            raise Damaged(f"{store.uri}/{key} is damaged: {error}") from error
        if head.run == run:  # HEAD was written between the two reads
            return head
        raise RunMoved(
            f"{run!r} is run {head.run!r}, moved aside by --fresh; "
            f"move its folder back to {store.uri}/{head.run} to use it"
        )
    folders = (f"{run}/{name}/" for name in ("checkpoints", "shards", "logs"))
    if any(attempt_of(run, entry.key) for folder in folders for entry in store.list(folder)):
        raise Damaged(f"{store.uri}/{key} is missing")
    raise NoSuchRun(f"there is no run {run!r} in {store.uri}")


def verify(store: Store, run: str) -> list[ObjectCheck]:
    """Read and verify every byte of the committed checkpoints, each object once.

    Raises:
        NoSuchRun, RunMoved: there is no run of this name.
        StorageError: the store itself can't be read.
    """
    for _ in range(TRIES):
        try:
            head = read_named_head(store, run)
        except Damaged as error:
            return [ObjectCheck(head_key(run), 0, str(error))]
        checks = [
            ObjectCheck(head_key(run), len(head.to_bytes())),
            *_verify_objects(store, run, head),
        ]
        intact = all(check.problem is None for check in checks)
        if intact or read_named_head(store, run).manifests() == head.manifests():
            return checks
    raise Transient(
        f"run {run!r} in {store.uri} saves faster than its checkpoints can be read; "
        f"verify it when it has finished"
    )


def _verify_objects(store: Store, run: str, head: Head) -> Iterator[ObjectCheck]:
    done: set[str] = set()
    for key in head.manifests():
        try:
            manifest = read_manifest(store, run, key)
        except (NotFound, Damaged) as error:
            yield ObjectCheck(key, 0, str(error))
            continue
        yield ObjectCheck(key, len(manifest.to_bytes()))
        for stored in _referenced_objects(manifest):
            if stored.key not in done:
                done.add(stored.key)
                yield ObjectCheck(stored.key, stored.size, _check_object(store, stored))


def find_orphans(store: Store, run: str) -> list[str]:
    """Return the keys of unused objects of attempts before the newest, in a safe order to delete.

    They can be deleted while an attempt is running: an older attempt can't commit any more, and the
    newest one uses no objects of older attempts except those that HEAD's manifests name.

    Raises:
        NoSuchRun, RunMoved: there is no run of this name.
        Damaged: a committed manifest can't be read, so it is unknown which objects it needs.
    """
    committed = read_committed(store, run)
    for key in committed.problems:
        raise Damaged(f"{store.uri}/{key} can't be read, so nothing is deleted")
    keys = (entry.key for entry in store.list(f"{run}/"))
    return unreferenced(run, keys, committed.manifests, committed.head.attempt - 1)


def _referenced_objects(manifest: Manifest) -> list[StoredShard | StoredPart]:
    return [*manifest.shards, *(part for file in manifest.files for part in file.parts)]


def _check_object(store: Store, stored: StoredShard | StoredPart) -> str | None:
    """Return why the object is not what was written, or None."""
    try:
        content = bytearray(stored.size)
        store.read_into(stored.key, memoryview(content))
    except (NotFound, Damaged) as error:
        return str(error)
    digest = hashlib.sha256(content).hexdigest()
    if digest == stored.digest:
        return None
    return f"{store.uri}/{stored.key} has SHA-256 {digest} instead of {stored.digest}"


def _sizes(manifests: Iterable[Manifest]) -> dict[str, int]:
    """Return the size in bytes of each object that the manifests name, by key."""
    return {stored.key: stored.size for m in manifests for stored in _referenced_objects(m)}
