"""Keras' CSVLogger, to a file or to S3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from keepfit.callbacks.uploads import UploadQueue, download, is_remote, working_copy


class CSVLogger(keras.callbacks.CSVLogger):
    """Streams the results of each epoch to a CSV file, as Keras' callback of this name does.

    Args:
        filename: of the CSV file; `s3://BUCKET/KEY` for an object, which is replaced after each
            epoch, by a thread of its own.
        separator: between the elements of a row.
        append: go on behind what is there, rather than overwrite it.

    Raises:
        ConfigurationError: an `s3://` filename names no object.
        StorageError: an object to append to can't be read.
    """

    filename: str

    def __init__(self, filename: Any, separator: str = ",", append: bool = False) -> None:
        super().__init__(filename, separator=separator, append=append)
        self.url = self.filename if is_remote(self.filename) else None
        self._uploads: UploadQueue | None = None
        if self.url:
            self.filename = working_copy(self.url)
            Path(self.filename).parent.mkdir(parents=True, exist_ok=True)
            if append and not download(self.url, self.filename):
                Path(self.filename).unlink(missing_ok=True)

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        if self.url:
            self._uploads = UploadQueue.open()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_end(epoch, logs)
        if self._uploads and self.url:
            self._uploads.send(self.filename, self.url)

    def on_train_end(self, logs: Any = None) -> None:
        super().on_train_end(logs)
        if self._uploads and self.url:
            self._uploads.send(self.filename, self.url)
            self._uploads.close()
            self._uploads = None
