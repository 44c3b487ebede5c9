"""What a store holds, for people and programs: read only, and never in the way of an attempt."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from callbacks.checkpoint.manifest import (
    Head,
    Manifest,
    StoredPart,
    StoredShard,
    attempt_of,
    head_key,
)
from callbacks.checkpoint.reader import read_head, read_manifest, read_manifests
from callbacks.checkpoint.retention import unused
from callbacks.storage.base import Damaged, NotFound, Store


class NoSuchRun(Exception):
    """The store has no run of that name."""


@dataclass(frozen=True)
class Summary:
    """A run at a glance.

    Attributes:
        state: "finished", "resumable", "begun" (nothing saved yet) or "damaged".
        fit, epoch: counted from 1, as people do; batch and step: batches done.
        saved: when the newest checkpoint was made, UTC.
        size: bytes of all checkpoints in force, what they share counted once.
        attempts: processes that have worked on it.
        reason: what is damaged.
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
class Finding:
    """One object that was read to its last byte; `problem` is None if it is what was written."""

    key: str
    size: int
    problem: str | None = None


def summaries(store: Store) -> Iterator[Summary]:
    """All runs in order of their names, those set aside included; other folders are left out."""
    for name in store.folders(""):
        with suppress(NoSuchRun):
            yield summary(store, name)


def summary(store: Store, run: str) -> Summary:
    """Needs as many requests as the run has checkpoints in force, however many it has had.

    Raises:
        NoSuchRun: there is none.
        StorageError: the store can't be read.
    """
    head = _head(store, run)
    if isinstance(head, str):
        return Summary(run, "damaged", reason=head)
    manifests = read_manifests(store, run, head.manifests())
    newest = next(iter(head.checkpoints), None)
    if newest is None:
        return Summary(run, "begun", attempts=head.attempt)
    if newest not in manifests:
        reason = f"{newest} can't be read"
        return Summary(run, "damaged", attempts=head.attempt, reason=reason)
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
        saved=datetime.fromisoformat(manifests[newest].created).astimezone(UTC),
        size=sum(_sizes(manifests.values()).values()),
        checkpoints=len(head.checkpoints),
    )


def in_force(store: Store, run: str) -> tuple[Head, dict[str, Manifest]]:
    """HEAD, and the manifests that it names and that can be read, the newest first.

    Raises:
        NoSuchRun: there is none.
        Damaged: HEAD can't be read.
    """
    head = _head(store, run)
    if isinstance(head, str):
        raise Damaged(head)
    return head, read_manifests(store, run, head.manifests())


def verify(store: Store, run: str) -> Iterator[Finding]:
    """Read every byte that the checkpoints in force consist of, each object once.

    Raises:
        NoSuchRun: there is none.
        StorageError: the store itself can't be read.
    """
    head = _head(store, run)
    if isinstance(head, str):
        yield Finding(head_key(run), 0, head)
        return
    yield Finding(head_key(run), len(head.to_bytes()))
    done: set[str] = set()
    for key in head.manifests():
        try:
            manifest = read_manifest(store, run, key)
        except (NotFound, Damaged) as error:
            yield Finding(key, 0, str(error))
            continue
        yield Finding(key, len(manifest.to_bytes()))
        for stored in _named_by(manifest):
            if stored.key not in done:
                done.add(stored.key)
                yield Finding(stored.key, stored.size, _problem(store, stored))


def leftovers(store: Store, run: str) -> list[str]:
    """What attempts before the newest one have left behind, in a safe order to delete.

    Safe beside an attempt that is alive: an older attempt can put nothing in force any more, and
    the newest builds on nothing of theirs but what HEAD names.

    Raises:
        NoSuchRun: there is none.
        Damaged: something in force can't be read, so it is not known what it needs.
    """
    head, kept = in_force(store, run)
    if lost := set(head.manifests()) - kept.keys():
        raise Damaged(f"{store.uri}/{min(lost)} can't be read, so nothing is deleted")
    return unused((entry.key for entry in store.list(f"{run}/")), kept, head.attempt - 1)


def _head(store: Store, run: str) -> Head | str:
    """HEAD, or what is wrong with it."""
    found = read_head(store, run)
    if found.head:
        return found.head
    if found.version:
        return f"{store.uri}/{head_key(run)} is damaged"
    if any(attempt_of(entry.key) for entry in store.list(f"{run}/")):
        return f"{store.uri}/{head_key(run)} is missing"
    raise NoSuchRun(f"there is no run {run!r} in {store.uri}")


def _named_by(manifest: Manifest) -> list[StoredShard | StoredPart]:
    return [*manifest.shards, *(part for log in manifest.logs for part in log.parts)]


def _problem(store: Store, stored: StoredShard | StoredPart) -> str | None:
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
    return {stored.key: stored.size for m in manifests for stored in _named_by(m)}
