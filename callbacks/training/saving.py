"""The saves of one `fit`: while it trains, at its end, and when a notice ends it."""

from __future__ import annotations

import time
from dataclasses import replace

from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.checkpoint.snapshot import Snapshot
from keepfit.callbacks.engine.preemption import PreemptionPolicy, PreemptionState, RunningFit
from keepfit.callbacks.engine.run import Run
from keepfit.callbacks.engine.writer import Written
from keepfit.callbacks.journal.terms import Activity
from keepfit.callbacks.training.capture import TrainingCapture
from keepfit.callbacks.training.data.position import DataPosition
from keepfit.callbacks.training.data.tracker import DataTracker, StateRefresh
from keepfit.callbacks.training.phases import Progress

SENDS_AT_NOTICE = 5.0
"""Seconds for which a preempted process waits for uploads and reports, after its last save."""


class FitSaves:
    """Decides at each boundary of a fit whether to save or to leave, and does it."""

    def __init__(
        self,
        run: Run,
        preemption: PreemptionState,
        fit: RunningFit,
        capture: TrainingCapture,
        data: DataTracker,
        callbacks: HeldCallbacks,
    ) -> None:
        self._run = run
        self._preemption = preemption
        self._fit = fit
        self._capture = capture
        self._data = data
        self._callbacks = callbacks
        self._policy = PreemptionPolicy(preemption, time.monotonic)

    def must_exit(self) -> bool:
        """Return whether a notice requires to leave the fit at this boundary; once at each."""
        self._policy.observe_boundary()
        return self._policy.must_exit(self._run.saves.seconds)

    def is_due(self, progress: Progress) -> bool:
        """Return whether a save is due at this boundary; once at each."""
        self._run.saves.observe_boundary(progress.epoch, progress.step)
        return self._run.saves.is_due(progress.epoch, progress.step)

    def submit(self, snapshot: Snapshot, refresh: StateRefresh) -> None:
        """Have the snapshot written while training continues."""
        with self._run.recorder.during(Activity.SAVING):
            self._run.saves.submit(self._capture.with_data(snapshot, self._data.position(refresh)))

    def save_and_exit(self, snapshot: Snapshot, refresh: StateRefresh) -> None:
        """Save for the last time and leave the fit.

        Raises:
            Preempted: always.
        """
        self._preemption.begin_final_save()
        with self._run.recorder.during(Activity.SAVING):
            snapshot = self._capture.with_data(snapshot, self._data.position(refresh))
            result = self._run.saves.save(snapshot)
        self._leave(snapshot, saved=isinstance(result, Written))

    def finish(self, snapshot: Snapshot, continuation: Snapshot | None) -> None:
        """Save the final state of the fit; leave it if a notice requires that.

        Uploads and reports that are still to be sent are waited for after that.

        Args:
            continuation: the snapshot after the last batch, if the fit can train on from it.

        Raises:
            Preempted: a notice has ended the attempt.
        """
        self._preemption.fit_ends(self._fit)
        final = self._capture.with_data(snapshot, DataPosition())
        if continuation:
            position = self._data.position(StateRefresh.NEVER)
            continuation = self._capture.with_data(continuation, position)
            final = replace(final, continuation=continuation)
        with self._run.recorder.during(Activity.SAVING):
            saved = self._run.saves.save_final(final)
        if self.must_exit():
            self._leave(snapshot, saved=saved)
        self._callbacks.finish_sends(None)

    def _leave(self, snapshot: Snapshot, *, saved: bool) -> None:
        deadline = self._preemption.deadline()
        left = SENDS_AT_NOTICE if deadline is None else max(0.0, deadline - time.monotonic())
        self._callbacks.finish_sends(min(left, SENDS_AT_NOTICE))
        self._preemption.fit_ends(self._fit)
        raise self._preemption.end_of_attempt(snapshot.position.step, saved=saved)
