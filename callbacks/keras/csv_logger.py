"""Keras' CSVLogger, writing to a file or to S3."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import keras

from keepfit.callbacks.files.uploads import UploadQueue, download, is_remote, working_copy


class CSVLogger(keras.callbacks.CSVLogger):
    """A callback that streams epoch results to a CSV file, as Keras' CSVLogger does.

    Args:
        filename: path of the CSV file, or `s3://BUCKET/KEY` for an object, which a thread of its
            own replaces after each epoch.
        separator: string between the elements of a row.
        append: append to an existing file rather than overwrite it.

    Raises:
        ConfigurationError: an `s3://` filename does not name an object.
        StorageError: an object to append to can't be read.
    """

    keepfit_handles: ClassVar = ("url", "_uploads")

    filename: str

    def __init__(self, filename: Any, separator: str = ",", append: bool = False) -> None:
        super().__init__(filename, separator=separator, append=append)
        self.url = self.filename if is_remote(self.filename) else None
        self._uploads = UploadQueue()
        if self.url:
            self.filename = working_copy(self.url)
            Path(self.filename).parent.mkdir(parents=True, exist_ok=True)
            if append and not download(self.url, self.filename):
                Path(self.filename).unlink(missing_ok=True)

    def defer_sends(self) -> None:
        self._uploads.defer()

    def finish_sends(self, seconds: float | None) -> None:
        self._uploads.finish(seconds)

    def send_restored(self) -> None:
        if Path(self.filename).exists():
            self._send()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_end(epoch, logs)
        self._send()

    def on_train_end(self, logs: Any = None) -> None:
        super().on_train_end(logs)
        self._send()
        self._uploads.end_of_training()

    def _send(self) -> None:
        if self.url:
            self._uploads.send(self.filename, self.url)
