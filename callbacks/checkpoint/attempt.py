"""One process's claim on a run: the only way to write to it.

To claim is to swap HEAD for one that bears the next attempt number (claim.py). From then on an
older attempt that is still alive fails its next swap and can commit nothing more.
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
        # Read now, while they are surely in force: what they name must never be deleted, even if
        # a newer attempt has taken over and pruned them by the time this one sweeps.
        self._kept = read_manifests(store, head.run, head.manifests())
        self._unclear: Head | None = None
        self._rejected: set[str] = set()
        self._trusted: dict[str, StoredShard] = {}
        self._sequence = 0
        self._files = FileUploader(store, head.run, head.attempt)
        self._clock = clock
        self._began = clock()

    @property
    def number(self) -> int:
        return self._head.attempt

    @property
    def head(self) -> Head:
        return self._head

    @property
    def age(self) -> float:
        """Seconds since the claim."""
        return self._clock() - self._began

    def resume_from(self, key: str, manifest: Manifest) -> None:
        """Go on from this verified checkpoint: what is newer in HEAD has turned out unusable.

        A shard that is equal to one of its shards need not be sent again.
        """
        if key in self._head.checkpoints:
            self._rejected.update(self._head.checkpoints[: self._head.checkpoints.index(key)])
        self._trusted.update((shard.digest, shard) for shard in manifest.shards)
        self._files.resume_from(manifest)

    def check(self) -> None:
        """Raises Superseded if a newer attempt owns the run by now."""
        found = read_head(self._store, self._head.run)
        if found.head is None or found.head.writer != self._head.writer:
            raise Superseded(_describe_owner(found))

    def begin_files(self, sizes: Mapping[str, int]) -> None:
        """A `fit` has opened its append-only files, which are so long now."""
        self._files.begin(sizes)

    def record_baseline(self, values: Mapping[str, int]) -> None:
        """Remember what was so before a `fit` began: how long append-only files were, above all."""
        self._swap(baseline=dict(values))

    def record_once(self, name: str) -> bool:
        """Whether nothing of this name has been asked for in the run. Any thread may call it.

        Raises:
            StorageError: it can't be found out.
        """
        try:
            self._store.put(report_key(self._head.run, name), [b"1"])
        except AlreadyExists:
            return False
        return True

    def commit(self, snapshot: Snapshot, *, last: bool = False) -> Manifest:
        """Make `snapshot` the newest checkpoint: shards, manifest, then HEAD in one atomic step.

        Args:
            last: the attempt ends with it, as far as is known, and loses nothing by that.

        Raises:
            Superseded: a newer attempt owns the run; nothing of it was touched.
            OSError: an append-only file can't be read; as with StorageError, the last checkpoint is
                still in force.
            StorageError: it could not be written.
        """
        position = snapshot.position
        sequence, self._sequence = self._sequence, self._sequence + 1
        key = manifest_key(self._head.run, position.step, self.number, sequence)
        sent = self._send(pack_shards(snapshot.tensors, key))
        manifest = Manifest(
            run=self._head.run,
            attempt=self.number,
            sequence=sequence,
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            versions=self._versions,
            position=position,
            shards=tuple(stored for _, stored in sent),
            tensors=tuple(
                StoredTensor(
                    name=t.name,
                    dtype=t.dtype,
                    shape=stored_shape(t, size),
                    shard=i,
                    offset=start,
                    size=size,
                )
                for i, (shard, _) in enumerate(sent)
                for t, start, size in shard.tensors
            ),
            state=dict(snapshot.state),
            files=self._files.send(snapshot.append_only_files, snapshot.replaced_files, sequence),
        )
        self._store.put(key, [manifest.to_bytes()])
        self._put_in_force(key, manifest, last=last)
        self._files.confirm(manifest)
        try:
            self._files.show(manifest)
        except (StorageError, OSError) as error:
            log.warning(events.ARTIFACT_FAILED, reason=str(error))
        return manifest

    def sweep(self) -> None:
        """Delete what killed attempts left behind: half-written objects and those never in force.

        Raises:
            StorageError: it could not be done; nothing in force was touched.
        """
        prefix = f"{self._head.run}/"
        self._store.clear_unfinished(prefix)
        self._delete(entry.key for entry in self._store.list(prefix))

    def _send(self, shards: Iterable[Shard]) -> list[tuple[Shard, StoredShard]]:
        """Write the shards that are not there yet; the next is packed while these are on the way.

        Raises:
            StorageError: one of them could not be written, and the rest was not begun.
        """
        with ThreadPoolExecutor(self._store.parallel, "keepfit-sender") as pool:
            sending = [(shard, pool.submit(self._send_one, shard)) for shard in shards]
            try:
                sent = [(shard, stored.result()) for shard, stored in sending]
            except StorageError:
                pool.shutdown(cancel_futures=True)
                raise
        self._trusted.update((stored.digest, stored) for _, stored in sent)
        return sent

    def _send_one(self, shard: Shard) -> StoredShard:
        """On a thread of the pool."""
        if known := self._trusted.get(shard.digest):
            return known
        key = shard_key(self._head.run, shard.digest, self.number)
        try:
            self._store.put(key, shard.body, digest=shard.digest)
        except AlreadyExists:
            log.debug(events.SHARD_ALREADY_STORED, shard=key)
        return StoredShard(key=key, digest=shard.digest, size=shard.size)

    def _put_in_force(self, key: str, manifest: Manifest, *, last: bool) -> None:
        if self._unclear:
            self._settle()
        position = manifest.position
        finished = self._head.finished | ({position.fit: key} if position.finished else {})
        usable = (k for k in self._head.checkpoints if k in self._kept and k not in self._rejected)
        kept = tuple(self._retention.keep((key, *usable)))
        known = self._kept | {key: manifest}
        # Until the outcome of the swap is known, neither the old nor the new may be deleted.
        self._kept = known
        history = self._head.history.after_save(self.age, last=last)
        self._swap(checkpoints=kept, finished=finished, history=history)
        self._kept = {k: known[k] for k in self._head.manifests() if k in known}
        dropped = known.keys() - self._kept.keys()
        objects = (key for k in dropped for key in known[k].objects())
        try:
            self._delete({*dropped, *objects})
        except StorageError as error:
            log.warning(events.PRUNE_FAILED, reason=str(error))

    def _delete(self, keys: Iterable[str]) -> None:
        doomed = unreferenced(keys, self._kept, self.number)
        gone = set(doomed)
        self._trusted = {d: s for d, s in self._trusted.items() if s.key not in gone}
        for key in doomed:
            self._store.delete(key)

    def _swap(self, **changes: object) -> None:
        """Change HEAD, or raise; an answer that was lost is found out by reading back.

        Raises:
            Superseded: HEAD is another attempt's.
            Transient: HEAD can't be read back either; the next swap settles it.
            StorageError: HEAD was not changed.
        """
        if self._unclear:
            self._settle()
        head = self._head.model_copy(update={"swaps": self._head.swaps + 1, **changes})
        self._unclear = head
        try:
            version = self._store.swap(head_key(head.run), head.to_bytes(), expected=self._version)
        except (Conflict, Transient) as error:
            if not self._settle():
                raise Transient(str(error)) from error
        except StorageError:
            self._unclear = None
            raise
        else:
            self._head, self._version, self._unclear = head, version, None

    def _settle(self) -> bool:
        """Whether the swap whose answer is missing has happened. Raises Superseded.

        A request can also land late, after it was found not to have happened. HEAD is then of this
        writer, and what it names is known.
        """
        found = read_head(self._store, self._head.run)
        if found.head and found.version and found.head.writer == self._head.writer:
            self._head, self._version = found.head, found.version
        elif found.version != self._version:
            raise Superseded(_describe_owner(found))
        happened = found.head == self._unclear
        self._unclear = None
        return happened


def _describe_owner(found: LoadedHead) -> str:
    if found.head is None:
        return "HEAD was removed or damaged while this attempt ran"
    return f"attempt {found.head.attempt} owns the run now"
