"""One process's claim on a run: the only way to write to it.

To claim is to swap HEAD for one that bears the next attempt number. From then on an older attempt
that is still alive fails its next swap and can commit nothing more.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from pydantic import ValidationError
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from callbacks import events
from callbacks.checkpoint.manifest import (
    Head,
    Manifest,
    StoredShard,
    StoredTensor,
    attempt_of,
    head_key,
    manifest_key,
    shard_key,
)
from callbacks.checkpoint.reader import NoneLeft, read_manifest
from callbacks.checkpoint.retention import Retention, unused
from callbacks.checkpoint.shards import Shard, pack, stored_shape
from callbacks.checkpoint.snapshot import Snapshot
from callbacks.storage.base import (
    AlreadyExists,
    Conflict,
    Damaged,
    NotFound,
    StorageError,
    Store,
    Transient,
    Version,
)

log = structlog.get_logger("keepfit")


class Superseded(Exception):
    """Another attempt owns the run now."""


@dataclass(frozen=True)
class _Found:
    """HEAD as it stands; without `head` it is missing (no version) or damaged."""

    head: Head | None
    version: Version | None


class Attempt:
    """The newest attempt of a run. Not thread-safe: one thread at a time may use it."""

    def __init__(
        self,
        store: Store,
        head: Head,
        version: Version,
        retention: Retention,
        versions: Mapping[str, str],
    ) -> None:
        self._store = store
        self._head = head
        self._version = version
        self._retention = retention
        self._versions = dict(versions)
        self._kept: dict[str, Manifest] | None = None
        self._rejected: set[str] = set()
        self._trusted: dict[str, StoredShard] = {}
        self._sequence = 0

    @property
    def number(self) -> int:
        return self._head.attempt

    @property
    def head(self) -> Head:
        return self._head

    def resume_from(self, key: str, manifest: Manifest) -> None:
        """Go on from this verified checkpoint: what is newer in HEAD has turned out unusable.

        A shard that is equal to one of its shards need not be sent again.
        """
        if key in self._head.checkpoints:
            self._rejected.update(self._head.checkpoints[: self._head.checkpoints.index(key)])
        self._trusted.update((shard.digest, shard) for shard in manifest.shards)

    def record_origin(self, sizes: Mapping[str, int]) -> None:
        """Remember how long append-only logs were before the run began."""
        self._swap(origin=dict(sizes))

    def commit(self, snapshot: Snapshot) -> Manifest:
        """Make `snapshot` the newest checkpoint: shards, manifest, then HEAD in one atomic step.

        Raises:
            Superseded: a newer attempt owns the run; nothing of it was touched.
            StorageError: it could not be written; the last checkpoint is still in force.
        """
        position = snapshot.position
        sequence, self._sequence = self._sequence, self._sequence + 1
        key = manifest_key(self._head.run, position.step, self.number, sequence)
        shards = list(pack(snapshot.tensors, key))
        stored = [self._send(shard) for shard in shards]
        manifest = Manifest(
            run=self._head.run,
            attempt=self.number,
            sequence=sequence,
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            versions=self._versions,
            position=position,
            shards=tuple(stored),
            tensors=tuple(
                StoredTensor(
                    name=t.name,
                    dtype=t.dtype,
                    shape=stored_shape(t, size),
                    shard=i,
                    offset=start,
                    size=size,
                )
                for i, shard in enumerate(shards)
                for t, start, size in shard.tensors
            ),
            state=dict(snapshot.state),
        )
        self._store.put(key, [manifest.to_bytes()])
        self._put_in_force(key, manifest)
        return manifest

    def sweep(self) -> None:
        """Delete what killed attempts left behind: half-written objects and those never in force.

        Raises:
            StorageError: it could not be done; nothing in force was touched.
        """
        prefix = f"{self._head.run}/"
        self._store.clear_unfinished(prefix)
        self._delete(entry.key for entry in self._store.list(prefix))

    def _send(self, shard: Shard) -> StoredShard:
        if known := self._trusted.get(shard.digest):
            return known
        key = shard_key(self._head.run, shard.digest, self.number)
        try:
            self._store.put(key, shard.body)
        except AlreadyExists:
            log.debug("shard_sent_before", shard=key)
        stored = StoredShard(key=key, digest=shard.digest, size=shard.size)
        self._trusted[shard.digest] = stored
        return stored

    def _put_in_force(self, key: str, manifest: Manifest) -> None:
        position = manifest.position
        finished = self._head.finished | ({position.fit: key} if position.finished else {})
        before = self._in_force()
        usable = (k for k in self._head.checkpoints if k in before and k not in self._rejected)
        kept = tuple(self._retention.keep((key, *usable)))
        self._swap(checkpoints=kept, finished=finished)
        known = before | {key: manifest}
        self._kept = {k: known[k] for k in self._head.manifests() if k in known}
        in_force = {shard.digest for m in self._kept.values() for shard in m.shards}
        self._trusted = {d: shard for d, shard in self._trusted.items() if d in in_force}
        dropped = known.keys() - self._kept.keys()
        shards = (shard.key for k in dropped for shard in known[k].shards)
        try:
            self._delete({*dropped, *shards})
        except StorageError as error:
            log.warning(events.PRUNE_FAILED, reason=str(error))

    def _in_force(self) -> dict[str, Manifest]:
        if self._kept is None:
            self._kept = _readable(self._store, self._head.run, self._head.manifests())
        return self._kept

    def _delete(self, keys: Iterable[str]) -> None:
        for key in unused(keys, self._in_force(), self.number):
            self._store.delete(key)

    def _swap(self, **changes: object) -> None:
        head = self._head.model_copy(update={"swaps": self._head.swaps + 1, **changes})
        key = head_key(head.run)
        try:
            self._version = self._store.swap(key, head.to_bytes(), expected=self._version)
        except (Conflict, Transient) as error:
            found = _look(self._store, head.run)
            if found.head != head or found.version is None:
                if isinstance(error, Transient) and found.version == self._version:
                    raise
                raise Superseded(_owner(found)) from error
            self._version = found.version
        self._head = head


@retry(retry=retry_if_exception_type(Conflict), stop=stop_after_attempt(10), reraise=True)
def claim(store: Store, run: str, *, retention: Retention, versions: Mapping[str, str]) -> Attempt:
    """Take the run over, or begin it.

    Raises:
        NoneLeft: HEAD is damaged or missing, and no checkpoint is left to go on from.
        Conflict: ten times in a row another process was faster.
        StorageError: the store can't be read or written.
    """
    found = _look(store, run)
    old = found.head or _recover(store, run, missing=found.version is None)
    head = Head(
        run=run,
        attempt=old.attempt + 1 if old else 1,
        writer=uuid.uuid4().hex,
        swaps=old.swaps + 1 if old else 0,
        checkpoints=old.checkpoints if old else (),
        finished=old.finished if old else {},
        origin=old.origin if old else {},
    )
    version = store.swap(head_key(run), head.to_bytes(), expected=found.version)
    return Attempt(store, head, version, retention, versions)


def set_aside(store: Store, run: str, now: datetime) -> str | None:
    """Move the whole run to a dated name, so that it can be begun again.

    Returns:
        The old run's new name; None if there was nothing to move.
    """
    if next(store.list(f"{run}/"), None) is None:
        return None
    aside = f"{run}.{now:%Y%m%dT%H%M%S}Z"
    store.move(run, aside)
    return aside


def _look(store: Store, run: str) -> _Found:
    try:
        content, version = store.load(head_key(run))
    except NotFound:
        return _Found(None, None)
    try:
        head = Head.model_validate_json(content)
    except ValidationError:
        return _Found(None, version)
    return _Found(head if head.run == run else None, version)


def _recover(store: Store, run: str, *, missing: bool) -> Head | None:
    """What HEAD must have said, by the manifests that are there; None for a run not yet begun."""
    keys = [entry.key for entry in store.list(f"{run}/checkpoints/")]
    manifests = _readable(store, run, keys, report=True)
    shards = any(True for _ in store.list(f"{run}/shards/"))
    if missing and not keys and not shards:
        return None
    problem = f"{store.uri}/{head_key(run)} is {'missing' if missing else 'damaged'}"
    if not manifests:
        raise NoneLeft(
            f"{problem}, and run {run!r} has no manifest to go on from; begin again with "
            f"--fresh, which moves the old run aside, or put back what is missing"
        )
    newest = sorted(
        manifests, key=lambda k: (manifests[k].attempt, manifests[k].sequence), reverse=True
    )
    log.error(events.HEAD_DAMAGED, reason=problem, using=newest[0])
    return Head(
        run=run,
        attempt=max(attempt_of(key) or 0 for key in keys),
        writer="recovered",
        swaps=0,
        checkpoints=tuple(newest),
        finished={
            manifests[k].position.fit: k for k in reversed(newest) if manifests[k].position.finished
        },
    )


def _readable(
    store: Store, run: str, keys: Iterable[str], *, report: bool = False
) -> dict[str, Manifest]:
    found: dict[str, Manifest] = {}
    for key in keys:
        try:
            found[key] = read_manifest(store, run, key)
        except (NotFound, Damaged) as error:
            if report:
                log.error(events.REJECTED, checkpoint=key, reason=str(error))
    return found


def _owner(found: _Found) -> str:
    if found.head is None:
        return "HEAD was removed or damaged while this attempt ran"
    return f"attempt {found.head.attempt} owns the run now"
