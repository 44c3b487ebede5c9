"""Resumable, the callback that makes a `fit` continue where an earlier attempt stopped."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from keepfit.callbacks import events
from keepfit.callbacks.engine import preemption, session
from keepfit.callbacks.environment import check_model
from keepfit.callbacks.environment_variables import warn_of_unknown_variables
from keepfit.callbacks.errors import ConfigurationError, Refused
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.keras.experiment_trackers import warn_of_new_runs
from keepfit.callbacks.keras.fit_callbacks import (
    FitCallbacks,
    report_left,
    without_redundant,
)
from keepfit.callbacks.launch import process as launch
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.training import internals
from keepfit.callbacks.training.controller import FitArguments, FitController

log = get_logger()

# Python forgets the file of a script after its last line, when a thread of it may still train.
launch.current()

Logs = dict[str, Any]

MAX_NAME = 200
"""Longest name of a fit, in characters."""

_OF_A_FIT = (
    "params",
    "_model",
    "validation_data",
    "_guard",
    "_inside",
    "_present",
    "_fit",
    "_model_of_callbacks",
)
"""Attributes that a copy does not share: a copy is not part of the fit of its original."""


class Resumable(keras.callbacks.Callback):
    """A callback that saves a training, and resumes it at the exact batch after an interruption.

    It contains the other callbacks, because they have state too: they see every epoch and batch
    once, however often the process is interrupted. So do callbacks that stand beside it in the
    list of callbacks of the same `fit`, where a library may have added them.

    Example:

    ```python
    model.fit(data, epochs=10, callbacks=[Resumable([EarlyStopping(patience=3)])])
    ```

    Args:
        callbacks: the other callbacks of the training, in the order in which to call them.
        store: URI of the store for checkpoints. Default: KEEPFIT_STORE, or `file://./runs`.
        name: name of this fit in the run, for a script with several fits that only their order
            tells apart. Default: a fit is recognised by its model, compilation, data and place in
            the script.
        run: name of the run. Default: KEEPFIT_RUN, or the name of the script or notebook.
        save_every: "auto", "30s", "5min", "200 batches" or "1 epoch". Default: KEEPFIT_SAVE_EVERY,
            or "auto": at the interval that is best for the measured cost of saves and the measured
            rate of interruptions. With "auto" or a time, the first save comes after 10 seconds at
            the latest.
        exact: refuse a training that can't be exact after an interruption. Default: KEEPFIT_EXACT,
            or False: the log contains an exactness warning.
        keep: how many checkpoints are kept, in case the newest one is damaged.
        keep_fits: of a script that calls `fit` many times, how many of the last finished fits keep
            their final state in any case. Default: KEEPFIT_KEEP_FITS, or 0: it is kept if the
            script has read the model after the fit, or still can.

    Raises:
        ConfigurationError: an argument or environment variable can't be used.
        Refused: `run` is needed, because this process has no name: `python -c`, pytest, or a
            notebook whose server does not tell its name.
    """

    def __init__(
        self,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        *,
        name: str | None = None,
        store: str | None = None,
        run: str | None = None,
        save_every: str | None = None,
        exact: bool | None = None,
        keep: int = 3,
        keep_fits: int | None = None,
    ) -> None:
        super().__init__()
        warn_of_unknown_variables()
        self.callbacks = without_redundant(list(callbacks))
        try:
            self.settings = Settings.resolve(
                store=store,
                run=run,
                save_every=save_every,
                exact=exact,
                keep=keep,
                keep_fits=keep_fits,
            )
        except launch.NoRunName as error:
            log.error(events.REFUSED, reason=str(error))
            raise Refused from error
        self._name = None if name is None else _valid_name(name)
        self._hold()

    def _hold(self) -> None:
        internals.announce_new_fits()
        self._guard = ExactnessGuard(exact=self.settings.exact)
        self._inside = FitCallbacks.inside(self.callbacks, self._guard)
        self._present = self._inside  # with those beside Resumable, during a fit
        self._fit: FitController | None = None
        self._model_of_callbacks: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Resumable:
        """Return a Resumable with the same settings and copies of the callbacks inside.

        keras-tuner makes such copies for its trials.
        """
        memo[id(self)] = twin = copy.copy(self)
        for name, value in vars(self).items():
            if name not in _OF_A_FIT:
                setattr(twin, name, copy.deepcopy(value, memo))
        keras.callbacks.Callback.__init__(twin)
        twin._hold()  # noqa: SLF001 # of this class
        return twin

    def joins_fit(self, fit: keras.callbacks.CallbackList) -> None:
        """Take in the callbacks that stand beside this one in the list that a `fit` has created.

        Called before Keras calls any hook of any of them.
        """
        self._present = self._inside.with_beside(fit, self, self._guard)

    def set_model(self, model: Any) -> None:
        with preemption.current().recording_end():
            check_model(model)
        super().set_model(model)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        fit = internals.callback_list_of_fit()
        if not self._present.are_of(fit):
            self._present = self._inside
        warn_of_new_runs([*self._present.callbacks, *report_left(fit, self)])
        current = session.current()
        with current.preemption.recording_end():
            self._fit = FitController(
                self.model,
                self._present.held,
                current.run(self.settings),
                current.preemption,
                self._guard,
                FitArguments(self.params["epochs"], self.params.get("steps"), self._name),
            )
            self._fit.begin(lambda: self._begin(self._present.callbacks, logs))
        if self._fit.over:
            self._pass_over(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        fit = self._current_fit()
        with preemption.current().recording_end():
            fit.epoch_begins(epoch)
        if not fit.muted:
            self._call("on_epoch_begin", epoch, logs)
        fit.epoch_has_begun()

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        fit = self._current_fit()
        if not fit.muted:
            for callback in self._present.callbacks:
                callback.on_train_batch_begin(batch, logs)
        fit.batch_begins()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        fit = self._current_fit()
        if not fit.muted:
            for callback in self._present.callbacks:
                callback.on_train_batch_end(batch, logs)
        with preemption.current().recording_end():
            fit.batch_ends(batch, logs or {})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._current_fit().epoch_ends(logs or {})
        self._call("on_epoch_end", epoch, logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        fit, self._fit = self._current_fit(), None
        present, self._present = self._present, self._inside
        for callback in _lambdas(present.callbacks) if fit.over else present.callbacks:
            callback.on_train_end(logs)
        with preemption.current().recording_end():
            fit.end(logs or {})

    # Validation within fit, and separate calls of evaluate or predict.

    def on_test_begin(self, logs: Logs | None = None) -> None:
        self._leave_failed_fit()
        if self._fit:
            self._fit.validation_begins()
        self._set_model_of(self._present.callbacks)
        self._call("on_test_begin", logs)

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self._call("on_test_batch_begin", batch, logs)

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._call("on_test_batch_end", batch, logs)
        if self._fit:
            with preemption.current().recording_end():
                self._fit.validation_batch_ends()

    def on_test_end(self, logs: Logs | None = None) -> None:
        if self._fit:
            self._fit.validation_ends()
        self._call("on_test_end", logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        self._leave_failed_fit()
        self._set_model_of(self._present.callbacks)
        self._call("on_predict_begin", logs)

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self._call("on_predict_batch_begin", batch, logs)

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._call("on_predict_batch_end", batch, logs)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        self._call("on_predict_end", logs)

    def _begin(self, callbacks: Sequence[keras.callbacks.Callback], logs: Logs | None) -> None:
        self._model_of_callbacks = None
        self._set_model_of(callbacks)
        for callback in callbacks:
            with self._present.held.beginning(callback):
                callback.on_train_begin(logs)

    def _pass_over(self, logs: Logs | None) -> None:
        """Leave the callbacks as after a fit, without the hooks that write files."""
        for callback in self._present.callbacks:
            keras.callbacks.Callback.set_params(callback, self.params)
            keras.callbacks.Callback.set_model(callback, self.model)
        self._begin(_lambdas(self._present.callbacks), logs)

    def _set_model_of(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Set the model and parameters. Some write files then, so the run is claimed before."""
        if self._model_of_callbacks is not self.model:
            self._model_of_callbacks = self.model
            for callback in callbacks:
                callback.set_params(self.params)
                callback.set_model(self.model)

    def _call(self, hook: str, *args: Any) -> None:
        for callback in self._present.callbacks:
            getattr(callback, hook)(*args)

    def _leave_failed_fit(self) -> None:
        """Forget a fit that ended in an error, with the callbacks that stood beside Resumable."""
        if self._fit is None or not self._fit.is_running():
            self._fit, self._present = None, self._inside

    def _current_fit(self) -> FitController:
        if self._fit is None:
            raise RuntimeError("Resumable is for model.fit; a training hook was called outside it")
        return self._fit


def _valid_name(name: str) -> str:
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        raise ConfigurationError(
            f"the name of a fit is a text of 1 to {MAX_NAME} characters. Received: name={name!r}"
        )
    return name


def _lambdas(callbacks: Sequence[keras.callbacks.Callback]) -> list[keras.callbacks.Callback]:
    """Return the callbacks that are also called in a fit that is over.

    Their `on_train_end` closes the script's files and stops its processes, which each attempt opens
    and starts anew.
    """
    return [c for c in callbacks if isinstance(c, keras.callbacks.LambdaCallback)]
