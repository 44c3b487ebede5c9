"""A run as this process works on it: the claim, and the writer's thread."""

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
from keepfit.callbacks.adapters.csv_logger import fsync_file
from keepfit.callbacks.checkpoint import save_policy
from keepfit.callbacks.checkpoint.attempt import Attempt, Superseded
from keepfit.callbacks.checkpoint.claim import claim_run, move_aside
from keepfit.callbacks.checkpoint.files import restore_file
from keepfit.callbacks.checkpoint.prefetch import CheckpointPrefetcher
from keepfit.callbacks.checkpoint.reader import Checkpoint, NoUsableCheckpoint, read_newest_usable
from keepfit.callbacks.checkpoint.retention import KeepNewest
from keepfit.callbacks.checkpoint.save_policy import SavePolicy
from keepfit.callbacks.checkpoint.snapshot import Position, Snapshot
from keepfit.callbacks.checkpoint.writer import SnapshotWriter
from keepfit.callbacks.errors import Fenced, Refused
from keepfit.callbacks.preemption_policy import warn_if_save_slow
from keepfit.callbacks.save_scheduler import SaveScheduler
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import Damaged, NotFound, StorageError, Store
from keepfit.callbacks.store_errors import exit_for_store_error

log = structlog.get_logger("keepfit")


class Run:
    """One training from start to end, of which this process is the newest attempt.

    Snapshots are written on the writer's thread, which alone uses the attempt while it is busy.
    """

    def __init__(
        self,
        store: Store,
        attempt: Attempt,
        when: SavePolicy,
        prefetcher: CheckpointPrefetcher | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._prefetcher = prefetcher
        self._attempt = attempt
        self._clock = clock
        self._scheduler = SaveScheduler(when, attempt.head.history, lambda: attempt.age, clock)
        self._writer = SnapshotWriter(self._write)
        self._fits = 0
        self._saves = 0
        self._fenced_by: str | None = None
        self._failed: str | None = None
        self._committed = 0
        self._took = 0.0
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
        """Take over the run that `settings` name, or begin it.

        Args:
            deadline: when this process is gone, as time.monotonic() counts, if that is known.
            prefetcher: what reads this run already.

        Raises:
            Misfit: the store can't be used, or nothing in it can be resumed; the log says why.
            Unreachable: the store does not answer now.
        """
        versions = {
            "keepfit": version("keepfit"),
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
        }
        try:
            store = (prefetcher and prefetcher.store()) or open_store(settings.store, deadline)
            aside = (
                move_aside(store, settings.run, datetime.now(UTC))
                if settings.starts_fresh
                else None
            )
            if aside:
                log.info(events.STARTED_AFRESH, run=settings.run, moved_to=aside.name)
            attempt = claim_run(
                store,
                settings.run,
                retention=KeepNewest(settings.keep),
                versions=versions,
                after=aside.attempt if aside else 0,
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
        """Seconds that a save takes, as far as is known: the last one, or the one under way."""
        since = self._writing_since
        return max(self._took, 0.0 if since is None else self._clock() - since)

    @property
    def uncommitted_steps(self) -> int:
        """Batches that have been trained and are in no checkpoint."""
        return max(0, self.reached_step - self._committed)

    def begin_fit(self) -> tuple[int, Checkpoint | None]:
        """The index of the `fit` that begins, and what it goes on from.

        Raises:
            Fenced: a newer attempt owns the run, and may have pruned what this one would use.
            Misfit: it has been saved before, and nothing of that can be used.
            Unreachable: the store does not answer now.
        """
        fit, self._fits = self._fits, self._fits + 1
        head = self._attempt.head
        keys = (head.finished[fit],) if fit in head.finished else head.checkpoints
        known = self._prefetcher.take() if self._prefetcher else {}
        with self._using_store():
            try:
                checkpoint = read_newest_usable(self._store, head.run, keys, fit=fit, known=known)
            except NoUsableCheckpoint as error:
                self._attempt.check()
                log.error(events.REFUSED, reason=str(error))
                raise Refused from error
        if checkpoint:
            self._attempt.resume_from(checkpoint.key, checkpoint.manifest)
            self.step = self.reached_step = self._committed = checkpoint.manifest.position.step
        begins_at = checkpoint.manifest.position if checkpoint else Position(step=self.step)
        self._scheduler.goes_on_from(begins_at)
        return fit, checkpoint

    def baseline(self, fit: int, values: Mapping[str, int]) -> Mapping[str, int]:
        """What was so when this fit first began, in any attempt.

        Args:
            values: what is so now, by name, such as the sizes of files.

        Raises:
            Fenced, Misfit, Unreachable: as begin_fit.
        """
        recorded = self._attempt.head.baseline
        new = {f"{fit}:{name}": value for name, value in values.items()}
        if new.keys() - recorded.keys():
            with self._using_store():
                self._attempt.record_baseline({**new, **recorded})
        return {name: recorded.get(f"{fit}:{name}", value) for name, value in values.items()}

    def restore_files(self, checkpoint: Checkpoint, may_write: Callable[[str], bool]) -> None:
        """Give the callbacks' files what they held at the checkpoint, if this machine lacks it.

        Args:
            may_write: whether the script itself names a file; no other is written, whatever the
                checkpoint says.

        Raises:
            Unreachable: the store does not answer now.
            Misfit: it refuses to.
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
        """A `fit` that is not resumed has opened its append-only files, which are so long now."""
        self._writer.wait()
        self._attempt.begin_files(sizes)

    def record_once(self, name: str) -> bool:
        """Whether nothing of this name has been asked for in the run. Any thread may call it.

        Raises:
            StorageError: it can't be found out.
        """
        return self._attempt.record_once(name)

    def due(self, epoch: int, step: int, *, asked: bool = False) -> bool:
        """Whether the schedule or somebody asks for a save, and the writer is free."""
        busy, durable = self._writer.busy, self._took if self._saves else None
        return self._scheduler.due(epoch, step, asked=asked, busy=busy, durable=durable)

    def submit(self, snapshot: Snapshot) -> None:
        """Have it written while training goes on."""
        self._submit(snapshot, last=False)

    def save(self, snapshot: Snapshot) -> bool:
        """Write it now, as the last one of a fit. Returns whether it is safe.

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
        """Save the final state of a fit; where that fails, the runner's exit code will say so."""
        self.step = snapshot.position.step
        if self.save(snapshot):
            log.info(events.FINISHED, run=self._attempt.head.run, step=self.step)
            return
        self.unsaved = True
        log.error(events.FINAL_UNSAVED, run=self._attempt.head.run, reason=self._failed)

    def check(self) -> None:
        """Raises Fenced if the writer found that a newer attempt owns the run."""
        if self._fenced_by:
            log.error(
                events.FENCED,
                run=self._attempt.head.run,
                attempt=self._attempt.number,
                reason=f"{self._fenced_by}; this attempt stops and has changed nothing of it",
            )
            raise Fenced

    def close(self) -> None:
        """Finish what is being written."""
        self._writer.close()

    @contextmanager
    def _using_store(self) -> Iterator[None]:
        """Where training can't begin without the store: its errors end the attempt."""
        try:
            yield
        except Superseded as error:
            self._fenced_by = str(error)
            self.check()
        except StorageError as error:
            raise exit_for_store_error(error) from error

    def _submit(self, snapshot: Snapshot, *, last: bool) -> None:
        if self._writer.submit(snapshot, last=last):
            self._scheduler.offered(snapshot.position, stalls=not last)

    def _write(self, snapshot: Snapshot, last: bool) -> None:
        """On the writer's thread."""
        started = self._writing_since = self._clock()
        try:
            self._commit(snapshot, started, last=last)
        finally:
            self._writing_since = None

    def _commit(self, snapshot: Snapshot, started: float, *, last: bool) -> None:
        try:
            for wait in snapshot.pending_uploads:
                wait()
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
        self._committed = snapshot.position.step
        self._took = self._clock() - started
        mib = round(sum(shard.size for shard in manifest.shards) / 2**20, 1)
        log.info(
            events.SAVED,
            epoch=snapshot.position.epoch + 1,
            batch=snapshot.position.batch,
            step=snapshot.position.step,
            mib=mib,
            seconds=round(self._took, 3),
        )
        if self._saves == 1:
            warn_if_save_slow(self._took, mib)
            self._sweep()

    def _sweep(self) -> None:
        try:
            self._attempt.sweep()
        except StorageError as error:
            log.warning(events.PRUNE_FAILED, reason=str(error))
