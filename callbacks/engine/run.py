"""A run in the process that works on it: found, compared, claimed, and saved to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.attempt import Attempt, Superseded
from keepfit.callbacks.checkpoint.claim import claim, find_run
from keepfit.callbacks.checkpoint.files import restore_file
from keepfit.callbacks.checkpoint.manifest import Head, Manifest
from keepfit.callbacks.checkpoint.reader import (
    Checkpoint,
    NoUsableCheckpoint,
    read_manifest,
    read_newest_usable,
)
from keepfit.callbacks.checkpoint.retention import KeepNewest
from keepfit.callbacks.checkpoint.snapshot import Position, Snapshot
from keepfit.callbacks.engine import fresh_start
from keepfit.callbacks.engine.preemption import PreemptionState, warn_if_save_slow
from keepfit.callbacks.engine.prefetch import CheckpointPrefetcher
from keepfit.callbacks.engine.save_policy import parse_save_policy
from keepfit.callbacks.engine.scheduler import SaveScheduler
from keepfit.callbacks.engine.store_errors import exit_for_store_error
from keepfit.callbacks.engine.versions import library_versions
from keepfit.callbacks.engine.writer import FencedBy, SaveResult, SnapshotWriter, Written
from keepfit.callbacks.errors import Fenced, Refused
from keepfit.callbacks.files.file_helpers import fsync_file
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import Conflict, Damaged, NotFound, StorageError, Store

log = structlog.get_logger("keepfit")

Compare = Callable[[str, Manifest], None]
"""Compares a checkpoint, given its key and manifest, with the training that asks for it. Raises
Refused if they differ."""


@dataclass(frozen=True)
class FitStart:
    """Where a `fit` starts.

    Attributes:
        index: number of the script's `fit` calls before this one.
        step: batches done in the run.
        checkpoint: the checkpoint from which to continue; None for a new fit.
    """

    index: int
    step: int
    checkpoint: Checkpoint | None


class Run:
    """One training from start to end, of which this process is the newest attempt.

    The run is claimed by the first `fit`, after its checkpoint has been compared with the model:
    a process that does not belong to the run takes nothing over. Snapshots are written on the
    writer's thread, which alone uses the attempt while it is busy.

    Attributes:
        reached_step: batches done in the run so far, as training has last reported them.
        unsaved: the final state of a fit could not be saved.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        preemption: PreemptionState,
        prefetcher: CheckpointPrefetcher | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._store = store
        self._preemption = preemption
        self._prefetcher = prefetcher
        self._clock = clock
        self._writer = SnapshotWriter(self._write)
        self._claimed: Attempt | None = None
        self._scheduler: SaveScheduler | None = None
        self._fits = 0
        self._written: Written | None = None
        self._save: Future[SaveResult] | None = None
        self._save_started = 0.0
        self._resumed_step = 0
        self.reached_step = 0
        self.unsaved = False

    @classmethod
    def open(
        cls,
        settings: Settings,
        preemption: PreemptionState,
        prefetcher: CheckpointPrefetcher | None = None,
    ) -> Run:
        """Open the store of the run that `settings` name; nothing is claimed yet.

        Args:
            prefetcher: the one that reads this run already, if any.

        Raises:
            Refused: the store can't be used; the log says why.
        """
        try:
            store = (prefetcher and prefetcher.store()) or open_store(
                settings.store, preemption.deadline
            )
        except StorageError as error:
            raise exit_for_store_error(error) from error
        return cls(settings, store, preemption, prefetcher)

    @property
    def save_seconds(self) -> float:
        """Seconds that a save takes: those of the last one, or of the one under way if longer."""
        written = self._newest_written()
        elapsed = self._clock() - self._save_started if self._writer.busy else 0.0
        return max(written.seconds if written else 0.0, elapsed)

    @property
    def uncommitted_steps(self) -> int:
        """Number of batches that have been trained and are in no checkpoint."""
        written = self._newest_written()
        committed = written.position.step if written else self._resumed_step
        return max(0, self.reached_step - committed)

    def begin_fit(self, compare: Compare) -> FitStart:
        """Begin the next `fit`; the first one claims the run.

        Args:
            compare: called before anything is taken over.

        Raises:
            Fenced: a newer attempt owns the run, and may have pruned what this one would use.
            Refused: the checkpoint belongs to another training, or none can be used.
            StoreUnreachable: the store does not answer now.
        """
        index = self._fits
        with self._using_store():
            if self._claimed is None:
                self._claim(index, compare)
            checkpoint = self._read_checkpoint(index)
        if checkpoint:
            compare(checkpoint.key, checkpoint.manifest)
            self._attempt.resume_from(checkpoint.key, checkpoint.manifest)
            self._resumed_step = self.reached_step = checkpoint.manifest.position.step
            self._written = None
        self._fits += 1
        start = checkpoint.manifest.position if checkpoint else Position(step=self.reached_step)
        self._scheduling.continue_from(start)
        return FitStart(index, self.reached_step, checkpoint)

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

    def observe_boundary(self, epoch: int, step: int) -> None:
        """Record a boundary at which a save is possible, to measure what saves cost.

        Args:
            epoch: the epoch under way.
            step: batches done in the run.
        """
        self._scheduling.observe(epoch, step, busy=self._writer.busy, durable=self._durable())

    def save_is_due(self, epoch: int, step: int) -> bool:
        """Return whether to save at the boundary that was observed last; False while one is saved.

        Args:
            epoch, step: as for observe_boundary.
        """
        if self._writer.busy:
            return False
        return self._preemption.save_requested or self._scheduling.should_save(
            epoch, step, durable=self._durable()
        )

    def submit(self, snapshot: Snapshot) -> None:
        """Have the snapshot written while training continues."""
        self._preemption.clear_save_request()
        self._submit(snapshot, last=False)

    def save(self, snapshot: Snapshot) -> SaveResult:
        """Write the last snapshot of a fit, wait for it, and return the result.

        Raises:
            Fenced: a newer attempt owns the run.
        """
        self.finish_saves()
        result = self._submit(snapshot, last=True).result()
        self.check()
        return result

    def finish_fit(self, snapshot: Snapshot) -> bool:
        """Save the final state of a fit, and return True if it is committed.

        If it is not, the runner's exit code reports it.
        """
        result = self.save(snapshot)
        step = snapshot.position.step
        if isinstance(result, Written):
            log.info(events.FINISHED, run=self._settings.run, step=step)
            return True
        self.unsaved = True
        log.error(events.FINAL_UNSAVED, run=self._settings.run, reason=result.reason)
        return False

    def check(self) -> None:
        """Check that this attempt still owns the run, as far as the writer knows.

        Raises:
            Fenced: the writer found that a newer attempt owns the run.
        """
        if self._save and self._save.done() and isinstance(end := self._save.result(), FencedBy):
            raise self._fenced(end.reason)

    def finish_saves(self) -> None:
        """Wait for the save that is being written."""
        self._writer.wait()

    def script_ended(self) -> None:
        """Record that the script has come to its own end, so that --fresh may begin it anew."""
        self._writer.wait()
        if self._claimed is None:
            return
        try:
            fresh_start.record_end(self._claimed)
        except (Superseded, StorageError) as error:
            log.warning(
                events.END_UNRECORDED,
                run=self._settings.run,
                reason=str(error),
                fix="--fresh would continue this run; use another --run NAME to begin anew",
            )

    def close(self) -> None:
        """Finish the save that is being written, and stop the writer."""
        self._writer.close()
        if self._prefetcher:
            self._prefetcher.close()

    @property
    def _attempt(self) -> Attempt:
        if self._claimed is None:
            raise RuntimeError("the run is claimed by begin_fit, which has not been called")
        return self._claimed

    @property
    def _scheduling(self) -> SaveScheduler:
        if self._scheduler is None:
            raise RuntimeError("the run is claimed by begin_fit, which has not been called")
        return self._scheduler

    def _claim(self, index: int, compare: Compare) -> None:
        """Compare the newest checkpoint with the training, then claim the run.

        Raises:
            Refused: they differ, or nothing in the store can be resumed.
        """
        settings = self._settings
        moved = fresh_start.move_aside_if_asked(self._store, settings)
        after = moved.attempt if moved else 0

        @retry(retry=retry_if_exception_type(Conflict), stop=stop_after_attempt(10), reraise=True)
        def compare_and_claim() -> Attempt:
            found = find_run(self._store, settings.run, after=after)
            if found.head and (newest := self._newest_of_fit(found.head, index)):
                compare(*newest)
            return claim(
                self._store,
                settings.run,
                found,
                retention=KeepNewest(settings.keep),
                versions=library_versions(),
                after=after,
            )

        attempt = compare_and_claim()
        log.info(events.CLAIMED, run=settings.run, store=self._store.uri, attempt=attempt.number)
        if settings.starts_fresh:
            fresh_start.record_start(attempt)
        policy = parse_save_policy(settings.save_every)
        self._scheduler = SaveScheduler(
            policy, attempt.head.history, lambda: attempt.age, self._clock
        )
        self._claimed = attempt

    def _newest_of_fit(self, head: Head, index: int) -> tuple[str, Manifest] | None:
        """Return the newest readable checkpoint of a fit, by key and manifest, without its data."""
        for key in _checkpoints_of_fit(head, index):
            try:
                manifest = read_manifest(self._store, head.run, key)
            except (NotFound, Damaged):
                continue  # reported when it is read
            if manifest.position.fit == index:
                return key, manifest
        return None

    def _read_checkpoint(self, index: int) -> Checkpoint | None:
        head = self._attempt.head
        prefetched = self._prefetcher.take() if self._prefetcher else {}
        try:
            return read_newest_usable(
                self._store,
                head.run,
                _checkpoints_of_fit(head, index),
                fit=index,
                prefetched=prefetched,
            )
        except NoUsableCheckpoint:
            self._attempt.check()
            raise

    @contextmanager
    def _using_store(self) -> Iterator[None]:
        """Let errors of the store end the attempt, where training can't start without the store."""
        try:
            yield
        except Superseded as error:
            raise self._fenced(str(error)) from error
        except NoUsableCheckpoint as error:
            log.error(events.REFUSED, reason=str(error))
            raise Refused from error
        except StorageError as error:
            raise exit_for_store_error(error) from error

    def _fenced(self, reason: str) -> Fenced:
        log.error(
            events.FENCED,
            run=self._settings.run,
            attempt=self._attempt.number,
            reason=f"{reason}; this attempt stops, and has overwritten nothing of it",
        )
        return Fenced()

    def _newest_written(self) -> Written | None:
        """Return the newest committed save of this fit. Any thread may call it."""
        save = self._save
        if save and save.done() and isinstance(result := save.result(), Written):
            return result
        return self._written

    def _durable(self) -> float | None:
        written = self._newest_written()
        return written.seconds if written else None

    def _submit(self, snapshot: Snapshot, *, last: bool) -> Future[SaveResult]:
        self._written = self._newest_written()
        self._save_started = self._clock()
        self._save = self._writer.submit(snapshot, last=last)
        self._scheduling.submitted(snapshot.position, stalls=not last)
        return self._save

    def _write(self, snapshot: Snapshot, last: bool) -> Written:
        """Write a snapshot, on the writer's thread.

        Raises:
            Superseded: a newer attempt owns the run.
            Exception: the snapshot could not be saved.
        """
        started = self._clock()
        snapshot = snapshot.encoded()
        for path in (*snapshot.append_only_files, *snapshot.replaced_files):
            fsync_file(path)
        manifest = self._attempt.commit(
            snapshot, last=last, hurry=lambda: self._preemption.final_save_begun
        ).manifest
        written = Written(
            snapshot.position,
            self._clock() - started,
            sum(shard.size for shard in manifest.shards),
        )
        first = manifest.sequence == 0
        mib = round(written.size / 2**20, 1)
        log.info(
            events.SAVED,
            epoch=snapshot.position.epoch + 1,
            batch=snapshot.position.batch,
            step=snapshot.position.step,
            mib=mib,
            seconds=round(written.seconds, 3),
        )
        if first:
            warn_if_save_slow(written.seconds, mib)
        return written


def _checkpoints_of_fit(head: Head, index: int) -> tuple[str, ...]:
    """Return the keys of the checkpoints among which to look for those of a fit, newest first."""
    return (head.finished[index],) if index in head.finished else head.checkpoints
