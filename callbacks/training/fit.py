"""One `fit` under way: where it stands, when it is saved, and how it gets to where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import structlog

from callbacks import events, state
from callbacks.checkpoint.reader import Checkpoint
from callbacks.checkpoint.snapshot import Position, Snapshot
from callbacks.departure import Departure
from callbacks.doubts import Doubts
from callbacks.errors import Preempted
from callbacks.run import Run
from callbacks.session import Session
from callbacks.training import held_files, internals, randomness, step_function, verdicts
from callbacks.training.data import DataTracker, Renew
from callbacks.training.data_position import DataChanged, DataPosition, states_in
from callbacks.training.recorder import ModelChanged, Recorder, with_data
from callbacks.training.source import Source
from callbacks.training.step_function import Logs

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
        callbacks: Sequence[state.Held],
        session: Session,
        run: Run,
        doubts: Doubts,
    ) -> None:
        self.muted = False
        self._model = model
        self._callbacks = callbacks
        self._session = session
        self._run = run
        self._departure = Departure(session, run)
        self._doubts = doubts
        doubts.fit_begins()
        self._recorder = Recorder(model, callbacks, doubts)
        self._data = DataTracker(
            doubts,
            internals.input_adapter_of_fit(),
            drawn_by_batch=internals.shuffles_within_batches_of_fit(),
        )
        self._source = Source(internals.py_dataset_of_fit(), doubts)
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
            held_files.bring_back(self._run, self._callbacks, self._resume)
            self._fit_model_to(self._resume)
            self.over = self.over or self._resume.manifest.position.epoch >= epochs
        if self._resume and self.over:
            internals.set_initial_epoch(self._model, epochs)
            verdicts.report_over(self._resume, epochs)
            self._session.leave_training()
            if self._departure.due(self._step):
                raise Preempted(self._step)
            return
        if self._resume:
            internals.set_initial_epoch(self._model, self._resume.manifest.position.epoch)
        held_files.begin(self._run, self._callbacks, self._index, self._resume, begin_callbacks)
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
            if self._doubts.refuses:
                state.capture(self._callbacks, {}, self._doubts)
            self._doubts.training_has_begun()
        if self._departure.due(self._step):
            self._leave(self._record(), Renew.ALWAYS)
        if self._save_is_due():
            self._offer(self._record(), Renew.IF_CHEAP)

    def expected(self) -> bool:
        """Whether the call of the train function is one of this fit."""
        expecting, self._expecting = self._expecting, False
        return expecting

    def before_step(self, iterator: Any) -> Logs | None:
        """Before each call of the train function, which brings the iterator."""
        if self._data.meet(iterator):
            self._recorder.see_batches_of(self._data.element_spec)
        if self._unread:
            checkpoint, self._unread = self._unread, None
            self._restore_data(checkpoint)
        if self._before_epoch and self._data.can_be_saved:
            snapshot, self._before_epoch = self._before_epoch, None
            if self._departure.due(self._step):
                self._leave(snapshot, Renew.ALWAYS)
            if self._save_is_due():
                self._offer(snapshot, Renew.IF_CHEAP)
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
        if self._departure.due(self._step):
            self._leave(self._before_validation, Renew.NEVER)
        if not self._validation_offered and self._save_is_due():
            self._offer(self._before_validation, Renew.NEVER)
            self._validation_offered = True

    def validation_ends(self) -> None:
        """At `on_test_end`."""
        self._before_validation = None

    def end(self, training_logs: Logs) -> None:
        """At `on_train_end`, after the held callbacks'."""
        if self._resume and self.over:
            internals.set_initial_epoch(self._model, None)
            self._recorder.restore(self._resume)
            randomness.restore(self._resume.state["randomness"])
            return
        step_function.uninstall(self._model)
        self._session.leave_training()
        self._recorder.expect_new_variables()
        self._logs = training_logs
        final = self._record(finished=True)
        self._run.finish_fit(with_data(final, DataPosition()))
        if self._departure.due(self._step):
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
        return self._run.due(self._epoch, self._step, asked=self._session.save_asked)

    def _offer(self, snapshot: Snapshot, renew: Renew) -> None:
        self._session.answer_save_request()
        self._run.offer(with_data(snapshot, self._data.position(renew)))

    def _leave(self, snapshot: Snapshot, renew: Renew) -> None:
        saved = self._run.save(with_data(snapshot, self._data.position(renew)))
        raise Preempted(self._step, saved=saved)

    def _fit_model_to(self, checkpoint: Checkpoint) -> None:
        try:
            self._recorder.fit_to(checkpoint)
        except ModelChanged as error:
            raise verdicts.refuse(
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
            randomness.restore(self._random_state)

    def _restore_data(self, checkpoint: Checkpoint) -> None:
        data, steps = checkpoint.state["data"], self._model.steps_per_execution
        try:
            self._data.restore(states_in(checkpoint.arrays), data, steps)
        except DataChanged as error:
            raise verdicts.refuse(
                checkpoint, f"the input data is not that of the checkpoint: {error}"
            ) from None

        if before_this_epoch := data["calls"] - self._calls:
            internals.add_steps_seen(before_this_epoch * steps)

    def _go_on(self) -> None:
        """The last skipped batch has gone by; from here on everything is new."""
        self.muted = False
        randomness.restore(self._random_state)
        self._source.batch_ends()
        self._model.stop_training = self._stopping
