"""Follow one `fit`: Keras' hooks become events, and the actions of `advance` are performed here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import keras

from keepfit.callbacks.adapters.held_callbacks import HeldCallbacks
from keepfit.callbacks.adapters.stopping import stopping_callbacks, stopping_record
from keepfit.callbacks.checkpoint.format.manifest import Manifest
from keepfit.callbacks.checkpoint.format.position import Position
from keepfit.callbacks.checkpoint.read.reader import Checkpoint
from keepfit.callbacks.checkpoint.snapshot import Snapshot
from keepfit.callbacks.engine.preemption import PreemptionState
from keepfit.callbacks.engine.run import FitStart, Run
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.journal.terms import Activity
from keepfit.callbacks.training import internals, refusal, restore, step_function
from keepfit.callbacks.training.activities import activity_of
from keepfit.callbacks.training.capture import TrainingCapture
from keepfit.callbacks.training.continuation import EpochEnd, decide, wants_more
from keepfit.callbacks.training.data.fit_inputs import FitInputs
from keepfit.callbacks.training.data.py_dataset import PyDatasetState
from keepfit.callbacks.training.data.tracker import DataTracker, StateRefresh
from keepfit.callbacks.training.final_state import DroppedState, FinalState
from keepfit.callbacks.training.fit_files import FitFiles, begin_callbacks
from keepfit.callbacks.training.graph_randomness import report_random_state
from keepfit.callbacks.training.identity.fit_request import FitRequest
from keepfit.callbacks.training.identity.inputs import FitInput
from keepfit.callbacks.training.identity.settings import FitSettings
from keepfit.callbacks.training.phases import (
    Action,
    BatchEnds,
    EpochBegins,
    EpochStart,
    Event,
    IllegalMove,
    Over,
    Phase,
    Progress,
    Replaying,
    Starting,
    Training,
    Validating,
)
from keepfit.callbacks.training.progress import advance
from keepfit.callbacks.training.resumption import Resumption
from keepfit.callbacks.training.saving import FitSaves
from keepfit.callbacks.training.state_schema import TrainingStateSchema
from keepfit.callbacks.training.step_function import Logs


@dataclass(frozen=True)
class FitArguments:
    """The arguments of the `fit` call.

    Attributes:
        epochs: the argument of `fit`.
        steps: batches in an epoch; None if unknown.
        name: the name that the script has given to the fit, if any.
    """

    epochs: int
    steps: int | None = None
    name: str | None = None


class FitController:
    """Follows one `fit` call, saves it, and returns it to an interrupted position.

    A save is possible at three kinds of moments: after a batch; before an epoch, where the snapshot
    is completed at the first call of the train function, which passes the new iterator (if its data
    can be saved before the first batch: see DataTracker); and during validation, where the snapshot
    is the one from the end of the epoch's training.
    """

    def __init__(
        self,
        model: keras.Model,
        callbacks: HeldCallbacks,
        run: Run,
        preemption: PreemptionState,
        guard: ExactnessGuard,
        arguments: FitArguments,
    ) -> None:
        """Begin a fit of the run.

        Raises:
            Refused: the checkpoint does not match the model; nothing was taken over.
            Preempted: a notice has ended an earlier fit of this process.
        """
        self._model = model
        self._callbacks = callbacks
        self._run = run
        self._preemption = preemption
        self._guard = guard
        self._call = internals.FitCall.current()
        preemption.check()
        guard.fit_begins()
        before = run.final_states.newest
        run.final_states.next_fit_trains(model)
        given = FitInput.current(model)
        self._settings = FitSettings.of(model, given)
        dropped = None
        if isinstance(before, DroppedState) and before.is_needed_by(model):
            dropped = before
        self._arguments = arguments
        self._stopping = stopping_callbacks(callbacks)
        self._py_dataset = PyDatasetState(internals.py_dataset_of_fit(), guard, model)
        validation = given.data.validation
        self._inputs = FitInputs(given.data.train, validation and validation[0], guard)
        self._schema = TrainingStateSchema(model, callbacks, self._py_dataset, self._inputs)
        requested = FitRequest(
            model,
            arguments.name,
            self._settings,
            given,
            guard,
            self._schema,
            self._compare,
            lambda final: wants_more(final, arguments.epochs, self._stopping),
            start_is_known=dropped is None,
        )
        start = run.begin_fit(requested, self._call)
        if dropped and not start.checkpoint:
            dropped.refuse()
        # From here on a signal waits for the first batch: an exception that it raised while
        # TensorFlow traces a function would be taken for one of TensorFlow's own.
        preemption.fit_begins(self._call)
        self._capture = TrainingCapture(model, callbacks, guard)
        self._capture.describe(self._settings.continuing(start.checkpoint))
        self._data = DataTracker(
            guard,
            internals.input_adapter_of_fit(),
            drawn_by_batch=internals.shuffles_within_batches_of_fit(),
            steps_per_call=model.steps_per_execution,
        )
        self._saves = FitSaves(run, preemption, self._call, self._capture, self._data, callbacks)
        self._index = start.index
        self._resumption = Resumption(
            model,
            callbacks,
            self._capture,
            self._data,
            self._py_dataset,
            self._inputs,
            start.checkpoint,
        )
        self._has_trained = self._graph_is_known = False
        self._phase: Phase = _first_phase(start)
        self._epoch_end = EpochEnd(may_stop=bool(self._stopping))
        self._continued: Progress | None = None
        self._logs: Logs = {}
        self._before_epoch: Snapshot | None = None
        self._before_validation: Snapshot | None = None

    @property
    def muted(self) -> bool:
        """True if the callbacks inside Resumable have seen this part in an earlier attempt."""
        return isinstance(self._phase, Replaying)

    @property
    def over(self) -> bool:
        """True if an earlier attempt has completed the whole fit."""
        return isinstance(self._phase, Over) and self._phase.earlier

    def is_running(self) -> bool:
        """Return False once the `fit` call has returned or was left by an exception."""
        return self._call.is_running()

    def begin(self, begin: Callable[[], None]) -> None:
        """Begin the fit, at `on_train_begin`.

        Args:
            begin: calls `on_train_begin` of the callbacks inside Resumable.

        Raises:
            Preempted: the fit was finished before, and a notice ends the attempt.
        """
        self._record_activity()
        checkpoint, epochs = None, self._arguments.epochs
        if isinstance(self._phase, Starting) and self._phase.resume:
            checkpoint = self._resumption.checkpoint
            checkpoint = self._find_continuation(checkpoint, epochs) or checkpoint
            self._run.owned.restore_files(checkpoint, self._callbacks.may_write)
            position = checkpoint.manifest.position
            if position.finished or position.epoch >= epochs:
                self._pass_over(checkpoint, epochs)
                return
            internals.set_initial_epoch(self._model, position.epoch)
        begin_callbacks(
            FitFiles(self._run, self._callbacks, self._index, checkpoint),
            self._call.is_running,
            begin,
        )
        step_function.install(self._model, self)

    def epoch_begins(self, epoch: int) -> None:
        """Called at `on_epoch_begin`, before the callbacks inside Resumable."""
        internals.set_initial_epoch(self._model, None)
        if not step_function.is_installed(self._model):
            step_function.install(self._model, self)
        self._move(EpochBegins(epoch))

    def epoch_has_begun(self) -> None:
        """Called at `on_epoch_begin`, after the callbacks inside Resumable."""
        self._move(Event.EPOCH_HAS_BEGUN)

    def batch_begins(self) -> None:
        """Called at `on_train_batch_begin`, after the callbacks inside Resumable."""
        step_function.expect_step(self._model)

    def before_step(self, iterator: Any) -> Logs | None:
        """Called before each call of the train function; see StepObserver."""
        if self._data.observe(iterator):
            self._capture.record_element_spec(self._data.element_spec)
        with self._preemption.recording_end():
            actions = self._move(Event.STEP_BEGINS)
        if Action.RAISE_END_OF_DATA in actions:
            raise StopIteration
        if Action.RETURN_SAVED_LOGS in actions:
            return dict(self._logs)
        if not self._graph_is_known:
            self._graph_is_known = True
            step, resumed = self._phase.progress.step, bool(self._resumption.key)
            epochs = self._arguments.epochs
            self._run.recorder.fit_trains(self._index, step, resumed=resumed, epochs=epochs)
            function = step_function.inner(self._model)
            report_random_state(self._model, function, iterator, self._guard)
        return None

    def after_step(self) -> None:
        """Called after each call of the train function that trained."""
        self._data.advance()

    def data_ended(self) -> None:
        """Called after a call of the train function that found no data."""
        self._move(Event.DATA_ENDS)

    def batch_ends(self, batch: int, batch_logs: Logs) -> None:
        """Called at `on_train_batch_end`, after the callbacks inside Resumable.

        Args:
            batch: index of the last batch of the call, from 0. With `steps_per_execution`, Keras
                names a batch after the end of the data if the last call had fewer.
        """
        if not self.muted:
            self._has_trained = True
            self._logs = batch_logs
            self._before_epoch = None
            self._py_dataset.batch_ends()
            self._inputs.batch_ends()
            self._run.saves.check()
        steps = self._arguments.steps
        self._move(BatchEnds(batch + 1 if steps is None else min(batch + 1, steps)))

    def validation_begins(self) -> None:
        """Called at `on_test_begin`, before the callbacks inside Resumable.

        The metrics have not been reset yet.
        """
        self._move(Event.VALIDATION_BEGINS)

    def validation_batch_ends(self) -> None:
        """Called at `on_test_batch_end`."""
        self._run.saves.check()
        self._move(Event.VALIDATION_BATCH_ENDS)

    def validation_ends(self) -> None:
        """Called at `on_test_end`."""
        self._before_validation = None
        self._move(Event.VALIDATION_ENDS)
        self._inputs.epoch_begins()

    def epoch_ends(self, logs: Logs) -> None:
        """Called at `on_epoch_end`, before the callbacks inside Resumable."""
        if isinstance(self._phase, Training):
            progress = self._phase.progress
            self._run.recorder.epoch_ended(self._index, progress.epoch, progress.step, logs)
            self._epoch_end.epoch_ends(
                lambda: self._snapshot(randomness=self._after_batch),
                is_last=self._phase.progress.epoch + 1 >= self._arguments.epochs,
                stopped=bool(self._model.stop_training),
            )

    def end(self, training_logs: Logs) -> None:
        """Called at `on_train_end`, after the callbacks inside Resumable.

        Raises:
            Preempted: a notice ends the attempt.
        """
        self._logs = training_logs
        self._move(Event.FIT_ENDS)
        self._run.end_fit()
        self._callbacks.appended.end()

    def _move(self, event: Event | EpochBegins | BatchEnds) -> tuple[Action, ...]:
        try:
            self._phase, actions = advance(self._phase, event)
        except IllegalMove as error:
            if not self._resumption.key:
                raise
            # The parts of a position agree only if training has reached it.
            raise refusal.refusal(
                self._resumption.key, f"its position is not one of this training: {error}"
            ) from error
        self._run.observe_event(self._phase.progress.epoch, self._phase.progress.step)
        for action in actions:
            if perform := self._PERFORM.get(action):
                perform(self)
        self._record_activity()
        return actions

    def _record_activity(self) -> None:
        self._run.recorder.switch(activity_of(self._phase, has_trained=self._has_trained))

    def _compare(self, key: str, manifest: Manifest) -> None:
        self._preemption.fit_begins(self._call)  # it may trace: see __init__
        try:
            restore.compare_model(self._model, key, manifest)
            decision = decide(manifest, self._arguments.epochs, self._stopping)
            refusal.check_end(key, manifest.position, decision)
        finally:
            self._preemption.fit_ends(self._call)

    def _find_continuation(self, final: Checkpoint, epochs: int) -> Checkpoint | None:
        """Return the checkpoint from which a finished fit trains on, if it does."""
        position = final.manifest.position
        decision = decide(final.manifest, epochs, self._stopping)
        if not position.finished or not decision.trains:
            return None
        if (short := self._run.short_fit) is not None:
            raise refusal.refuse_after_short_fit(final, short)
        done = position.epoch + 1
        continuation = self._run.train_on(self._index, self._compare, self._schema)
        if continuation is None:
            self._run.short_fit = self._index
            refusal.report_no_continuation(decision, done, epochs)
            return None
        refusal.report_training_on(decision, done, epochs)
        step = continuation.manifest.position.step
        self._phase = _first_phase(FitStart(self._index, step, continuation))
        self._continued = Progress(position.epoch, step=position.step)
        self._resumption = self._resumption.of(continuation)
        return continuation

    def _pass_over(self, checkpoint: Checkpoint, epochs: int) -> None:
        self._move(Event.ALREADY_DONE)
        internals.set_initial_epoch(self._model, epochs)
        decision = decide(checkpoint.manifest, epochs, self._stopping)
        refusal.report_finished(checkpoint, decision, epochs)
        if self._run.owned.is_newest(checkpoint):
            self._callbacks.send_restored()
        self._preemption.fit_ends(self._call)
        if self._saves.must_exit():
            raise self._preemption.end_of_attempt(self._phase.progress.step, saved=True)

    # The actions.

    def _restore(self) -> None:
        self._logs = self._resumption.restore()

    def _restore_random_state(self) -> None:
        self._resumption.restore_random_state()

    def _end_replay(self) -> None:
        self._resumption.end_replay()

    def _restore_data(self) -> None:
        self._resumption.restore_data(self._phase.progress.calls)

    def _start_epoch(self) -> None:
        self._epoch_end.epoch_begins()
        self._capture.expect_new_variables()
        self._py_dataset.epoch_begins()
        self._inputs.epoch_begins()
        self._run.saves.check()
        if self._preemption.notice or self._saves.is_due(self._phase.progress):
            self._before_epoch = self._snapshot()

    def _epoch_begun(self) -> None:
        self._py_dataset.epoch_begins()

    def _offer_epoch_start(self) -> None:
        if self._before_epoch and self._data.can_be_saved:
            snapshot, self._before_epoch = self._before_epoch, None
            self._offer(lambda: snapshot)

    def _first_batch(self) -> None:
        # The first batch builds variables that a capture before it could not find.
        self._capture.expect_new_variables()
        self._capture.prepare()
        self._capture.check_callbacks()
        self._guard.training_has_begun()

    def _offer_save(self) -> None:
        self._offer(self._snapshot)

    def _capture_before_validation(self) -> None:
        self._before_validation = self._snapshot(randomness=self._after_batch)
        self._epoch_end.validation_begins(self._before_validation)

    def _offer_validation(self) -> None:
        snapshot = self._before_validation
        if snapshot is None or not isinstance(self._phase, Validating):
            return
        if self._saves.must_exit():
            self._saves.save_and_exit(snapshot, StateRefresh.NEVER)
        if not self._phase.saved and self._saves.is_due(self._phase.progress):
            self._saves.submit(snapshot, StateRefresh.NEVER)
            self._move(Event.SAVE_SUBMITTED)

    def _save_final(self) -> None:
        step_function.uninstall(self._model)
        self._capture.expect_new_variables()
        stopped = bool(self._model.stop_training)
        record = stopping_record(self._callbacks, self._stopping, stopped=stopped)
        if stopped and self._continued and self._continued.step == self._phase.progress.step:
            refusal.report_stopped_again(record.by, self._continued.epoch + 1)
        self._py_dataset.epoch_begins()  # another fit of the script may use it next
        inputs = self._inputs.capture_final()
        final = self._snapshot(finished=True, stopping=record.model_dump(), inputs=inputs)
        self._saves.finish(final, self._epoch_end.take())
        self._run.final_states.fit_finished(FinalState(self._model, self._index))

    def _restore_final(self) -> None:
        state = FinalState if self._resumption.restore_final() else DroppedState
        self._callbacks.finish_sends(None)
        self._run.final_states.fit_finished(state(self._model, self._index))

    def _snapshot(
        self, *, finished: bool = False, randomness: dict[str, Any] | None = None, **more: Any
    ) -> Snapshot:
        """Return a snapshot of this moment.

        Args:
            randomness: the random state to resume with; None for the present one.
            more: see TrainingCapture.snapshot.
        """
        more |= {"randomness": randomness} if randomness else {}
        if "inputs" not in more:
            more["inputs"] = self._inputs.capture()
        phase, progress = self._phase, self._phase.progress
        position = Position(
            fit=self._index,
            epoch=progress.epoch,
            batch=progress.batch,
            calls=progress.calls,
            step=progress.step,
            begun=not isinstance(phase, Starting | EpochStart),
            exhausted=isinstance(phase, Training | Validating) and phase.exhausted,
            finished=finished,
        )
        source = self._py_dataset.epoch
        with self._run.recorder.during(Activity.SAVING):
            return self._capture.snapshot(position, self._logs, source=source, **more)

    @property
    def _after_batch(self) -> dict[str, Any] | None:
        """The random state after the last batch, where the input may have drawn from it since."""
        return self._py_dataset.after_batch or self._inputs.after_batch

    def _offer(self, snapshot: Callable[[], Snapshot]) -> None:
        """Save and exit if a notice requires it; save if that is due."""
        if self._saves.must_exit():
            self._saves.save_and_exit(snapshot(), StateRefresh.ALWAYS)
        if self._saves.is_due(self._phase.progress):
            self._saves.submit(snapshot(), StateRefresh.IF_CHEAP)

    _PERFORM: ClassVar[Mapping[Action, Callable[[FitController], None]]] = {
        Action.RESTORE: _restore,
        Action.RESTORE_RANDOM_STATE: _restore_random_state,
        Action.END_REPLAY: _end_replay,
        Action.RESTORE_DATA: _restore_data,
        Action.START_EPOCH: _start_epoch,
        Action.EPOCH_BEGUN: _epoch_begun,
        Action.OFFER_EPOCH_START: _offer_epoch_start,
        Action.FIRST_BATCH: _first_batch,
        Action.OFFER_SAVE: _offer_save,
        Action.CAPTURE_BEFORE_VALIDATION: _capture_before_validation,
        Action.OFFER_VALIDATION: _offer_validation,
        Action.SAVE_FINAL: _save_final,
        Action.RESTORE_FINAL: _restore_final,
    }
    """The actions that the controller performs; `before_step` acts on the two with a result."""


def _first_phase(start: FitStart) -> Starting:
    if start.checkpoint is None:
        return Starting(Progress(step=start.step))
    resume = restore.checkpointed(start.checkpoint.manifest.position)
    return Starting(Progress(step=start.step), resume)
