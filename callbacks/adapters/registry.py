"""The choice of an adapter: for callbacks of Keras, keepfit, other libraries, and the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from keepfit.callbacks.adapters.base import (
    DeferredSends,
    FileAdapter,
    HeldCallback,
    KnownAdapter,
)
from keepfit.callbacks.adapters.keras_callbacks.csv_logger import CSVLoggerAdapter
from keepfit.callbacks.adapters.keras_callbacks.early_stopping import EARLY_STOPPING
from keepfit.callbacks.adapters.keras_callbacks.history import HISTORY
from keepfit.callbacks.adapters.keras_callbacks.learning_rate_scheduler import (
    LEARNING_RATE_SCHEDULER,
)
from keepfit.callbacks.adapters.keras_callbacks.model_checkpoint import ModelCheckpointAdapter
from keepfit.callbacks.adapters.keras_callbacks.reduce_lr_on_plateau import REDUCE_LR_ON_PLATEAU
from keepfit.callbacks.adapters.keras_callbacks.remote_monitor import RemoteMonitorAdapter
from keepfit.callbacks.adapters.keras_callbacks.swap_ema_weights import SWAP_EMA_WEIGHTS
from keepfit.callbacks.adapters.keras_callbacks.tensorboard import TensorBoardAdapter
from keepfit.callbacks.adapters.keras_callbacks.terminate_on_nan import TERMINATE_ON_NAN
from keepfit.callbacks.adapters.library_callbacks.keras_tuner import (
    SAVE_BEST_EPOCH,
    TUNER_CALLBACK,
)
from keepfit.callbacks.adapters.open_files import OpenFilesAdapter
from keepfit.callbacks.adapters.user_callbacks import ChangedAttributesAdapter, StateMethodsAdapter
from keepfit.callbacks.exactness import ExactnessGuard
from keepfit.callbacks.protocols import StatefulCallback

ADAPTERS: Mapping[type, KnownAdapter] = {
    keras.callbacks.EarlyStopping: EARLY_STOPPING,
    keras.callbacks.ReduceLROnPlateau: REDUCE_LR_ON_PLATEAU,
    keras.callbacks.ModelCheckpoint: ModelCheckpointAdapter(),
    keras.callbacks.TensorBoard: TensorBoardAdapter(),
    keras.callbacks.SwapEMAWeights: SWAP_EMA_WEIGHTS,
    keras.callbacks.RemoteMonitor: RemoteMonitorAdapter(),
    keras.callbacks.History: HISTORY,
    keras.callbacks.CSVLogger: CSVLoggerAdapter(),
    keras.callbacks.LearningRateScheduler: LEARNING_RATE_SCHEDULER,
    keras.callbacks.TerminateOnNaN: TERMINATE_ON_NAN,
}

LIBRARY_ADAPTERS: Mapping[tuple[str, str], KnownAdapter] = {
    ("keras_tuner", "SaveBestEpoch"): SAVE_BEST_EPOCH,
    ("keras_tuner", "TunerCallback"): TUNER_CALLBACK,
}
"""Adapters by the package and the name of a class, which need not be installed."""

OWN_HANDLES = "keepfit_handles"
"""The class attribute in which keepfit's own callbacks name the handles that they add to Keras'."""


def hold_callback(callback: Any, guard: ExactnessGuard | None = None) -> HeldCallback:
    """Return the callback with the adapters that keep its state.

    These are its own methods if it has them, else the adapter of the nearest known class,
    else one for the attributes that training changes. Call this before training changes any.
    """
    if isinstance(callback, DeferredSends):
        callback.defer_sends()
    if isinstance(callback, StatefulCallback):
        return HeldCallback(callback, StateMethodsAdapter(), files=OpenFilesAdapter())
    for kind in type(callback).__mro__:
        if adapter := _adapter_for(kind):
            known = (*adapter.state, *adapter.config, *adapter.handles, *_own_handles(callback))
            derived = type(callback) is not kind and OWN_HANDLES not in vars(type(callback))
            return HeldCallback(
                callback,
                adapter,
                ChangedAttributesAdapter(callback, known, guard) if derived else None,
                adapter if isinstance(adapter, FileAdapter) else None,
            )
    return HeldCallback(
        callback, ChangedAttributesAdapter(callback, guard=guard), files=OpenFilesAdapter()
    )


def _adapter_for(kind: type) -> KnownAdapter | None:
    package = kind.__module__.partition(".")[0]
    return ADAPTERS.get(kind) or LIBRARY_ADAPTERS.get((package, kind.__qualname__))


def _own_handles(callback: Any) -> tuple[str, ...]:
    return tuple(getattr(callback, OWN_HANDLES, ()))
