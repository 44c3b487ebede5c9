"""Keras' ModelCheckpoint, writing to files or to S3."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, ClassVar

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.adapters.keras_callbacks.model_checkpoint import RedirectedModelCheckpoint
from keepfit.callbacks.files.uploads import UploadQueue, is_remote, working_copy

log = structlog.get_logger("keepfit")


class ModelCheckpoint(RedirectedModelCheckpoint):
    """A callback that saves the model or its weights from time to time, as Keras' class does.

    Args:
        filepath: path of the files, or `s3://BUCKET/KEY` for objects, which are uploaded while
            training continues, each as a whole or not at all. Fields such as `{epoch:02d}` and
            `{val_loss:.2f}` are filled in.
        **arguments: the further arguments of Keras' ModelCheckpoint.

    Raises:
        ConfigurationError: an `s3://` filepath does not name an object.
    """

    keepfit_handles: ClassVar = ("_remote", "_uploads")

    def __init__(self, filepath: Any, *args: Any, **arguments: Any) -> None:
        super().__init__(filepath, *args, **arguments)
        self._remote = is_remote(self.filepath)
        self._uploads: UploadQueue | None = None
        if self._remote:
            working_copy(self.filepath)  # raises if it is not the address of an object

    def flush(self) -> None:
        """Wait until the models that have been saved are in S3, or have been given up."""
        if self._uploads:
            self._uploads.flush()

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        if self._remote:
            self._uploads = UploadQueue.open()

    def on_train_end(self, logs: Any = None) -> None:
        super().on_train_end(logs)
        if self._uploads:
            self._uploads.close()
            self._uploads = None

    def local_path(self, path: str) -> str:
        if not self._remote:
            return path
        copy = Path(working_copy(path))
        return str(copy.with_name(f"{uuid.uuid4().hex}-{copy.name}"))

    def saved(self, local_path: str, path: str, epoch: int) -> None:
        if self._uploads is None:  # called by hand, outside of fit
            self._uploads = UploadQueue.open()
        self._uploads.send_and_delete(local_path, path)
        if self.verbose > 0:
            log.info(events.FILE_SENDING, file=path, epoch=epoch + 1)
