"""One `fit` in progress: its position, its saves, and its return to an interrupted position."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import structlog

from keepfit.callbacks import events
from keepfit.callbacks.adapters import held_callbacks
from keepfit.callbacks.adapters.base import HeldCallback
from keepfit.callbacks.checkpoint.reader import Checkpoint
from keepfit.callbacks.checkpoint.snapshot import Position, Snapshot
from keepfit.callbacks.engine.preemption import PreemptionPolicy
from keepfit.callbacks.engine.run import Run
from keepfit.callbacks.engine.session import Session
from keepfit.callbacks.errors import Preempted
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.training import (
    callback_files,
    internals,
    random_state,
    refusal,
    step_function,
)
from keepfit.callbacks.training.data.position import DataChanged, DataPosition, iterator_states
from keepfit.callbacks.training.data.py_dataset import PyDatasetState
from keepfit.callbacks.training.data.tracker import DataTracker, StateRefresh
from keepfit.callbacks.training.recorder import ModelChanged, TrainingRecorder, with_data
from keepfit.callbacks.training.step_function import Logs

log = structlog.get_logger("keepfit")

SENDS_AT_NOTICE = 5.0
"""Seconds for what the callbacks still send after the last save at a notice."""


class Fit:
    """The state of one `fit` call, updated by the hooks of Resumable.

    A resumed fit starts with the interrupted epoch. The batches of it that are done are skipped:
    the train function returns at once and `muted` is true, so that the callbacks inside Resumable
    don't see them twice.

    A save is possible at three kinds of moments: after a batch; before an epoch, where the snapshot
    is completed at the first call of the train function, which passes the new iterator (if its data
    can be saved before the first batch: see DataTracker); and during validation, where the snapshot
    is the one from the end of the epoch's training.

    Attributes:
        muted: the callbacks inside Resumable have seen this part in an earlier attempt.
        over: an earlier attempt has completed the whole fit.
    """

    def __init__(
        self,
        model: keras.Model,
        callbacks: Sequence[HeldCallback],
        session: Session,
        run: Run,
        guard: ExactnessGuard,
    ) -> None:
        self.muted = False
        self._model = model
        self._callbacks = callbacks
        self._session = session
        self._run = run
        self._preemption = PreemptionPolicy(session, run)
        self._guard = guard
        guard.fit_begins()
        self._recorder = TrainingRecorder(model, callbacks, guard)
        self._data = DataTracker(
            guard,
            internals.input_adapter_of_fit(),
            drawn_by_batch=internals.shuffles_within_batches_of_fit(),
        )
        self._py_dataset = PyDatasetState(internals.py_dataset_of_fit(), guard)
        self._index, self._resume = run.begin_fit()
        self.over = self._resume is not None and self._resume.manifest.position.finished
        self._epoch = self._batch = self._calls = 0
        self._begun = self._exhausted = False
        self._step = run.step
        self._logs: Logs = {}
        self._calls_to_skip = 0
        self._step_expected = False
        self._data_checkpoint: Checkpoint | None = None
        self._random_state: dict[str, Any] = {}
        self._stop_training = False
        self._before_epoch: Snapshot | None = None
        self._before_validation: Snapshot | None = None
        self._validation_submitted = False

    def begin(self, epochs: int, begin_callbacks: Callable[[], None]) -> None:
        """Begin the fit, at `on_train_begin`.

        Args:
            epochs: the argument of `fit`.
            begin_callbacks: calls `on_train_begin` of the callbacks inside Resumable.

        Raises:
            Refused: the checkpoint does not match the model; the log lists the differences.
            Preempted: the fit was finished before, and a notice ends the attempt.
        """
        # From here on a signal waits for the first batch: an exception that it raised while
        # TensorFlow traces a function would be taken for one of TensorFlow's own.
        self._session.enter_training()
        if self._resume:
            callback_files.restore_files(self._run, self._callbacks, self._resume)
            self._match_model(self._resume)
            self.over = self.over or self._resume.manifest.position.epoch >= epochs
        if self._resume and self.over:
            internals.set_initial_epoch(self._model, epochs)
            refusal.report_finished(self._resume, epochs)
            if self._run.is_newest(self._resume):
                held_callbacks.send_restored(self._callbacks)
            self._session.leave_training()
            if self._preemption.must_exit(self._step):
                raise Preempted(self._step)
            return
        if self._resume:
            internals.set_initial_epoch(self._model, self._resume.manifest.position.epoch)
        callback_files.begin_callbacks_with_files(
            self._run, self._callbacks, self._index, self._resume, begin_callbacks
        )
        step_function.install(self._model, self)

    def epoch_begins(self, epoch: int) -> None:
        """Called at `on_epoch_begin`, before the callbacks inside Resumable."""
        internals.set_initial_epoch(self._model, None)
        if not step_function.is_installed(self._model):
            step_function.install(self._model, self)
        if self._resume:
            checkpoint, self._resume = self._resume, None
            self._restore(checkpoint)
            return
        self._epoch, self._batch, self._calls = epoch, 0, 0
        self._begun = self._exhausted = False
        self._recorder.expect_new_variables()
        self._py_dataset.epoch_begins()
        self._run.check()
        if self._session.notice or self._save_is_due():
            self._before_epoch = self._record()

    def epoch_has_begun(self) -> None:
        """Called at `on_epoch_begin`, after the callbacks inside Resumable."""
        self._begun = True
        if not self.muted:
            self._py_dataset.epoch_begins()

    def batch_begins(self) -> None:
        """Called at `on_train_batch_begin`, after the callbacks inside Resumable.

        The train function is called next.
        """
        self._step_expected = True

    def batch_ends(self, batch: int, batch_logs: Logs) -> None:
        """Called at `on_train_batch_end`, after the callbacks inside Resumable."""
        new_batches = batch + 1 - self._batch
        self._batch = batch + 1
        if self.muted:
            if not self._calls_to_skip and not self._exhausted:
                self._end_replay()
            return
        self._step += new_batches
        self._calls += 1
        self._logs = batch_logs
        self._before_epoch = None
        self._py_dataset.batch_ends()
        self._run.check()
        if self._calls == 1:
            # The first batch builds variables that a record before it could not find.
            self._recorder.expect_new_variables()
            self._recorder.prepare()
            if self._guard.refusing:
                held_callbacks.capture(self._callbacks, {}, self._guard)
            self._guard.training_has_begun()
        if self._preemption.must_exit(self._step):
            self._save_and_exit(self._record(), StateRefresh.ALWAYS)
        if self._save_is_due():
            self._submit(self._record(), StateRefresh.IF_CHEAP)

    def expected(self) -> bool:
        """Return True if this call of the train function is a step of this fit."""
        expected, self._step_expected = self._step_expected, False
        return expected

    def before_step(self, iterator: Any) -> Logs | None:
        """Called before each call of the train function, with its iterator."""
        if self._data.observe(iterator):
            self._recorder.record_element_spec(self._data.element_spec)
        if self._data_checkpoint:
            checkpoint, self._data_checkpoint = self._data_checkpoint, None
            self._restore_data(checkpoint)
        if self._before_epoch and self._data.can_be_saved:
            snapshot, self._before_epoch = self._before_epoch, None
            if self._preemption.must_exit(self._step):
                self._save_and_exit(snapshot, StateRefresh.ALWAYS)
            if self._save_is_due():
                self._submit(snapshot, StateRefresh.IF_CHEAP)
        if self._calls_to_skip:
            self._calls_to_skip -= 1
            return dict(self._logs)
        if self._exhausted:
            self._end_replay()
            raise StopIteration
        return None

    def after_step(self) -> None:
        """Called after each call of the train function that trained."""
        self._data.advance()

    def data_ended(self) -> None:
        """Called after a call of the train function that found no data."""
        self._exhausted = True

    def validation_begins(self) -> None:
        """Called at `on_test_begin`, before the callbacks inside Resumable.

        The metrics have not been reset yet.
        """
        after_batch = self._py_dataset.after_batch
        more = {"randomness": after_batch} if after_batch else {}
        self._before_validation = self._record(finished=False, **more)
        self._validation_submitted = False

    def validation_batch_ends(self) -> None:
        """Called at `on_test_batch_end`."""
        self._run.check()
        if self._before_validation is None:
            return
        if self._preemption.must_exit(self._step):
            self._save_and_exit(self._before_validation, StateRefresh.NEVER)
        if not self._validation_submitted and self._save_is_due():
            self._submit(self._before_validation, StateRefresh.NEVER)
            self._validation_submitted = True

    def validation_ends(self) -> None:
        """Called at `on_test_end`."""
        self._before_validation = None

    def end(self, training_logs: Logs) -> None:
        """Called at `on_train_end`, after the callbacks inside Resumable."""
        if self._resume and self.over:
            internals.set_initial_epoch(self._model, None)
            self._recorder.restore(self._resume)
            random_state.restore_random_state(self._resume.state["randomness"])
            return
        step_function.uninstall(self._model)
        self._session.leave_training()
        self._recorder.expect_new_variables()
        self._logs = training_logs
        final = self._record(finished=True)
        self._run.finish_fit(with_data(final, DataPosition()))
        if self._preemption.must_exit(self._step):
            self._finish_sends()
            raise Preempted(self._step, saved=not self._run.unsaved)

    def _record(self, *, finished: bool = False, **more: Any) -> Snapshot:
        position = Position(
            fit=self._index,
            epoch=self._epoch,
            batch=self._batch,
            calls=self._calls,
            step=self._step,
            begun=self._begun,
            exhausted=self._exhausted,
            finished=finished,
        )
        return self._recorder.record(position, self._logs, source=self._py_dataset.epoch, **more)

    def _save_is_due(self) -> bool:
        return self._run.should_save(self._epoch, self._step, asked=self._session.save_requested)

    def _submit(self, snapshot: Snapshot, refresh: StateRefresh) -> None:
        self._session.clear_save_request()
        self._run.submit(with_data(snapshot, self._data.position(refresh)))

    def _save_and_exit(self, snapshot: Snapshot, refresh: StateRefresh) -> None:
        saved = self._run.save(with_data(snapshot, self._data.position(refresh)))
        self._finish_sends()
        raise Preempted(self._step, saved=saved)

    def _finish_sends(self) -> None:
        """Give what the callbacks still send a moment, before the process ends."""
        deadline = self._session.deadline()
        left = SENDS_AT_NOTICE if deadline is None else max(0.0, deadline - time.monotonic())
        held_callbacks.finish_sends(self._callbacks, min(left, SENDS_AT_NOTICE))

    def _match_model(self, checkpoint: Checkpoint) -> None:
        """Build the model's variables if necessary; refuse a model that differs."""
        try:
            self._recorder.build_and_compare(checkpoint)
        except ModelChanged as error:
            raise refusal.refusal(
                checkpoint, f"the model's variables differ from the checkpoint's:\n{error}"
            ) from None

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Restore everything but the data, at the first `on_epoch_begin`.

        By then Keras has reset the callbacks and the metrics.
        """
        position = checkpoint.manifest.position
        self._recorder.restore(checkpoint)
        self._epoch, self._batch, self._calls = position.epoch, 0, position.calls
        self._step, self._begun, self._exhausted = position.step, position.begun, position.exhausted
        self._logs = checkpoint.state["logs"]
        self._data_checkpoint = checkpoint
        self._calls_to_skip = position.calls
        self._random_state = checkpoint.state["randomness"]
        self._stop_training = checkpoint.state["stop_training"]
        self._py_dataset.restore(checkpoint.state["source"])
        self.muted = position.begun
        log.info(
            events.RESUMED,
            epoch=position.epoch + 1,
            batch=position.batch,
            step=position.step,
            checkpoint=checkpoint.key,
        )
        if not position.begun:
            random_state.restore_random_state(self._random_state)

    def _restore_data(self, checkpoint: Checkpoint) -> None:
        data, steps = checkpoint.state["data"], self._model.steps_per_execution
        try:
            self._data.restore(iterator_states(checkpoint.arrays), data, steps)
        except DataChanged as error:
            raise refusal.refusal(
                checkpoint, f"the input data differs from the checkpoint's: {error}"
            ) from None

        if before_this_epoch := data["calls"] - self._calls:
            internals.add_steps_seen(before_this_epoch * steps)

    def _end_replay(self) -> None:
        """Resume training after the last skipped batch: the next batch is new."""
        self.muted = False
        random_state.restore_random_state(self._random_state)
        self._py_dataset.batch_ends()
        self._model.stop_training = self._stop_training
