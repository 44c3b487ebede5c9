"""Keras callbacks that let `model.fit` outlive the machine it runs on."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callbacks.csv_logger import CSVLogger
    from callbacks.model_checkpoint import ModelCheckpoint
    from callbacks.remote_monitor import RemoteMonitor
    from callbacks.resumable import Resumable
    from callbacks.tensorboard import TensorBoard

__all__ = ["CSVLogger", "ModelCheckpoint", "RemoteMonitor", "Resumable", "TensorBoard"]

_MODULES = {
    "CSVLogger": "csv_logger",
    "ModelCheckpoint": "model_checkpoint",
    "RemoteMonitor": "remote_monitor",
    "Resumable": "resumable",
    "TensorBoard": "tensorboard",
}


def __getattr__(name: str) -> Any:
    """Import Keras only when it is asked for: the command line answers without it."""
    if name in _MODULES:
        return getattr(import_module(f"callbacks.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
