"""Keras' ModelCheckpoint, writing to files or to S3."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from keepfit.callbacks import events
from keepfit.callbacks.adapters.keras_callbacks.model_checkpoint import RedirectedModelCheckpoint
from keepfit.callbacks.files.paths import fills_template, fixed_folder
from keepfit.callbacks.files.uploads import UploadQueue, is_remote, url_of, working_copy
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()

_UNFINISHED = re.compile(r"\.keepfit-[0-9a-f]{32}-")
"""The beginning of the name of a file that Keras has not finished writing."""


class ModelCheckpoint(RedirectedModelCheckpoint):
    """A callback that saves the model or its weights from time to time, as Keras' class does.

    A model that is not in S3 yet is a copy on this machine. Inside Resumable it belongs to the
    checkpoint: another attempt, also on another machine, sends it.

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
        self._uploads = UploadQueue()
        if self._remote:
            working_copy(self.filepath)  # raises if it is not the address of an object

    def defer_sends(self) -> None:
        self._uploads.defer()

    def finish_sends(self, seconds: float | None) -> None:
        self._uploads.finish(seconds)

    def on_train_end(self, logs: Any = None) -> None:
        super().on_train_end(logs)
        self._uploads.end_of_training()

    def local_path(self, path: str) -> str:
        if not self._remote:
            return path
        copy = Path(working_copy(path))
        return str(copy.with_name(f".keepfit-{uuid.uuid4().hex}-{copy.name}"))

    def saved(self, local_path: str, path: str, epoch: int) -> None:
        self._uploads.send_copy(working_copy(path), path, new=local_path)
        if self.verbose > 0:
            log.info(events.FILE_SENDING, file=path, epoch=epoch + 1)

    def pending_copies(self) -> Mapping[str, str]:
        return self._uploads.copies

    def send_again(self, copies: Mapping[str, str]) -> None:
        if not self._remote:
            return
        pending = {**self._uploads.copies, **copies}
        present = {url: copy for url, copy in pending.items() if os.path.exists(copy)}
        self._remove_copies_except({*present.values()})
        for url, found in present.items():
            copy = Path(working_copy(url))
            if str(copy) != found:  # TMPDIR has another number in it than in the last attempt
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(found, copy)
            self._uploads.send_copy(str(copy), url)

    def send_restored(self) -> None:
        for path, final in self._files() if self._remote else ():
            if path == final:
                self._uploads.send_copy(str(path), url_of(str(path)))

    def _remove_copies_except(self, kept: set[str]) -> None:
        """Remove the copies that a killed attempt has made since the checkpoint."""
        for path, _ in self._files():
            if str(path) not in kept:
                path.unlink()

    def _files(self) -> list[tuple[Path, Path]]:
        """Return all copies on this machine, also unfinished ones, each with its final path."""
        template = working_copy(self.filepath)
        found = [path for path in fixed_folder(template).rglob("*") if path.is_file()]
        named = [(path, path.with_name(_UNFINISHED.sub("", path.name, count=1))) for path in found]
        return [(path, final) for path, final in named if fills_template(template, str(final))]
