"""Callbacks that stand beside a method's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from compare.method import ENDLESS, OnBatch
from compare.watch import Watch

if TYPE_CHECKING:  # its peers need not wait for its imports
    from keepfit.callbacks.session import Session

Logs = dict[str, Any] | None


class Watched(keras.callbacks.Callback):
    """Stands before a method's callback, and leaves it to the watch when it saves.

    Args:
        session: of keepfit, which sees every batch and is asked for a save. None: a callback that
            saves at each batch that it sees, and so sees no other.
    """

    def __init__(
        self,
        inner: keras.callbacks.Callback,
        watch: Watch,
        session: Session | None = None,
    ) -> None:
        super().__init__()
        self._inner, self._watch, self._session = inner, watch, session

    def set_params(self, params: Any) -> None:
        self._inner.set_params(params)

    def set_model(self, model: Any) -> None:
        self._inner.set_model(model)

    def on_train_begin(self, logs: Logs = None) -> None:
        self._inner.on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._inner.on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._inner.on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        session = self._session

        def hook() -> None:
            self._inner.on_train_batch_end(batch, logs)

        def asked() -> bool:
            session.request_save()
            hook()
            return not session.save_requested  # it is, while another save is still under way

        if session:
            self._watch.batch_ends(asked, otherwise=hook)
        else:
            self._watch.batch_ends(hook)


class After(keras.callbacks.Callback):
    """Calls a function after each batch. Inside Resumable it sees only what is trained."""

    def __init__(self, then: OnBatch, steps: int = ENDLESS) -> None:
        super().__init__()
        self._then, self._steps = then, steps
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        del logs
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        del logs
        self._then(self._epoch * self._steps + batch)

    def get_state(self) -> dict[str, int]:
        return {"epoch": self._epoch}

    def set_state(self, state: dict[str, int]) -> None:
        self._epoch = state["epoch"]
