"""What a store holds, for people and programs: read only, and never in the way of an attempt.

An attempt that is alive puts new checkpoints in force and deletes old ones while they are looked
at. So what is missing is missing only if HEAD, read again, still names it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from keepfit.callbacks.checkpoint.manifest import (
    Head,
    Manifest,
    StoredPart,
    StoredShard,
    attempt_of,
    head_key,
)
from keepfit.callbacks.checkpoint.reader import read_head, read_manifest
from keepfit.callbacks.checkpoint.retention import unreferenced
from keepfit.callbacks.storage.base import Damaged, NotFound, Store, Transient

TRIES = 5
"""How often HEAD is read again because an attempt has changed it meanwhile."""


class NoSuchRun(Exception):
    """The store has no run of that name."""


class RunMoved(Exception):
    """It is another run, moved here by --fresh; the message says which, and the way back."""


@dataclass(frozen=True)
class Summary:
    """A run at a glance.

    Attributes:
        state: "finished", "resumable", "begun" (nothing saved yet), "set aside" or "damaged".
        fit, epoch: counted from 1, as people do; batch and step: batches done.
        saved: when the newest checkpoint was made, UTC.
        size: bytes of all checkpoints in force, what they share counted once.
        attempts: processes that have worked on it.
        reason: what is damaged, or which run it was.
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


@dataclass(frozen=True)
class ObjectCheck:
    """One object that was read to its last byte; `problem` is None if it is what was written."""

    key: str
    size: int
    problem: str | None = None


@dataclass(frozen=True)
class CommittedState:
    """HEAD, and the manifests that it names, the newest first.

    Attributes:
        problems: why a manifest can't be read, by its key.
    """

    head: Head
    manifests: dict[str, Manifest]
    problems: dict[str, str]


def summarize_all(store: Store) -> Iterator[Summary]:
    """All runs in order of their names, those set aside included; other folders are left out."""
    for name in store.folders(""):
        with suppress(NoSuchRun):
            yield summarize(store, name)


def summarize(store: Store, run: str) -> Summary:
    """Needs as many requests as the run has checkpoints in force, however many it has had.

    Raises:
        NoSuchRun: there is none.
        StorageError: the store can't be read.
    """
    try:
        found = read_committed(store, run)
    except (Damaged, RunMoved) as error:
        state = "damaged" if isinstance(error, Damaged) else "set aside"
        return Summary(run, state, reason=str(error))
    head, manifests = found.head, found.manifests
    newest = next(iter(head.checkpoints), None)
    if newest is None:
        return Summary(run, "begun", attempts=head.attempt)
    if newest not in manifests:
        return Summary(run, "damaged", attempts=head.attempt, reason=found.problems[newest])
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
    )


def created_at(manifest: Manifest) -> datetime | None:
    """When it was made, UTC; None if what it says is no time."""
    try:
        return datetime.fromisoformat(manifest.created).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def read_committed(store: Store, run: str) -> CommittedState:
    """What HEAD names, as it was at one moment.

    Raises:
        NoSuchRun: there is none.
        SetAside: it is another run's.
        Damaged: HEAD can't be read.
    """
    head = read_named_head(store, run)
    for _ in range(TRIES):
        manifests: dict[str, Manifest] = {}
        problems: dict[str, str] = {}
        for key in head.manifests():
            try:
                manifests[key] = read_manifest(store, run, key)
            except (NotFound, Damaged) as error:
                problems[key] = str(error)
        before, head = head, read_named_head(store, run) if problems else head
        if head.manifests() == before.manifests():
            break
    return CommittedState(before, manifests, problems)


def read_named_head(store: Store, run: str) -> Head:
    """HEAD, or the reason why there is none.

    Raises:
        NoSuchRun, SetAside, Damaged: as in_force.
    """
    found = read_head(store, run)
    if found.head:
        return found.head
    key = head_key(run)
    with suppress(NotFound):
        try:
            head = Head.from_bytes(store.load(key)[0])
        except ValueError as error:
            raise Damaged(f"{store.uri}/{key} is damaged: {error}") from error
        if head.run == run:  # written at this moment
            return head
        raise RunMoved(
            f"{run!r} is run {head.run!r}, moved aside by --fresh; "
            f"move its folder back to {store.uri}/{head.run} to use it"
        )
    folders = (f"{run}/{name}/" for name in ("checkpoints", "shards", "logs"))
    if any(attempt_of(entry.key) for folder in folders for entry in store.list(folder)):
        raise Damaged(f"{store.uri}/{key} is missing")
    raise NoSuchRun(f"there is no run {run!r} in {store.uri}")


def verify(store: Store, run: str) -> list[ObjectCheck]:
    """Read every byte that the checkpoints in force consist of, each object once.

    Raises:
        NoSuchRun, SetAside: there is no run of that name.
        StorageError: the store itself can't be read.
    """
    for _ in range(TRIES):
        try:
            head = read_named_head(store, run)
        except Damaged as error:
            return [ObjectCheck(head_key(run), 0, str(error))]
        found = [
            ObjectCheck(head_key(run), len(head.to_bytes())),
            *_verify_objects(store, run, head),
        ]
        sound = all(finding.problem is None for finding in found)
        if sound or read_named_head(store, run).manifests() == head.manifests():
            return found
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
    """What attempts before the newest one have left behind, in a safe order to delete.

    Safe beside an attempt that is alive: an older attempt can put nothing in force any more, and
    the newest builds on nothing of theirs but what HEAD names.

    Raises:
        NoSuchRun, SetAside: there is none of that name.
        Damaged: something in force can't be read, so it is not known what it needs.
    """
    found = read_committed(store, run)
    for key in found.problems:
        raise Damaged(f"{store.uri}/{key} can't be read, so nothing is deleted")
    keys = (entry.key for entry in store.list(f"{run}/"))
    return unreferenced(keys, found.manifests, found.head.attempt - 1)


def _referenced_objects(manifest: Manifest) -> list[StoredShard | StoredPart]:
    return [*manifest.shards, *(part for file in manifest.files for part in file.parts)]


def _check_object(store: Store, stored: StoredShard | StoredPart) -> str | None:
    try:
        content = bytearray(stored.size)
        store.read_into(stored.key, memoryview(content))
    except (NotFound, Damaged) as error:
        return str(error)
    found = hashlib.sha256(content).hexdigest()
    if found == stored.digest:
        return None
    return f"{store.uri}/{stored.key} has SHA-256 {found}, written was {stored.digest}"


def _sizes(manifests: Iterable[Manifest]) -> dict[str, int]:
    """The bytes of each object that the manifests name."""
    return {stored.key: stored.size for m in manifests for stored in _referenced_objects(m)}
