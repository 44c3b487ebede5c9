"""Keras' ModelCheckpoint, to files or to S3."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import keras
import structlog

from callbacks import events
from callbacks.remote import Uploads, is_remote, working_copy

log = structlog.get_logger("keepfit")


class ModelCheckpoint(keras.callbacks.ModelCheckpoint):
    """Saves the model or its weights now and then, as Keras' callback of this name does.

    Args:
        filepath: where; `s3://BUCKET/KEY` for objects, which are sent while training goes on, each
            whole or not at all. Fields such as `{epoch:02d}` and `{val_loss:.2f}` are filled in.
        **arguments: as Keras' callback takes them.

    Raises:
        ConfigurationError: an `s3://` filepath names no object.
    """

    def __init__(self, filepath: Any, *args: Any, **arguments: Any) -> None:
        super().__init__(filepath, *args, **arguments)
        self._remote = is_remote(self.filepath)
        self._uploads: Uploads | None = None
        if self._remote:
            working_copy(self.filepath)  # refuses what is no address

    def settle(self) -> None:
        """Wait until the models that have been saved are in S3, or given up."""
        if self._uploads:
            self._uploads.settle()

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        if self._remote:
            self._uploads = Uploads.open()

    def on_train_end(self, logs: Any = None) -> None:
        super().on_train_end(logs)
        if self._uploads:
            self._uploads.close()
            self._uploads = None

    def _save_model(self, epoch: int, batch: int | None, logs: Any) -> None:
        if not self._remote:
            super()._save_model(epoch, batch, logs)
            return
        url = self._get_file_path(epoch, batch, logs)
        if not self._should_save_model(epoch, batch, logs, url):
            return
        copy = Path(working_copy(url))
        path = copy.with_name(f"{uuid.uuid4().hex}-{copy.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        save = self.model.save_weights if self.save_weights_only else self.model.save
        save(str(path), overwrite=True)
        if self._uploads is None:  # called by hand, outside of fit
            self._uploads = Uploads.open()
        self._uploads.hand_over(str(path), url)
        if self.verbose > 0:
            log.info(events.SENDING, file=url, epoch=epoch + 1)
