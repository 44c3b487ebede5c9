"""The saves of one run: when they are due, and what has become of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.checkpoint.snapshot import Snapshot
from keepfit.callbacks.engine.final_states import FinalStates
from keepfit.callbacks.engine.fit_identities import FitIdentities
from keepfit.callbacks.engine.ownership import Ownership
from keepfit.callbacks.engine.preemption import PreemptionState, warn_if_save_slow
from keepfit.callbacks.engine.run_journal import RunJournal
from keepfit.callbacks.engine.save_policy import SavePolicy
from keepfit.callbacks.engine.scheduler import SaveScheduler
from keepfit.callbacks.engine.writer import FencedBy, SaveResult, SnapshotWriter, Written
from keepfit.callbacks.files.file_helpers import fsync_file
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()


class RunSaves:
    """Has snapshots written on the writer's thread, which alone uses the attempt while it is busy.

    Attributes:
        unsaved: the final state of a fit could not be saved.
    """

    def __init__(
        self,
        owned: Ownership,
        journal: RunJournal,
        identities: FitIdentities,
        final_states: FinalStates,
        preemption: PreemptionState,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._owned = owned
        self._journal = journal
        self._identities = identities
        self._final_states = final_states
        self._preemption = preemption
        self._clock = clock
        self._writer = SnapshotWriter(self._write)
        self._scheduler: SaveScheduler | None = None
        self._has_written = False  # belongs to the writer's thread
        self._written: Written | None = None
        self._save: Future[SaveResult] | None = None
        self._mark = journal.recorder.captured(0)  # of the snapshot that the writer has
        self._save_started = 0.0
        self._started_at = 0
        self.unsaved = False

    @property
    def seconds(self) -> float:
        """Seconds that a save takes: those of the last one, or of the one under way if longer."""
        written = self._newest_written()
        elapsed = self._clock() - self._save_started if self._writer.busy else 0.0
        return max(written.seconds if written else 0.0, elapsed)

    @property
    def busy(self) -> bool:
        """True while a snapshot is being written."""
        return self._writer.busy

    @property
    def committed_step(self) -> int:
        """Batches done in the run at its newest committed checkpoint, as far as fits use it."""
        written = self._newest_written()
        return written.position.step if written else self._started_at

    def schedule(self, policy: SavePolicy) -> None:
        """Schedule the saves of an attempt that has just claimed the run."""
        attempt = self._owned.attempt
        self._scheduler = SaveScheduler(
            policy, attempt.head.history, lambda: attempt.age, self._clock
        )

    def fit_starts(self, position: Position, *, resumed: bool) -> None:
        """Record where a fit starts.

        Args:
            resumed: it continues a checkpoint; saves of other fits don't count for it.
        """
        if resumed:
            self._written = self._save = None
        self._started_at = position.step
        self._scheduling.continue_from(position)

    def observe_boundary(self, epoch: int, step: int) -> None:
        """Record a boundary at which a save is possible, to measure what saves cost.

        Args:
            epoch: the epoch under way.
            step: batches done in the run.
        """
        self._scheduling.observe(epoch, step, busy=self._writer.busy, durable=self._durable())

    def is_due(self, epoch: int, step: int) -> bool:
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
        self.wait()
        result = self._submit(snapshot, last=True).result()
        self.check()
        return result

    def save_final(self, snapshot: Snapshot) -> bool:
        """Save the final state of a fit, and return True if it is committed.

        If it is not, the runner's exit code reports it.
        """
        result, run = self.save(snapshot), self._owned.attempt.head.run
        if isinstance(result, Written):
            log.info(events.FINISHED, run=run, step=snapshot.position.step)
            return True
        self.unsaved = True
        log.error(events.FINAL_UNSAVED, run=run, reason=result.reason)
        return False

    def check(self) -> None:
        """Check that this attempt still owns the run, as far as the writer knows.

        Raises:
            Fenced: the writer found that a newer attempt owns the run.
        """
        if self._save and self._save.done() and isinstance(end := self._save.result(), FencedBy):
            raise self._owned.fenced(end.reason)

    def wait(self) -> None:
        """Wait for the save that is being written."""
        self._writer.wait()

    def close(self) -> None:
        """Finish the save that is being written, and stop the writer."""
        self._writer.close()

    @property
    def _scheduling(self) -> SaveScheduler:
        if self._scheduler is None:
            raise RuntimeError("no fit has claimed the run yet")
        return self._scheduler

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
        self._mark = self._journal.recorder.captured(snapshot.position.step)
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
        size = self._commit(snapshot.encoded(), last)
        written = Written(snapshot.position, self._clock() - started, size)
        self._journal.recorder.saved(
            self._mark, snapshot.position, written.seconds, size, last=last
        )
        self._journal.write()
        self._report(written)
        return written

    def _commit(self, snapshot: Snapshot, last: bool) -> int:
        """Commit a snapshot, and return the size of its shards in bytes. Raises as _write does."""
        for path in (*snapshot.append_only_files, *snapshot.replaced_files):
            fsync_file(path)
        if snapshot.position.finished:  # a notice ends the wait, so it delays no last save
            self._identities.wait(lambda: self._preemption.notice is not None)
        attempt = self._owned.attempt
        with self._identities.committing():
            committed = attempt.commit(
                snapshot,
                last=last,
                hurry=lambda: self._preemption.final_save_begun,
                notice=lambda: self._preemption.notice is not None,
                release=self._final_states.released_at(snapshot.position.fit),
                fits=self._identities.records(attempt.head.fits),
            )
        return sum(shard.size for shard in committed.manifest.shards)

    def _report(self, written: Written) -> None:
        mib = round(written.size / 2**20, 1)
        position = written.position
        log.info(
            events.SAVED,
            epoch=position.epoch + 1,
            batch=position.batch,
            step=position.step,
            mib=mib,
            seconds=round(written.seconds, 3),
        )
        if not self._has_written:
            self._has_written = True
            warn_if_save_slow(written.seconds, mib)
            self._owned.attempt.begin_sweep()
