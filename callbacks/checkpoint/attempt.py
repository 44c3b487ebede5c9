"""One process's claim on a run: the only way to write to it.

A claim replaces HEAD by one that has the next attempt number (claim.py). From then on, an older
attempt that is still alive fails at its next swap of HEAD and can't commit anything more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.files import FileUploader
from keepfit.callbacks.checkpoint.manifest import (
    Head,
    Manifest,
    StoredShard,
    StoredTensor,
    head_key,
    manifest_key,
    report_key,
    shard_key,
)
from keepfit.callbacks.checkpoint.reader import LoadedHead, read_head, read_manifests
from keepfit.callbacks.checkpoint.retention import Retention, unreferenced
from keepfit.callbacks.checkpoint.shards import Shard, pack_shards, stored_shape
from keepfit.callbacks.checkpoint.snapshot import Snapshot
from keepfit.callbacks.storage.base import (
    AlreadyExists,
    Conflict,
    StorageError,
    Store,
    Transient,
    Version,
)

log = structlog.get_logger("keepfit")


class Superseded(Exception):
    """Another attempt owns the run now."""


class Attempt:
    """The newest attempt of a run. Not thread-safe: one thread at a time may use it."""

    def __init__(
        self,
        store: Store,
        head: Head,
        version: Version,
        retention: Retention,
        versions: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._head = head
        self._version = version
        self._retention = retention
        self._versions = dict(versions)
        # Read now, while HEAD certainly names them: the objects that they name must never be
        # deleted, even if a newer attempt has claimed the run and pruned these manifests by the
        # time this attempt sweeps.
        self._kept = read_manifests(store, head.run, head.manifests()).manifests
        self._unresolved_head: Head | None = None
        self._rejected: set[str] = set()
        self._trusted: dict[str, StoredShard] = {}
        self._sequence = 0
        self._files = FileUploader(store, head.run, head.attempt)
        self._clock = clock
        self._claimed_at = clock()

    @property
    def number(self) -> int:
        """The attempt's number; it is higher than that of every earlier attempt of the run."""
        return self._head.attempt

    @property
    def head(self) -> Head:
        """HEAD as this attempt last wrote it."""
        return self._head

    @property
    def age(self) -> float:
        """Seconds since the claim."""
        return self._clock() - self._claimed_at

    def resume_from(self, key: str, manifest: Manifest) -> None:
        """Continue from this verified checkpoint: the newer ones in HEAD have proved unusable.

        New shards that are equal to one of its shards need not be written again.
        """
        if key in self._head.checkpoints:
            self._rejected.update(self._head.checkpoints[: self._head.checkpoints.index(key)])
        self._trusted.update((shard.digest, shard) for shard in manifest.shards)
        self._files.resume_from(manifest)

    def check(self) -> None:
        """Check that this attempt still owns the run.

        Raises:
            Superseded: a newer attempt owns the run by now.
            StorageError: HEAD could not be read.
        """
        loaded = read_head(self._store, self._head.run)
        if loaded.head is None or loaded.head.writer != self._head.writer:
            raise Superseded(_describe_owner(loaded))

    def begin_files(self, sizes: Mapping[str, int]) -> None:
        """Record that a `fit` has opened its append-only files.

        Args:
            sizes: size in bytes of each file, by path, right after it was opened.
        """
        self._files.begin(sizes)

    def record_baseline(self, values: Mapping[str, int]) -> None:
        """Store baseline values in HEAD: mainly the sizes of append-only files before a `fit`.

        Raises:
            Superseded: a newer attempt owns the run.
            StorageError: HEAD was not changed, or it is unknown whether it was.
        """
        self._swap(baseline=dict(values))

    def record_once(self, name: str) -> bool:
        """Atomically record `name`; return True if this run had not recorded it before.

        Any thread may call it.

        Raises:
            StorageError: it is unknown whether `name` had been recorded before.
        """
        try:
            self._store.put(report_key(self._head.run, name), [b"1"])
        except AlreadyExists:
            return False
        return True

    def commit(self, snapshot: Snapshot, *, last: bool = False, hurry=None, release=()) -> Manifest:
        """Make `snapshot` the newest checkpoint: shards, manifest, then HEAD in one atomic step.

        Args:
            last: this is meant to be the attempt's last checkpoint: as far as is known, the attempt
                exits after it without losing any steps.

        Raises:
            Superseded: a newer attempt owns the run; none of its objects was touched.
            OSError: an append-only file can't be read; as with StorageError, the checkpoint before
                is still the committed one.
            StorageError: the checkpoint could not be written.
        """
        position = snapshot.position
        sequence, self._sequence = self._sequence, self._sequence + 1
        key = manifest_key(self._head.run, position.step, self.number, sequence)
        written = self._write_shards(pack_shards(snapshot.tensors, key))
        manifest = Manifest(
            run=self._head.run,
            attempt=self.number,
            sequence=sequence,
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            versions=self._versions,
            position=position,
            shards=tuple(stored for _, stored in written),
            tensors=tuple(
                StoredTensor(
                    name=t.name,
                    dtype=t.dtype,
                    shape=stored_shape(t, size),
                    shard=i,
                    offset=start,
                    size=size,
                )
                for i, (shard, _) in enumerate(written)
                for t, start, size in shard.tensors
            ),
            state=dict(snapshot.state),
            files=self._files.send(snapshot.append_only_files, snapshot.replaced_files, sequence),
        )
        self._store.put(key, [manifest.to_bytes()])
        self._commit_manifest(key, manifest, last=last)
        self._files.confirm(manifest)
        try:
            self._files.publish_artifacts(manifest)
        except (StorageError, OSError) as error:
            log.warning(events.ARTIFACT_FAILED, reason=str(error))
        import types

        return types.SimpleNamespace(manifest=manifest)

    def sweep(self) -> None:
        """Delete what killed attempts left behind: half-written objects and uncommitted ones.

        Raises:
            StorageError: not everything was deleted; no committed object was touched.
        """
        prefix = f"{self._head.run}/"
        self._store.clear_unfinished(prefix)
        self._delete(entry.key for entry in self._store.list(prefix))

    def _write_shards(self, shards: Iterable[Shard]) -> list[tuple[Shard, StoredShard]]:
        """Write the shards that are not stored yet; pack the next while others are being written.

        Raises:
            StorageError: a shard could not be written; the shards after it were not started.
        """
        with ThreadPoolExecutor(self._store.parallel, "keepfit-sender") as pool:
            writing = [(shard, pool.submit(self._write_shard, shard)) for shard in shards]
            try:
                written = [(shard, stored.result()) for shard, stored in writing]
            except StorageError:
                pool.shutdown(cancel_futures=True)
                raise
        self._trusted.update((stored.digest, stored) for _, stored in written)
        return written

    def _write_shard(self, shard: Shard) -> StoredShard:
        """Write one shard, unless it is stored already. Runs on a thread of the pool."""
        if stored := self._trusted.get(shard.digest):
            return stored
        key = shard_key(self._head.run, shard.digest, self.number)
        try:
            self._store.put(key, shard.body, digest=shard.digest)
        except AlreadyExists:
            log.debug(events.SHARD_ALREADY_STORED, shard=key)
        return StoredShard(key=key, digest=shard.digest, size=shard.size)

    def _commit_manifest(self, key: str, manifest: Manifest, *, last: bool) -> None:
        """Make HEAD name the manifest, then delete the objects that HEAD no longer needs."""
        if self._unresolved_head:
            self._resolve_swap()
        position = manifest.position
        finished = self._head.finished | ({position.fit: key} if position.finished else {})
        usable = (k for k in self._head.checkpoints if k in self._kept and k not in self._rejected)
        kept = tuple(self._retention.keep((key, *usable)))
        candidates = self._kept | {key: manifest}
        # Until the outcome of the swap is known, neither the old nor the new may be deleted.
        self._kept = candidates
        history = self._head.history.after_save(self.age, last=last)
        self._swap(checkpoints=kept, finished=finished, history=history)
        self._kept = {k: candidates[k] for k in self._head.manifests() if k in candidates}
        dropped = candidates.keys() - self._kept.keys()
        objects = (key for k in dropped for key in candidates[k].objects())
        try:
            self._delete({*dropped, *objects})
        except StorageError as error:
            log.warning(events.PRUNE_FAILED, reason=str(error))

    def _delete(self, keys: Iterable[str]) -> None:
        """Delete those of `keys` that no kept manifest needs."""
        deletable = unreferenced(keys, self._kept, self.number)
        deleted = set(deletable)
        self._trusted = {d: s for d, s in self._trusted.items() if s.key not in deleted}
        for key in deletable:
            self._store.delete(key)

    def _swap(self, **changes: object) -> None:
        """Change fields of HEAD; if the response is lost, resolve the outcome by reading HEAD back.

        Raises:
            Superseded: HEAD belongs to another attempt.
            Transient: the swap did not happen, or reading HEAD back failed too; in that case the
                next swap resolves the outcome first.
            StorageError: HEAD was not changed.
        """
        if self._unresolved_head:
            self._resolve_swap()
        head = self._head.model_copy(update={"swaps": self._head.swaps + 1, **changes})
        self._unresolved_head = head
        try:
            version = self._store.swap(head_key(head.run), head.to_bytes(), expected=self._version)
        except (Conflict, Transient) as error:
            if not self._resolve_swap():
                raise Transient(str(error)) from error
        except StorageError:
            self._unresolved_head = None
            raise
        else:
            self._head, self._version, self._unresolved_head = head, version, None

    def _resolve_swap(self) -> bool:
        """Read HEAD back and return True if the swap with the unknown outcome has happened.

        A request can also take effect late, after HEAD was read back without it. HEAD is then still
        this writer's, and the manifests that it names are known.

        Raises:
            Superseded: HEAD belongs to another attempt, or was removed or damaged.
            StorageError: HEAD could not be read; the outcome is still unknown.
        """
        loaded = read_head(self._store, self._head.run)
        if loaded.head and loaded.version and loaded.head.writer == self._head.writer:
            self._head, self._version = loaded.head, loaded.version
        elif loaded.version != self._version:
            raise Superseded(_describe_owner(loaded))
        happened = loaded.head == self._unresolved_head
        self._unresolved_head = None
        return happened


def _describe_owner(loaded: LoadedHead) -> str:
    """Return the reason for Superseded: which attempt owns the run now."""
    if loaded.head is None:
        return "HEAD was removed or damaged while this attempt ran"
    return f"attempt {loaded.head.attempt} owns the run now"
