"""Keras' TensorBoard, writing to a folder or to S3."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import keras

from keepfit.callbacks.adapters.keras_callbacks.tensorboard import file_suffix, flush_writers
from keepfit.callbacks.checkpoint.snapshot import FileStamp, stamp_of
from keepfit.callbacks.files.uploads import UploadQueue, is_remote, working_copy

if TYPE_CHECKING:
    from keepfit.callbacks.storage.s3.transfer import Transfer

SEND_INTERVAL = 15.0
"""Seconds between two scans for new events within an epoch."""

LARGE_FILE = 8 << 20
"""Bytes above which a file is sent again only after growing by an eighth: S3 can't append."""


class TensorBoard(keras.callbacks.TensorBoard):
    """A callback that writes events for TensorBoard, as Keras' TensorBoard does.

    Args:
        log_dir: path of the folder, or `s3://BUCKET/PREFIX` for a prefix in S3, where each file is
            updated as it grows: after each epoch, and every few seconds within one.
        **arguments: the further arguments of Keras' TensorBoard.

    Raises:
        ConfigurationError: an `s3://` log_dir does not name a prefix.
    """

    keepfit_handles: ClassVar = ("url", "_uploads", "_sent", "_scanned_at")

    log_dir: str

    def __init__(self, log_dir: Any = "logs", *args: Any, **arguments: Any) -> None:
        super().__init__(log_dir, *args, **arguments)
        self.url = self.log_dir.rstrip("/") if is_remote(self.log_dir) else None
        self._uploads = UploadQueue()
        self._sent: dict[Path, FileStamp] = {}
        self._scanned_at = 0.0
        if self.url:
            self.log_dir = working_copy(self.url)
            # A resumed attempt gets its own files restored.
            shutil.rmtree(self.log_dir, ignore_errors=True)

    def defer_sends(self) -> None:
        self._uploads.defer()

    def finish_sends(self, seconds: float | None) -> None:
        self._uploads.finish(seconds)

    def send_restored(self) -> None:
        self._send(last=True)

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        if self.url:
            self._sent = {}
            if suffix := file_suffix(self):
                remove = partial(_remove_stale, self.url, self.log_dir, suffix)
                self._uploads.run(f"{self.url}/*{suffix}", remove)
            self._send()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(batch, logs)
        if time.monotonic() - self._scanned_at > SEND_INTERVAL:
            self._send()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_end(epoch, logs)
        self._send()

    def on_train_end(self, logs: Any = None) -> None:
        super().on_train_end(logs)
        self._send(last=True)
        self._uploads.end_of_training()

    def _send(self, *, last: bool = False) -> None:
        if not self.url:
            return
        self._scanned_at = time.monotonic()
        flush_writers(self)
        for path in (p for p in Path(self.log_dir).rglob("*") if p.is_file()):
            stamp, sent = stamp_of(str(path)), self._sent.get(path)
            if stamp is None or stamp == sent:
                continue
            if sent and stamp.size > LARGE_FILE and stamp.size < sent.size * 9 / 8 and not last:
                continue
            self._sent[path] = stamp
            self._uploads.send(str(path), f"{self.url}/{path.relative_to(self.log_dir)}")


def _remove_stale(url: str, folder: str, suffix: str, transfer: Transfer) -> None:
    """Remove from S3 the files that a killed attempt of this run sent since the checkpoint.

    Raises:
        StorageError: they may not all be removed; events of that attempt may be shown twice.
    """
    for name in transfer.sizes(url):
        if name.endswith(suffix) and not Path(folder, name).exists():
            transfer.remove(f"{url}/{name}")
