"""One `fit` under way: where it stands, when it is saved, and how it gets to where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import structlog

from keepfit.callbacks import events
from keepfit.callbacks.adapters import held_callbacks
from keepfit.callbacks.adapters.base import HeldCallback
from keepfit.callbacks.checkpoint.reader import Checkpoint
from keepfit.callbacks.checkpoint.snapshot import Position, Snapshot
from keepfit.callbacks.errors import Preempted
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.preemption_policy import PreemptionPolicy
from keepfit.callbacks.run import Run
from keepfit.callbacks.session import Session
from keepfit.callbacks.training import (
    callback_files,
    internals,
    random_state,
    refusal,
    step_function,
)
from keepfit.callbacks.training.data_position import DataChanged, DataPosition, iterator_states
from keepfit.callbacks.training.data_tracker import DataTracker, StateRefresh
from keepfit.callbacks.training.py_dataset import PyDatasetState
from keepfit.callbacks.training.recorder import ModelChanged, TrainingRecorder, with_data
from keepfit.callbacks.training.step_function import Logs

log = structlog.get_logger("keepfit")


class Fit:
    """Follows `fit` from hook to hook.

    A resumed fit starts with the interrupted epoch. What was done of it is skipped: the train
    function returns at once and `muted` is true, so that the held callbacks don't see it twice.

    A save is possible at three kinds of moments: after a batch; before an epoch, where it is
    completed by the first call of the train function, which brings the new iterator (if its data
    can be saved before the first batch: see DataTracker); and during validation, where it stands
    for the end of the epoch's training.

    Attributes:
        muted: the held callbacks have seen this part of the training in an earlier attempt.
        over: the whole fit has been done by an earlier attempt.
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
        self._source = PyDatasetState(internals.py_dataset_of_fit(), guard)
        self._index, self._resume = run.begin_fit()
        self.over = self._resume is not None and self._resume.manifest.position.finished
        self._epoch = self._batch = self._calls = 0
        self._begun = self._exhausted = False
        self._step = run.step
        self._logs: Logs = {}
        self._skip = 0
        self._expecting = False
        self._unread: Checkpoint | None = None
        self._random_state: dict[str, Any] = {}
        self._stopping = False
        self._before_epoch: Snapshot | None = None
        self._before_validation: Snapshot | None = None
        self._validation_offered = False

    def begin(self, epochs: int, begin_callbacks: Callable[[], None]) -> None:
        """At `on_train_begin`; `begin_callbacks` calls the held callbacks' own.

        Args:
            epochs: the argument of `fit`.

        Raises:
            Misfit: the checkpoint does not fit the model; the log says what differs.
        """
        # From here on a signal waits for the first batch: raised while TensorFlow traces, its
        # exception would be taken for one of TensorFlow's own.
        self._session.enter_training()
        if self._resume:
            callback_files.restore_files(self._run, self._callbacks, self._resume)
            self._fit_model_to(self._resume)
            self.over = self.over or self._resume.manifest.position.epoch >= epochs
        if self._resume and self.over:
            internals.set_initial_epoch(self._model, epochs)
            refusal.report_finished(self._resume, epochs)
            self._session.leave_training()
            if self._preemption.due(self._step):
                raise Preempted(self._step)
            return
        if self._resume:
            internals.set_initial_epoch(self._model, self._resume.manifest.position.epoch)
        callback_files.begin_callbacks_with_files(
            self._run, self._callbacks, self._index, self._resume, begin_callbacks
        )
        step_function.install(self._model, self)

    def epoch_begins(self, epoch: int) -> None:
        """At `on_epoch_begin`, before the held callbacks'."""
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
        self._source.epoch_begins()
        self._run.check()
        if self._session.notice or self._save_is_due():
            self._before_epoch = self._record()

    def epoch_has_begun(self) -> None:
        """At `on_epoch_begin`, after the held callbacks'."""
        self._begun = True
        if not self.muted:
            self._source.epoch_begins()

    def batch_begins(self) -> None:
        """At `on_train_batch_begin`, after the held callbacks'; the train function is next."""
        self._expecting = True

    def batch_ends(self, batch: int, batch_logs: Logs) -> None:
        """At `on_train_batch_end`, after the held callbacks'."""
        done = batch + 1 - self._batch
        self._batch = batch + 1
        if self.muted:
            if not self._skip and not self._exhausted:
                self._go_on()
            return
        self._step += done
        self._calls += 1
        self._logs = batch_logs
        self._before_epoch = None
        self._source.batch_ends()
        self._run.check()
        if self._calls == 1:
            # The first batch builds what a record before it could not find.
            self._recorder.expect_new_variables()
            self._recorder.prepare()
            if self._guard.refusing:
                held_callbacks.capture(self._callbacks, {}, self._guard)
            self._guard.training_has_begun()
        if self._preemption.due(self._step):
            self._leave(self._record(), StateRefresh.ALWAYS)
        if self._save_is_due():
            self._submit(self._record(), StateRefresh.IF_CHEAP)

    def expected(self) -> bool:
        """Whether the call of the train function is one of this fit."""
        expecting, self._expecting = self._expecting, False
        return expecting

    def before_step(self, iterator: Any) -> Logs | None:
        """Before each call of the train function, which brings the iterator."""
        if self._data.observe(iterator):
            self._recorder.see_batches_of(self._data.element_spec)
        if self._unread:
            checkpoint, self._unread = self._unread, None
            self._restore_data(checkpoint)
        if self._before_epoch and self._data.can_be_saved:
            snapshot, self._before_epoch = self._before_epoch, None
            if self._preemption.due(self._step):
                self._leave(snapshot, StateRefresh.ALWAYS)
            if self._save_is_due():
                self._submit(snapshot, StateRefresh.IF_CHEAP)
        if self._skip:
            self._skip -= 1
            return dict(self._logs)
        if self._exhausted:
            self._go_on()
            raise StopIteration
        return None

    def after_step(self) -> None:
        """After each call of the train function that trained."""
        self._data.advance()

    def data_ended(self) -> None:
        """After a call of the train function that found no data."""
        self._exhausted = True

    def validation_begins(self) -> None:
        """At `on_test_begin`, before the held callbacks', and before the metrics are reset."""
        earlier = self._source.after_batch
        more = {"randomness": earlier} if earlier else {}
        self._before_validation = self._record(finished=False, **more)
        self._validation_offered = False

    def validation_batch_ends(self) -> None:
        """At `on_test_batch_end`."""
        self._run.check()
        if self._before_validation is None:
            return
        if self._preemption.due(self._step):
            self._leave(self._before_validation, StateRefresh.NEVER)
        if not self._validation_offered and self._save_is_due():
            self._submit(self._before_validation, StateRefresh.NEVER)
            self._validation_offered = True

    def validation_ends(self) -> None:
        """At `on_test_end`."""
        self._before_validation = None

    def end(self, training_logs: Logs) -> None:
        """At `on_train_end`, after the held callbacks'."""
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
        if self._preemption.due(self._step):
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
        return self._recorder.record(position, self._logs, source=self._source.epoch, **more)

    def _save_is_due(self) -> bool:
        return self._run.due(self._epoch, self._step, asked=self._session.save_requested)

    def _submit(self, snapshot: Snapshot, renew: StateRefresh) -> None:
        self._session.clear_save_request()
        self._run.submit(with_data(snapshot, self._data.position(renew)))

    def _leave(self, snapshot: Snapshot, renew: StateRefresh) -> None:
        saved = self._run.save(with_data(snapshot, self._data.position(renew)))
        raise Preempted(self._step, saved=saved)

    def _fit_model_to(self, checkpoint: Checkpoint) -> None:
        try:
            self._recorder.fit_to(checkpoint)
        except ModelChanged as error:
            raise refusal.refusal(
                checkpoint, f"the model's variables differ from the checkpoint's:\n{error}"
            ) from None

    def _restore(self, checkpoint: Checkpoint) -> None:
        """At the first epoch's beginning: Keras has reset the callbacks and the metrics by now."""
        position = checkpoint.manifest.position
        self._recorder.restore(checkpoint)
        self._epoch, self._batch, self._calls = position.epoch, 0, position.calls
        self._step, self._begun, self._exhausted = position.step, position.begun, position.exhausted
        self._logs = checkpoint.state["logs"]
        self._unread = checkpoint
        self._skip = position.calls
        self._random_state = checkpoint.state["randomness"]
        self._stopping = checkpoint.state["stop_training"]
        self._source.restore(checkpoint.state["source"])
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
                checkpoint, f"the input data is not that of the checkpoint: {error}"
            ) from None

        if before_this_epoch := data["calls"] - self._calls:
            internals.add_steps_seen(before_this_epoch * steps)

    def _go_on(self) -> None:
        """The last skipped batch has gone by; from here on everything is new."""
        self.muted = False
        random_state.restore_random_state(self._random_state)
        self._source.batch_ends()
        self._model.stop_training = self._stopping
