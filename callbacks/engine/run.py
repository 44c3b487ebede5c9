"""A run in the process that works on it: the claim, and the thread that writes snapshots."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version

import keras
import structlog
import tensorflow as tf

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.attempt import Attempt, Superseded
from keepfit.callbacks.checkpoint.claim import claim_run, move_aside
from keepfit.callbacks.checkpoint.files import restore_file
from keepfit.callbacks.checkpoint.reader import Checkpoint, NoUsableCheckpoint, read_newest_usable
from keepfit.callbacks.checkpoint.retention import KeepNewest
from keepfit.callbacks.checkpoint.snapshot import Position, Snapshot
from keepfit.callbacks.engine import save_policy
from keepfit.callbacks.engine.preemption import warn_if_save_slow
from keepfit.callbacks.engine.prefetch import CheckpointPrefetcher
from keepfit.callbacks.engine.save_policy import SavePolicy
from keepfit.callbacks.engine.scheduler import SaveScheduler
from keepfit.callbacks.engine.store_errors import exit_for_store_error
from keepfit.callbacks.engine.writer import SnapshotWriter
from keepfit.callbacks.errors import Fenced, Refused
from keepfit.callbacks.files.file_helpers import fsync_file
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import Damaged, NotFound, StorageError, Store

log = structlog.get_logger("keepfit")


class Run:
    """One training from start to end, of which this process is the newest attempt.

    Snapshots are written on the writer's thread, which alone uses the attempt while it is busy.

    Attributes:
        step: batches done in the run when the present fit started, or after the last one.
        reached_step: batches done in the run so far.
        unsaved: the final state of a fit could not be saved.
    """

    def __init__(
        self,
        store: Store,
        attempt: Attempt,
        policy: SavePolicy,
        prefetcher: CheckpointPrefetcher | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._prefetcher = prefetcher
        self._attempt = attempt
        self._clock = clock
        self._scheduler = SaveScheduler(policy, attempt.head.history, lambda: attempt.age, clock)
        self._writer = SnapshotWriter(self._write)
        self._fits = 0
        self._saves = 0
        self._fenced_by: str | None = None
        self._failed: str | None = None
        self._committed_step = 0
        self._last_save_seconds = 0.0
        self._writing_since: float | None = None
        self.reached_step = 0
        self.step = 0
        self.unsaved = False

    @classmethod
    def claim(
        cls,
        settings: Settings,
        deadline: Callable[[], float | None],
        prefetcher: CheckpointPrefetcher | None = None,
    ) -> Run:
        """Claim the run that `settings` name, or start it.

        Args:
            settings: the store, the name and the save policy of the run.
            deadline: returns when this process ends, in time.monotonic(), or None if unknown.
            prefetcher: the one that reads this run already, if any.

        Raises:
            Refused: the store can't be used, or nothing in it can be resumed; the log says why.
            StoreUnreachable: the store does not answer now.
        """
        versions = {
            "keepfit": version("keepfit"),
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        }
        try:
            store = (prefetcher and prefetcher.store()) or open_store(settings.store, deadline)
            moved = (
                move_aside(store, settings.run, datetime.now(UTC))
                if settings.starts_fresh
                else None
            )
            if moved:
                log.info(events.STARTED_AFRESH, run=settings.run, moved_to=moved.name)
            attempt = claim_run(
                store,
                settings.run,
                retention=KeepNewest(settings.keep),
                versions=versions,
                after=moved.attempt if moved else 0,
            )
        except NoUsableCheckpoint as error:
            log.error(events.REFUSED, reason=str(error))
            raise Refused from error
        except StorageError as error:
            raise exit_for_store_error(error) from error
        log.info(events.CLAIMED, run=settings.run, store=store.uri, attempt=attempt.number)
        return cls(store, attempt, save_policy.parse_save_policy(settings.save_every), prefetcher)

    @property
    def save_seconds(self) -> float:
        """Seconds that a save takes: those of the last one, or of the one under way if longer."""
        since = self._writing_since
        elapsed = 0.0 if since is None else self._clock() - since
        return max(self._last_save_seconds, elapsed)

    @property
    def uncommitted_steps(self) -> int:
        """Number of batches that have been trained and are in no checkpoint."""
        return max(0, self.reached_step - self._committed_step)

    def begin_fit(self) -> tuple[int, Checkpoint | None]:
        """Return the index of the `fit` that starts, and the checkpoint that it continues from.

        Raises:
            Fenced: a newer attempt owns the run, and may have pruned what this one would use.
            Refused: the fit has been saved before, and none of its checkpoints can be used.
            StoreUnreachable: the store does not answer now.
        """
        fit, self._fits = self._fits, self._fits + 1
        head = self._attempt.head
        keys = (head.finished[fit],) if fit in head.finished else head.checkpoints
        prefetched = self._prefetcher.take() if self._prefetcher else {}
        with self._using_store():
            try:
                checkpoint = read_newest_usable(
                    self._store, head.run, keys, fit=fit, prefetched=prefetched
                )
            except NoUsableCheckpoint as error:
                self._attempt.check()
                log.error(events.REFUSED, reason=str(error))
                raise Refused from error
        if checkpoint:
            self._attempt.resume_from(checkpoint.key, checkpoint.manifest)
            self.step = checkpoint.manifest.position.step
            self.reached_step = self._committed_step = self.step
        start = checkpoint.manifest.position if checkpoint else Position(step=self.step)
        self._scheduler.continue_from(start)
        return fit, checkpoint

    def is_newest(self, checkpoint: Checkpoint) -> bool:
        """Return whether no other checkpoint of the run has been committed after this one."""
        return self._attempt.head.checkpoints[:1] == (checkpoint.key,)

    def baseline(self, fit: int, values: Mapping[str, int]) -> Mapping[str, int]:
        """Return baseline values (for example file sizes) at the first start of this fit.

        HEAD stores them, so that they are the same in every attempt.

        Args:
            fit: index of the fit in the script.
            values: the present values by name.

        Raises:
            Fenced, Refused, StoreUnreachable: as for begin_fit.
        """
        recorded = self._attempt.head.baseline
        new = {f"{fit}:{name}": value for name, value in values.items()}
        if new.keys() - recorded.keys():
            with self._using_store():
                self._attempt.record_baseline({**new, **recorded})
        return {name: recorded.get(f"{fit}:{name}", value) for name, value in values.items()}

    def restore_files(self, checkpoint: Checkpoint, may_write: Callable[[str], bool]) -> None:
        """Restore the callbacks' files to the checkpoint, where this machine lacks their content.

        Args:
            checkpoint: the checkpoint that is resumed.
            may_write: returns whether the script itself names a file; no other file is written,
                whatever the checkpoint contains.

        Raises:
            Fenced: a newer attempt owns the run.
            StoreUnreachable: the store does not answer now.
            Refused: the store can't be used.
        """
        for stored in checkpoint.manifest.files:
            if not may_write(stored.path):
                continue
            with self._using_store():
                try:
                    if restore_file(self._store, stored):
                        log.info(events.FILE_RESTORED, file=stored.path, bytes=stored.size)
                except (NotFound, Damaged, OSError) as error:
                    self._attempt.check()
                    log.error(events.FILE_LOST, file=stored.path, reason=str(error))

    def begin_files(self, sizes: Mapping[str, int]) -> None:
        """Record the append-only files of a `fit` that is not resumed, with their present sizes."""
        self._writer.wait()
        self._attempt.begin_files(sizes)

    def record_once(self, name: str) -> bool:
        """Atomically record `name`; return True if this run had not recorded it before.

        Any thread may call it.

        Raises:
            StorageError: it is unknown whether the name was recorded before.
        """
        return self._attempt.record_once(name)

    def should_save(self, epoch: int, step: int, *, asked: bool = False) -> bool:
        """Return whether a save is due at this boundary, and the writer is free.

        Args:
            epoch: the epoch under way.
            step: batches done in the run.
            asked: a save has been requested.
        """
        busy, durable = self._writer.busy, self._last_save_seconds if self._saves else None
        return self._scheduler.should_save(epoch, step, asked=asked, busy=busy, durable=durable)

    def submit(self, snapshot: Snapshot) -> None:
        """Have the snapshot written while training continues."""
        self._submit(snapshot, last=False)

    def save(self, snapshot: Snapshot) -> bool:
        """Write the last snapshot of a fit, and wait for it. Return whether it is committed.

        Raises:
            Fenced: a newer attempt owns the run.
        """
        self._writer.wait()
        self._failed = None
        self._submit(snapshot, last=True)
        self._writer.wait()
        self.check()
        return self._failed is None

    def finish_fit(self, snapshot: Snapshot) -> None:
        """Save the final state of a fit; if that fails, the runner's exit code reports it."""
        self.step = snapshot.position.step
        if self.save(snapshot):
            log.info(events.FINISHED, run=self._attempt.head.run, step=self.step)
            return
        self.unsaved = True
        log.error(events.FINAL_UNSAVED, run=self._attempt.head.run, reason=self._failed)

    def check(self) -> None:
        """Check that this attempt still owns the run, as far as the writer knows.

        Raises:
            Fenced: the writer found that a newer attempt owns the run.
        """
        if self._fenced_by:
            log.error(
                events.FENCED,
                run=self._attempt.head.run,
                attempt=self._attempt.number,
                reason=f"{self._fenced_by}; this attempt stops, and has overwritten nothing of it",
            )
            raise Fenced

    def close(self) -> None:
        """Finish the save that is being written, and stop the writer."""
        self._writer.close()

    @contextmanager
    def _using_store(self) -> Iterator[None]:
        """Let errors of the store end the attempt, where training can't start without the store."""
        try:
            yield
        except Superseded as error:
            self._fenced_by = str(error)
            self.check()
        except StorageError as error:
            raise exit_for_store_error(error) from error

    def _submit(self, snapshot: Snapshot, *, last: bool) -> None:
        if self._writer.submit(snapshot, last=last):
            self._scheduler.submitted(snapshot.position, stalls=not last)

    def _write(self, snapshot: Snapshot, last: bool) -> None:
        """Write a snapshot, on the writer's thread."""
        started = self._writing_since = self._clock()
        try:
            self._commit(snapshot, started, last=last)
        finally:
            self._writing_since = None

    def _commit(self, snapshot: Snapshot, started: float, *, last: bool) -> None:
        try:
            for path in (*snapshot.append_only_files, *snapshot.replaced_files):
                fsync_file(path)
            manifest = self._attempt.commit(snapshot, last=last)
        except Superseded as error:
            self._fenced_by = str(error)
            return
        except (StorageError, OSError) as error:
            self._failed = str(error)
            log.error(events.SAVE_FAILED, step=snapshot.position.step, reason=str(error))
            return
        self._saves += 1
        self._committed_step = snapshot.position.step
        self._last_save_seconds = self._clock() - started
        mib = round(sum(shard.size for shard in manifest.shards) / 2**20, 1)
        log.info(
            events.SAVED,
            epoch=snapshot.position.epoch + 1,
            batch=snapshot.position.batch,
            step=snapshot.position.step,
            mib=mib,
            seconds=round(self._last_save_seconds, 3),
        )
        if self._saves == 1:
            warn_if_save_slow(self._last_save_seconds, mib)
            self._sweep()

    def _sweep(self) -> None:
        try:
            self._attempt.sweep()
        except StorageError as error:
            log.warning(events.PRUNE_FAILED, reason=str(error))
