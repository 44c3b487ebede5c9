"""Resumable: the callback that makes a `fit` go on where an earlier attempt stopped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import structlog

from keepfit.callbacks import events, session
from keepfit.callbacks.adapters import held_callbacks
from keepfit.callbacks.environment import check_model
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.settings import Settings
from keepfit.callbacks.training import internals
from keepfit.callbacks.training.fit import Fit

log = structlog.get_logger("keepfit")

Logs = dict[str, Any]


class Resumable(keras.callbacks.Callback):
    """Saves a training as it goes, and goes on from the exact batch after an interruption.

    It holds the other callbacks, because they have state too: they see every epoch and batch
    once, however often the process is interrupted.

    Example:

    ```python
    model.fit(data, epochs=10, callbacks=[Resumable([EarlyStopping(patience=3)])])
    ```

    Args:
        callbacks: the callbacks of the training, in the order in which they are to be called.
        store: where checkpoints are kept, a URI. Default: KEEPFIT_STORE, or `file://./runs`.
        run: the run's name. Default: KEEPFIT_RUN, or the script's name.
        save_every: "auto", "30s", "5min", "200 batches" or "1 epoch". Default: KEEPFIT_SAVE_EVERY,
            or "auto": as often as what was measured of saves and of interruptions makes it best.
            By the clock, the first save comes after 10 seconds.
        exact: refuse to train what can't be exact over an interruption. Default: KEEPFIT_EXACT, or
            False, which says it in the log.
        keep: how many checkpoints stay, for when the newest is damaged.

    Raises:
        ConfigurationError: an argument or variable can't be used.
    """

    def __init__(
        self,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        *,
        store: str | None = None,
        run: str | None = None,
        save_every: str | None = None,
        exact: bool | None = None,
        keep: int = 3,
    ) -> None:
        super().__init__()
        given = list(callbacks)
        self.callbacks = [callback for callback in given if not _is_redundant(callback)]
        if len(self.callbacks) < len(given):
            _report_redundant()
        self.settings = Settings.resolve(
            store=store, run=run, save_every=save_every, exact=exact, keep=keep
        )
        self._guard = ExactnessGuard(exact=self.settings.exact)
        self._held = held_callbacks.hold_callbacks(self.callbacks, self._guard)
        self._fit: Fit | None = None
        self._introduced: Any = None

    def set_model(self, model: Any) -> None:
        check_model(model)
        super().set_model(model)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        for callback in filter(_is_redundant, internals.callbacks_of_fit()):
            _report_redundant()
            _silence(callback)
        here = session.current()
        self._fit = Fit(self.model, self._held, here, here.run(self.settings), self._guard)
        self._fit.begin(self.params["epochs"], lambda: self._begin(self.callbacks, logs))
        if self._fit.over:
            self._begin(self._lambdas(), logs)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        fit = self._under_way()
        fit.epoch_begins(epoch)
        if not fit.muted:
            self._call("on_epoch_begin", epoch, logs)
        fit.epoch_has_begun()

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        fit = self._under_way()
        if not fit.muted:
            for callback in self.callbacks:
                callback.on_train_batch_begin(batch, logs)
        fit.batch_begins()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        fit = self._under_way()
        if not fit.muted:
            for callback in self.callbacks:
                callback.on_train_batch_end(batch, logs)
        fit.batch_ends(batch, logs or {})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._call("on_epoch_end", epoch, logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        fit, self._fit = self._under_way(), None
        for callback in self._lambdas() if fit.over else self.callbacks:
            callback.on_train_end(logs)
        fit.end(logs or {})

    # Validation within fit, and evaluate or predict on their own.

    def on_test_begin(self, logs: Logs | None = None) -> None:
        if not session.current().training:
            self._fit = None  # of a fit that ended in an error
        if self._fit:
            self._fit.validation_begins()
        self._introduce(self.callbacks)
        self._call("on_test_begin", logs)

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self._call("on_test_batch_begin", batch, logs)

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._call("on_test_batch_end", batch, logs)
        if self._fit:
            self._fit.validation_batch_ends()

    def on_test_end(self, logs: Logs | None = None) -> None:
        if self._fit:
            self._fit.validation_ends()
        self._call("on_test_end", logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        self._introduce(self.callbacks)
        self._call("on_predict_begin", logs)

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self._call("on_predict_batch_begin", batch, logs)

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._call("on_predict_batch_end", batch, logs)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        self._call("on_predict_end", logs)

    def _begin(self, callbacks: Sequence[keras.callbacks.Callback], logs: Logs | None) -> None:
        self._introduced = None
        self._introduce(callbacks)
        for callback in callbacks:
            callback.on_train_begin(logs)

    def _introduce(self, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Give them the model and the parameters; not before a run is claimed, as some write."""
        if self._introduced is not self.model:
            self._introduced = self.model
            for callback in callbacks:
                callback.set_params(self.params)
                callback.set_model(self.model)

    def _lambdas(self) -> list[keras.callbacks.Callback]:
        """Those that also take part in a fit that is over.

        Their ends close the script's files and stop its processes, which each attempt has anew.
        """
        kind = keras.callbacks.LambdaCallback
        return [callback for callback in self.callbacks if isinstance(callback, kind)]

    def _call(self, hook: str, *args: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, hook)(*args)

    def _under_way(self) -> Fit:
        if self._fit is None:
            raise RuntimeError("Resumable is for model.fit: a training hook was called outside it")
        return self._fit


def _is_redundant(callback: keras.callbacks.Callback) -> bool:
    return isinstance(callback, keras.callbacks.BackupAndRestore)


def _report_redundant() -> None:
    log.warning(
        events.CALLBACK_REDUNDANT,
        callback="BackupAndRestore",
        reason="Resumable saves and restores all that it does, so it is left out",
        fix="remove it from the script",
    )


def _silence(callback: keras.callbacks.Callback) -> None:
    """Both would set the epoch to begin with, and the weights."""
    for hook in ("on_train_begin", "on_train_batch_end", "on_epoch_end", "on_train_end"):
        setattr(callback, hook, lambda *_, **__: None)
