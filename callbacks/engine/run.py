"""A run in the process that works on it: found, compared, claimed, and saved to."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.fit_record import FitRecord
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.format.state_schema import StateSchema
from keepfit.callbacks.checkpoint.read.reader import Checkpoint
from keepfit.callbacks.checkpoint.snapshot import Position, Snapshot
from keepfit.callbacks.engine.final_states import FinalStates
from keepfit.callbacks.engine.ownership import Ownership
from keepfit.callbacks.engine.preemption import (
    PreemptionState,
    RunningFit,
    warn_if_save_slow,
)
from keepfit.callbacks.engine.prefetch import CheckpointPrefetcher
from keepfit.callbacks.engine.run_journal import RunJournal, new_recorder
from keepfit.callbacks.engine.run_progress import RunProgress, TrainingPosition
from keepfit.callbacks.engine.save_policy import parse_save_policy
from keepfit.callbacks.engine.scheduler import SaveScheduler
from keepfit.callbacks.engine.store_errors import exit_for_store_error
from keepfit.callbacks.engine.writer import FencedBy, SaveResult, SnapshotWriter, Written
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.files.file_helpers import fsync_file
from keepfit.callbacks.identity.fits import MatchedBy, RequestedFit
from keepfit.callbacks.journal.document import Activity, Reason
from keepfit.callbacks.journal.recorder import JournalRecorder
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.storage import open_store
from keepfit.callbacks.storage.base import StorageError, Store

log = get_logger()

Compare = Callable[[str, Manifest], None]
"""Compares a checkpoint, given its key and manifest, with the training that asks for it. Raises
Refused if they differ."""

CLEANUP_AT_NOTICE = 1.0
"""Seconds for which a preempted process waits for deletions and artifacts."""


@dataclass(frozen=True)
class FitStart:
    """Where a `fit` starts.

    Attributes:
        index: number of the fit in the run.
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
        owned: the run as far as it lies in the store.
        journal: the journal of this attempt.
        recorder: records what the journal contains.
        final_states: the final states of the finished fits.
        reached_step: batches done in the run so far, as training has last reported them.
        unsaved: the final state of a fit could not be saved.
        short_fit: index of a finished fit that was asked for more epochs and could not train on.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        preemption: PreemptionState,
        prefetcher: CheckpointPrefetcher | None = None,
        clock: Callable[[], float] = time.monotonic,
        recorder: JournalRecorder | None = None,
    ) -> None:
        self.owned = Ownership(settings, store, prefetcher)
        self.journal = RunJournal(store, recorder or new_recorder(preemption))
        self.recorder = self.journal.recorder
        self.final_states = FinalStates(settings.keep_fits)
        self._settings = settings
        self._preemption = preemption
        self._clock = clock
        self._writer = SnapshotWriter(self._write)
        self._scheduler: SaveScheduler | None = None
        self._begun: list[int] = []
        self._unrecorded: dict[int, RequestedFit] = {}
        self._fit: RunningFit | None = None
        self._has_written = False  # belongs to the writer's thread
        self._written: Written | None = None
        self._save: Future[SaveResult] | None = None
        self._mark = self.recorder.captured(0)  # of the snapshot that the writer has, at most one
        self._save_started = 0.0
        self._resumed_step = 0
        self._resumed_from: TrainingPosition | None = None
        self._epoch: int | None = None
        self._events = 0
        self.reached_step = 0
        self.unsaved = False
        self.short_fit: int | None = None

    @classmethod
    def open(
        cls,
        settings: Settings,
        preemption: PreemptionState,
        prefetcher: CheckpointPrefetcher | None = None,
        recorder: JournalRecorder | None = None,
    ) -> Run:
        """Open the store of the run that `settings` name; nothing is claimed yet.

        Args:
            prefetcher: the one that reads this run already, if any.
            recorder: records the journal of this attempt.

        Raises:
            Refused: the store can't be used; the log says why.
        """
        try:
            store = (prefetcher and prefetcher.store()) or open_store(
                settings.store, preemption.deadline
            )
        except StorageError as error:
            raise exit_for_store_error(error) from error
        return cls(settings, store, preemption, prefetcher, recorder=recorder)

    @property
    def name(self) -> str:
        """The name of the run."""
        return self._settings.run

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

    @property
    def progress(self) -> RunProgress:
        """The progress of this run. Any thread may ask for it."""
        return RunProgress(
            self._settings.run,
            self.owned.attempt.number if self.owned.claimed else None,
            TrainingPosition(self._epoch, self.reached_step),
            self._resumed_from,
            self._events,
        )

    def observe_event(self, epoch: int, step: int) -> None:
        """Record an event of the training, such as the end of a batch; see RunProgress.

        Args:
            epoch: the epoch under way, from 0.
            step: batches done in the run.
        """
        self.reached_step, self._epoch = step, epoch + 1
        self._events += 1

    def begin_fit(self, requested: RequestedFit, fit: RunningFit | None = None) -> FitStart:
        """Begin a `fit`; the first one claims the run.

        Args:
            requested: finds the fit in the run, and compares it before anything is taken over.
            fit: the call of `fit`.

        Raises:
            Fenced: a newer attempt owns the run, and may have pruned what this one would use.
            Refused: the checkpoint belongs to another training, or none can be used.
            StoreUnreachable: the store does not answer now.
        """
        if self._fit and self._fit.is_running():
            raise self._refuse_second_fit()
        self._fit = fit
        self._writer.wait()
        self.recorder.fit_asked()
        with self.owned.using_store():
            if self.owned.claimed:
                match = self.owned.next_fit(requested, self._begun, self._unrecorded)
            else:
                match = self.owned.claim(requested)
                self._scheduler = self._new_scheduler()
                self.journal.begin(self.owned.attempt)
            checkpoint = None if match.is_new else self._read_checkpoint(match.index, requested)
            self._begun.append(match.index)
            record = self.owned.record_of(match.index)
            if record is None or record.data is None or match.by is MatchedBy.CHANGED:
                self._unrecorded[match.index] = requested
            if match.is_new and match.ambiguous:  # a script that skips fits must not miss it
                self.owned.attempt.record_fits(self._records())
        if checkpoint:
            requested.compare(checkpoint.key, checkpoint.manifest, record)
            self._resume_from(checkpoint)
        start = self._start_of(checkpoint)
        self._resumed_step = self.reached_step = start.step
        self._scheduling.continue_from(start)
        return FitStart(match.index, self.reached_step, checkpoint)

    def train_on(self, index: int, compare: Compare, schema: StateSchema) -> Checkpoint | None:
        """Continue a finished fit, which `begin_fit` has just returned.

        Returns:
            The checkpoint from which it continues; None if there is none, and nothing has changed.

        Raises:
            Fenced, Refused, StoreUnreachable: as for begin_fit.
        """
        with self.owned.using_store():
            checkpoint = self.owned.read_continuation(index, schema)
            if checkpoint is None:
                return None
            compare(checkpoint.key, checkpoint.manifest)
            self.owned.attempt.record_training_on(index)
        self._resume_from(checkpoint)
        self._scheduling.continue_from(checkpoint.manifest.position)
        return checkpoint

    def end_fit(self) -> None:
        """Record that the fit is over, so that the next one may begin."""
        self._fit = None

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
            raise self.owned.fenced(end.reason)

    def finish_saves(self) -> None:
        """Wait for the save that is being written."""
        self._writer.wait()

    def script_ended(self, *, completed: bool) -> None:
        """Record that the script has come to its own end; `completed`: no error has ended it."""
        self._writer.wait()
        self.owned.script_ended(completed=completed and not self.unsaved)

    def ended(self, reason: Reason, exit_code: int | None, detail: str = "") -> None:
        """Record in the journal why the attempt ends. The first reason counts.

        Args:
            exit_code: exit code of the process, if it is known.
            detail: one line about the cause.
        """
        self.recorder.ended(reason, self.reached_step, exit_code, detail)
        self.journal.write()

    def close(self) -> None:
        """Finish the save that is being written, and stop the writer."""
        self._writer.close()
        for requested in self._unrecorded.values():
            requested.close()
        self.journal.close()
        self.owned.close(CLEANUP_AT_NOTICE if self._preemption.end else None)

    @property
    def _scheduling(self) -> SaveScheduler:
        if self._scheduler is None:
            raise RuntimeError("no fit has claimed the run yet")
        return self._scheduler

    def _read_checkpoint(self, index: int, requested: RequestedFit) -> Checkpoint | None:
        with self.recorder.during(Activity.RESTORE):
            return self.owned.read_checkpoint(index, requested.schema)

    def _start_of(self, checkpoint: Checkpoint | None) -> Position:
        """Return the position from which a fit starts; a new one counts on from the run's steps."""
        if checkpoint:
            return checkpoint.manifest.position
        return Position(step=max(self.reached_step, self.owned.attempt.newest_step))

    def _resume_from(self, checkpoint: Checkpoint) -> None:
        self.owned.attempt.resume_from(checkpoint.key, checkpoint.manifest)
        position = checkpoint.manifest.position
        self._resumed_step = self.reached_step = position.step
        self._resumed_from = TrainingPosition(position.epoch + 1, position.step)
        self._written = self._save = None

    def _refuse_second_fit(self) -> Refused:
        log.error(
            events.REFUSED,
            run=self._settings.run,
            reason="another fit of this run is under way in this process",
            fix="give each of them a run of its own: Resumable(run=…)",
        )
        return Refused()

    def _new_scheduler(self) -> SaveScheduler:
        attempt = self.owned.attempt
        policy = parse_save_policy(self._settings.save_every)
        return SaveScheduler(policy, attempt.head.history, lambda: attempt.age, self._clock)

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
        self._mark = self.recorder.captured(snapshot.position.step)
        self._save = self._writer.submit(snapshot, last=last)
        self._scheduling.submitted(snapshot.position, stalls=not last)
        return self._save

    def _records(self) -> dict[int, FitRecord]:
        """Return the identities of the fits that HEAD does not record, as far as they are known."""
        recorded = self.owned.attempt.head.fits
        return {
            index: requested.record(complete=False).continuing(recorded.get(index))
            for index, requested in self._unrecorded.items()
        }

    def _identify_fits(self) -> None:
        """Wait until the fits are identified; a notice ends the wait, so it delays no last save."""
        for requested in self._unrecorded.values():
            requested.wait_until_known(lambda: self._preemption.notice is not None)

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
        if snapshot.position.finished:
            self._identify_fits()
        known = [index for index, requested in self._unrecorded.items() if requested.is_known]
        manifest = self.owned.attempt.commit(
            snapshot,
            last=last,
            hurry=lambda: self._preemption.final_save_begun,
            notice=lambda: self._preemption.notice is not None,
            release=self.final_states.released_at(snapshot.position.fit),
            fits=self._records(),
        ).manifest
        for index in known:
            del self._unrecorded[index]
        written = Written(
            snapshot.position,
            self._clock() - started,
            sum(shard.size for shard in manifest.shards),
        )
        self.recorder.saved(self._mark, snapshot.position, written.seconds, written.size, last)
        self.journal.write()
        mib = round(written.size / 2**20, 1)
        log.info(
            events.SAVED,
            epoch=snapshot.position.epoch + 1,
            batch=snapshot.position.batch,
            step=snapshot.position.step,
            mib=mib,
            seconds=round(written.seconds, 3),
        )
        if not self._has_written:
            self._has_written = True
            warn_if_save_slow(written.seconds, mib)
            self.owned.attempt.begin_sweep()
        return written
