"""Uploads of callbacks' files: with an s3:// path, a callback writes a file that a thread uploads.

S3 has no appending and no half-written objects: an object is always a whole file as it once was,
in the newest version that could be sent.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.engine import preemption
from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.storage.base import NotFound
from keepfit.callbacks.storage.s3.address import Object

if TYPE_CHECKING:
    from keepfit.callbacks.storage.s3.transfer import Transfer

log = structlog.get_logger("keepfit")

SCHEME = "s3://"


def is_remote(path: str) -> bool:
    """Return whether the path is in S3."""
    return path.startswith(SCHEME)


def working_copy(url: str) -> str:
    """Return the local path at which a file or folder of S3 is written, equal in each attempt.

    Raises:
        ConfigurationError: `url` is not the address of a file or folder, or the folder for working
            copies belongs to another user.
    """
    address = Object.parse(url)
    top = Path(tempfile.gettempdir()) / "keepfit"
    top.mkdir(mode=0o700, exist_ok=True)
    if top.stat().st_uid != os.getuid() or top.is_symlink():
        raise ConfigurationError(f"{top} belongs to another user; set TMPDIR to a folder of yours")
    return str(top / address.bucket / address.key)


@dataclass(frozen=True)
class _Upload:
    """A file to be sent; `delete`: remove it afterwards, as it is a copy for the upload only."""

    path: str
    url: str
    delete: bool


class UploadQueue:
    """A thread that sends files to S3, each with its newest content. It has to be closed.

    A file that can't be sent is reported in the log; training continues without it.

    Attributes:
        transfer: sends the files.
    """

    def __init__(self, transfer: Transfer) -> None:
        self.transfer = transfer
        self._jobs: queue.SimpleQueue[str | threading.Event | None] = queue.SimpleQueue()
        self._newest: dict[str, _Upload] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="keepfit-uploads", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls) -> Self:
        """Open a queue with the AWS configuration of the environment.

        Its retries end at the deadline of this process.

        Raises:
            StorageError: the configuration can't be used.
        """
        from keepfit.callbacks.storage.s3.retries import RetryPolicy  # imports boto3
        from keepfit.callbacks.storage.s3.transfer import Transfer

        return cls(Transfer.open(RetryPolicy(deadline=preemption.current().deadline)))

    def send(self, path: str, url: str) -> None:
        """Send the file with the content that it has when its turn comes; it may keep growing."""
        self._add(_Upload(path, url, delete=False))

    def send_and_delete(self, path: str, url: str) -> None:
        """Send the file, then remove it."""
        self._add(_Upload(path, url, delete=True))

    def flush(self) -> None:
        """Wait until each file requested by now has been sent or given up."""
        done = threading.Event()
        self._jobs.put(done)
        while self._thread.is_alive() and not done.wait(1.0):
            continue

    def close(self) -> None:
        """Send the remaining files, and stop the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _add(self, job: _Upload) -> None:
        with self._lock:
            replaced = self._newest.get(job.url)
            self._newest[job.url] = job
        if replaced is None:
            self._jobs.put(job.url)
        elif replaced.delete:
            Path(replaced.path).unlink(missing_ok=True)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if isinstance(job, threading.Event):
                job.set()
                continue
            with self._lock:
                newest = self._newest.pop(job)
            self._send(newest)

    def _send(self, job: _Upload) -> None:
        try:
            self.transfer.upload(job.path, job.url)
        except Exception as error:  # noqa: BLE001 # a thread in flush() must not wait for ever
            log.error(
                events.UPLOAD_FAILED,
                file=job.url,
                reason=str(error),
                fix="training continues; the file is sent again when it is written again",
            )
        finally:
            if job.delete:
                Path(job.path).unlink(missing_ok=True)


def download(url: str, path: str) -> bool:
    """Download the object at `url` to the file, as a whole; return False if there is none.

    Raises:
        StorageError: the object can't be read.
    """
    from keepfit.callbacks.storage.s3.transfer import Transfer

    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        Transfer.open().download(url, str(temporary))
    except NotFound:
        return False
    else:
        temporary.replace(target)
        return True
    finally:
        temporary.unlink(missing_ok=True)
