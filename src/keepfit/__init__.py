"""keepfit keeps `model.fit` running on machines that disappear.

A training that is interrupted continues from the exact batch in its next attempt, and ends with the
model, logs and history of a run that was never interrupted.

Example:
    >>> from keepfit import Resumable
    >>> model.fit(x, y, epochs=10, callbacks=[Resumable([EarlyStopping(patience=3)])])
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keepfit.callbacks.errors import (
        AttemptEnded,
        Cancelled,
        ConfigurationError,
        Fenced,
        LimitReached,
        Preempted,
        Refused,
        StoreUnreachable,
    )
    from keepfit.callbacks.keras.csv_logger import CSVLogger
    from keepfit.callbacks.keras.model_checkpoint import ModelCheckpoint
    from keepfit.callbacks.keras.remote_monitor import RemoteMonitor
    from keepfit.callbacks.keras.resumable import Resumable
    from keepfit.callbacks.keras.tensorboard import TensorBoard
    from keepfit.callbacks.protocols import StatefulCallback
    from keepfit.callbacks.storage.base import StorageError

    __version__: str

__all__ = [
    "AttemptEnded",
    "CSVLogger",
    "Cancelled",
    "ConfigurationError",
    "Fenced",
    "LimitReached",
    "ModelCheckpoint",
    "Preempted",
    "Refused",
    "RemoteMonitor",
    "Resumable",
    "StatefulCallback",
    "StorageError",
    "StoreUnreachable",
    "TensorBoard",
    "__version__",
]

_NEED_KERAS = frozenset(
    {"CSVLogger", "ModelCheckpoint", "RemoteMonitor", "Resumable", "TensorBoard"}
)

_MODULES = {
    "AttemptEnded": "errors",
    "CSVLogger": "keras.csv_logger",
    "Cancelled": "errors",
    "ConfigurationError": "errors",
    "Fenced": "errors",
    "LimitReached": "errors",
    "ModelCheckpoint": "keras.model_checkpoint",
    "Preempted": "errors",
    "Refused": "errors",
    "RemoteMonitor": "keras.remote_monitor",
    "Resumable": "keras.resumable",
    "StatefulCallback": "protocols",
    "StorageError": "storage.base",
    "StoreUnreachable": "errors",
    "TensorBoard": "keras.tensorboard",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that the command line starts without Keras.

    Raises:
        Refused: this process has a version of Keras or TensorFlow that keepfit does not support.
    """
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("keepfit")
    elif name in _MODULES:
        if name in _NEED_KERAS:
            import_module("keepfit.callbacks.environment").check_environment()
        value = getattr(import_module(f"keepfit.callbacks.{_MODULES[name]}"), name)
    else:
        this = sys.modules[__name__]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=this)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
