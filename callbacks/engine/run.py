"""A run in the process that works on it: found, compared, claimed, and saved to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from keepfit.callbacks import events
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.checkpoint.format.state_schema import StateSchema
from keepfit.callbacks.checkpoint.read.reader import Checkpoint
from keepfit.callbacks.engine.admission import Admission, admit_all
from keepfit.callbacks.engine.final_states import FinalStates
from keepfit.callbacks.engine.fit_identities import FitIdentities
from keepfit.callbacks.engine.gpus import warn_of_unused_gpu
from keepfit.callbacks.engine.ownership import Ownership
from keepfit.callbacks.engine.preemption import (
    PreemptionState,
    RunningFit,
)
from keepfit.callbacks.engine.prefetch import CheckpointPrefetcher
from keepfit.callbacks.engine.run_journal import RunJournal, new_recorder
from keepfit.callbacks.engine.run_progress import RunProgress, TrainingPosition
from keepfit.callbacks.engine.run_saves import RunSaves
from keepfit.callbacks.engine.save_policy import parse_save_policy
from keepfit.callbacks.engine.store_errors import exit_for_store_error
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.identity.fits import MatchedBy, RequestedFit
from keepfit.callbacks.journal.recorder import JournalRecorder
from keepfit.callbacks.journal.terms import Activity, Reason
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
    a process that does not belong to the run takes nothing over.

    Attributes:
        owned: the run as far as it lies in the store.
        journal: the journal of this attempt.
        recorder: records what the journal contains.
        final_states: the final states of the finished fits.
        saves: writes the snapshots of its fits.
        reached_step: batches done in the run so far, as training has last reported them.
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
        admit: Admission = admit_all,
    ) -> None:
        self.owned = Ownership(settings, store, prefetcher, admit)
        self.journal = RunJournal(store, recorder or new_recorder(preemption))
        self.recorder = self.journal.recorder
        self.final_states = FinalStates(settings.keep_fits)
        self._settings = settings
        self._preemption = preemption
        self._identities = FitIdentities()
        self.saves = RunSaves(
            self.owned, self.journal, self._identities, self.final_states, preemption, clock
        )
        self._begun: list[int] = []
        self._fit: RunningFit | None = None
        self._resumed_from: TrainingPosition | None = None
        self._epoch: int | None = None
        self._events = 0
        self.reached_step = 0
        self.short_fit: int | None = None

    @classmethod
    def open(
        cls,
        settings: Settings,
        preemption: PreemptionState,
        prefetcher: CheckpointPrefetcher | None = None,
        recorder: JournalRecorder | None = None,
        admit: Admission = admit_all,
    ) -> Run:
        """Open the store of the run that `settings` name; nothing is claimed yet.

        Args:
            prefetcher: the one that reads this run already, if any.
            recorder: records the journal of this attempt.
            admit: checks the limits of the run before it is claimed.

        Raises:
            Refused: the store can't be used; the log says why.
        """
        try:
            store = (prefetcher and prefetcher.store()) or open_store(
                settings.store, preemption.deadline
            )
        except StorageError as error:
            raise exit_for_store_error(error) from error
        return cls(settings, store, preemption, prefetcher, recorder=recorder, admit=admit)

    @property
    def name(self) -> str:
        """The name of the run."""
        return self._settings.run

    @property
    def uncommitted_steps(self) -> int:
        """Number of batches that have been trained and are in no checkpoint."""
        return max(0, self.reached_step - self.saves.committed_step)

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
            LimitReached: the run has used what it may.
            Refused: the checkpoint belongs to another training, or none can be used.
            StoreUnreachable: the store does not answer now.
        """
        if self._fit and self._fit.is_running():
            raise self._refuse_second_fit()
        self._fit = fit
        self.saves.wait()
        self.recorder.fit_asked()
        with self.owned.using_store():
            if self.owned.claimed:
                match = self.owned.next_fit(requested, self._begun, self._identities.unrecorded)
            else:
                match = self.owned.claim(requested)
                self.saves.schedule(parse_save_policy(self._settings.save_every))
                self.journal.begin(self.owned.attempt)
                warn_of_unused_gpu()
            checkpoint = None if match.is_new else self._read_checkpoint(match.index, requested)
            self._begun.append(match.index)
            record = self.owned.record_of(match.index)
            if record is None or record.data is None or match.by is MatchedBy.CHANGED:
                self._identities.add(match.index, requested)
            if match.is_new and match.ambiguous:  # a script that skips fits must not miss it
                attempt = self.owned.attempt
                attempt.record_fits(self._identities.records(attempt.head.fits))
        if checkpoint:
            requested.compare(checkpoint.key, checkpoint.manifest, record)
            self._resume_from(checkpoint)
        start = self._start_of(checkpoint)
        self.reached_step = start.step
        self.saves.fit_starts(start, resumed=checkpoint is not None)
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
        self.saves.fit_starts(checkpoint.manifest.position, resumed=True)
        return checkpoint

    def end_fit(self) -> None:
        """Record that the fit is over, so that the next one may begin."""
        self._fit = None

    def script_ended(self, *, completed: bool) -> None:
        """Record that the script has come to its own end; `completed`: no error has ended it."""
        self.saves.wait()
        self.owned.script_ended(completed=completed and not self.saves.unsaved)

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
        self.saves.close()
        self._identities.close()
        self.journal.close()
        self.owned.close(CLEANUP_AT_NOTICE if self._preemption.end else None)

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
        self.reached_step = position.step
        self._resumed_from = TrainingPosition(position.epoch + 1, position.step)

    def _refuse_second_fit(self) -> Refused:
        log.error(
            events.REFUSED,
            run=self._settings.run,
            reason="another fit of this run is under way in this process",
            fix="give each of them a run of its own: Resumable(run=…)",
        )
        return Refused()
