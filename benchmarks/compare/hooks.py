"""Callbacks that measure a method's own callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from compare.method import ENDLESS, OnBatch
from compare.watch import Watch

if TYPE_CHECKING:  # peers need not wait for keepfit's imports
    from keepfit.callbacks.engine.preemption import PreemptionState

Logs = dict[str, Any] | None


class Watched(keras.callbacks.Callback):
    """A callback that calls a method's callback, and lets the watch decide when that saves.

    Args:
        inner: the method's callback.
        watch: decides at which batches a save is made, and measures it.
        preemption: keepfit's notices, which get the save requests; its callback is called at every
            batch. None: the inner callback saves whenever it is called, so it is called at no other
            batch.
    """

    def __init__(
        self,
        inner: keras.callbacks.Callback,
        watch: Watch,
        preemption: PreemptionState | None = None,
    ) -> None:
        super().__init__()
        self._inner, self._watch, self._preemption = inner, watch, preemption

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
        preemption = self._preemption

        def hook() -> None:
            self._inner.on_train_batch_end(batch, logs)

        def save_on_request() -> bool:
            preemption.request_save()
            hook()
            return not preemption.save_requested  # still True while another save is in progress

        if preemption:
            self._watch.batch_ends(save_on_request, otherwise=hook)
        else:
            self._watch.batch_ends(hook)


class After(keras.callbacks.Callback):
    """A callback that calls a function after each batch.

    Inside Resumable it is called only for batches that are trained, not for skipped ones.

    Args:
        on_batch: is called with the number of the batch within the whole job, from 0.
        steps: number of batches per epoch.
    """

    def __init__(self, on_batch: OnBatch, steps: int = ENDLESS) -> None:
        super().__init__()
        self._on_batch, self._steps = on_batch, steps
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        del logs
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        del logs
        self._on_batch(self._epoch * self._steps + batch)

    def get_state(self) -> dict[str, int]:
        return {"epoch": self._epoch}

    def set_state(self, state: dict[str, int]) -> None:
        self._epoch = state["epoch"]
