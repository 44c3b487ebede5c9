"""Store the objects and manifests of an attempt's checkpoints, which HEAD does not name yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.commit.cleanup import InlineCleanup
from keepfit.callbacks.checkpoint.commit.file_uploader import FileUpload, FileUploader, PlannedFile
from keepfit.callbacks.checkpoint.commit.sending import (
    GivenUp,
    Sending,
    SentFiles,
    abandon,
    start_sending,
    stored_tensors,
    wait_for_files,
    wait_for_shards,
)
from keepfit.callbacks.checkpoint.format.fit_record import FitRecord
from keepfit.callbacks.checkpoint.format.keys import manifest_key, shard_key
from keepfit.callbacks.checkpoint.format.manifest import FIT, Manifest, StoredShard
from keepfit.callbacks.checkpoint.format.shards import Shard, pack_shards
from keepfit.callbacks.checkpoint.snapshot import Snapshot
from keepfit.callbacks.daemon_executor import DaemonExecutor
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import AlreadyExists, StorageError, Store

log = get_logger()


@dataclass(frozen=True)
class StoredObjects:
    """A checkpoint that is stored and that HEAD does not name yet.

    Attributes:
        uploads: the files as they were sent.
        delayed: paths of the files that stay at their previous version, or are left out.
    """

    manifest: Manifest
    uploads: Sequence[FileUpload]
    delayed: tuple[str, ...]


class ObjectWriter:
    """Stores what the checkpoints of one attempt consist of. Not thread-safe.

    Args:
        run, attempt: name of the run, and number of the attempt.
        versions: versions of the libraries by name.
        cleanup: deletes objects; one that is needed again is taken back from it.

    Attributes:
        files: sends the files of the callbacks.
        fits: identities of the fits by index, which manifests contain.
        unconfirmed: keys that no committed manifest is known to name.
    """

    def __init__(
        self,
        store: Store,
        run: str,
        attempt: int,
        versions: Mapping[str, str],
        cleanup: InlineCleanup,
    ) -> None:
        self.files = FileUploader(store, run, attempt)
        self.fits: Mapping[int, FitRecord] = {}
        self.unconfirmed: set[str] = set()
        self._store = store
        self._run = run
        self._attempt = attempt
        self._versions = dict(versions)
        self._cleanup = cleanup
        self._trusted: dict[str, StoredShard] = {}
        self._sequence = 0

    def new_key(self, step: int) -> tuple[str, int]:
        """Return the key of the next manifest, and its number within the attempt."""
        sequence, self._sequence = self._sequence, self._sequence + 1
        return manifest_key(self._run, step, self._attempt, sequence), sequence

    def trust(self, shards: Sequence[StoredShard]) -> None:
        """Record shards that are stored and verified: equal ones need not be written again."""
        self._trusted.update((shard.digest, shard) for shard in shards)

    def forget(self, keys: Collection[str]) -> None:
        """Record that objects are deleted."""
        self._trusted = {d: s for d, s in self._trusted.items() if s.key not in keys}

    def take_unconfirmed(self) -> set[str]:
        """Return and forget the unconfirmed keys; a part that is stored late may follow."""
        taken = set(self.unconfirmed)
        self.unconfirmed -= taken
        return taken

    def confirm(self, stored: StoredObjects) -> None:
        """Record that HEAD names a checkpoint."""
        self.files.confirm(stored.manifest, stored.uploads, stored.delayed)

    def store_checkpoint(
        self,
        snapshot: Snapshot,
        key: str,
        sequence: int,
        shards_of: str,
        hurry: Callable[[], bool],
        given_up: Callable[[], bool] | None = None,
    ) -> StoredObjects:
        """Store the objects and the manifest of a checkpoint.

        Args:
            shards_of: key of the manifest whose small shards are shared.
            given_up: see wait_for_shards.
        """
        planned = self.files.plan(snapshot, sequence)
        threads = max(2, self._store.parallel) if planned else self._store.parallel
        with self._sending(snapshot, shards_of, planned, threads) as sending:
            written = wait_for_shards(sending, given_up)
            self._trusted.update((stored.digest, stored) for _, stored in written)
            sent = wait_for_files(sending.files, hurry)
        identity = self.fits.get(snapshot.position.fit)
        manifest = self._manifest(snapshot, sequence, written, sent, identity)
        self.unconfirmed.add(key)
        self._store.put(key, [manifest.to_bytes()])
        return StoredObjects(manifest, sending.files, sent.delayed)

    def store_continuation(
        self,
        final: Snapshot,
        key: str,
        sequence: int,
        shards_of: str,
        notice: Callable[[], bool],
    ) -> tuple[str, Manifest] | None:
        """Store the continuation of a fit beside its final state; return its key and manifest.

        It shares all shards that are equal. An error is logged: the final state matters more. A
        replaced file that `on_epoch_end` has written again since is left out: it is called again.
        """
        if final.continuation is None:
            return None
        try:
            if notice():
                raise GivenUp
            snapshot = final.continuation.encoded().without_changed_files()
            stored = self.store_checkpoint(snapshot, key, sequence, shards_of, notice, notice)
        except (GivenUp, OSError, StorageError, MemoryError) as error:
            log.warning(
                events.CONTINUATION_UNSAVED,
                fit=final.position.fit + 1,
                reason=str(error) or type(error).__name__,
                fix="the final state is saved; if more epochs are asked for, the fit goes on from "
                "the newest checkpoint before its end that is kept",
            )
            return None
        return key, stored.manifest

    def store_record(self, final: Manifest) -> tuple[str, Manifest]:
        """Store what is kept of a finished fit whose variables are dropped; return it by key."""
        key, sequence = self.new_key(final.position.step)
        record = final.without_variables().model_copy(
            update={"attempt": self._attempt, "sequence": sequence}
        )
        self.unconfirmed.add(key)
        self._store.put(key, [record.to_bytes()])
        return key, record

    @contextmanager
    def _sending(
        self, snapshot: Snapshot, key: str, files: Sequence[PlannedFile], threads: int
    ) -> Iterator[Sending]:
        """Begin to send the objects; after the block, give up what has not been sent."""
        pool = DaemonExecutor(threads, "keepfit-sender")
        self.unconfirmed.update(k for file in files for k in file.upload.keys)
        try:
            sending = start_sending(
                pool, pack_shards(snapshot.tensors, key), self._write_shard, files
            )
            try:
                yield sending
            finally:
                abandon(sending.files, self.unconfirmed)
        finally:
            pool.shutdown(wait=False)

    def _manifest(
        self,
        snapshot: Snapshot,
        sequence: int,
        written: Sequence[tuple[Shard, StoredShard]],
        sent: SentFiles,
        identity: FitRecord | None,
    ) -> Manifest:
        fit = {FIT: identity.model_dump()} if identity else {}
        return Manifest(
            run=self._run,
            attempt=self._attempt,
            sequence=sequence,
            created=datetime.now(UTC).isoformat(timespec="milliseconds"),
            versions=self._versions,
            position=snapshot.position,
            shards=tuple(stored for _, stored in written),
            tensors=stored_tensors([shard for shard, _ in written]),
            state={**snapshot.state, **fit},
            files=sent.files,
        )

    def _write_shard(self, shard: Shard) -> StoredShard:
        """Write one shard, unless it is stored already. Runs on a thread of the pool."""
        if stored := self._trusted.get(shard.digest):
            return stored
        key = shard_key(self._run, shard.digest, self._attempt)
        self._cleanup.reclaim(key)
        self.unconfirmed.add(key)
        try:
            self._store.put(key, shard.body, digest=shard.digest)
        except AlreadyExists:
            log.debug(events.SHARD_ALREADY_STORED, shard=key)
        return StoredShard(key=key, digest=shard.digest, size=shard.size)
