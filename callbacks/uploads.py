"""Where callbacks write: to a file, or with an s3:// path to a file that a thread sends there.

S3 knows no appending and no half-written object: what is there is always a whole file as it once
was, and the newest that could be sent.
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

from keepfit.callbacks import events, session
from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.storage.base import NotFound
from keepfit.callbacks.storage.s3.address import Object

if TYPE_CHECKING:
    from keepfit.callbacks.storage.s3.transfer import Transfer

log = structlog.get_logger("keepfit")

SCHEME = "s3://"


def is_remote(path: str) -> bool:
    """Whether it is in S3."""
    return path.startswith(SCHEME)


def working_copy(url: str) -> str:
    """The local path where a file or folder in S3 grows: the same in each attempt.

    Raises:
        ConfigurationError: `url` is no address of a file or folder, or somebody else has the place.
    """
    of = Object.parse(url)
    top = Path(tempfile.gettempdir()) / "keepfit"
    top.mkdir(mode=0o700, exist_ok=True)
    if top.stat().st_uid != os.getuid() or top.is_symlink():
        raise ConfigurationError(f"{top} belongs to somebody else; set TMPDIR to a folder of yours")
    return str(top / of.bucket / of.key)


@dataclass(frozen=True)
class _Upload:
    """A file to be sent; `once`: it is a copy that nobody else needs."""

    path: str
    url: str
    once: bool


class UploadQueue:
    """Sends files from one thread, the newest content of each. To be closed.

    A file that can't be sent is named in the log; training goes on without it.

    Attributes:
        transfer: what sends them.
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
        """With the AWS configuration of the environment, and no longer than this process has.

        Raises:
            StorageError: that can't be used.
        """
        from keepfit.callbacks.storage.s3.retries import RetryPolicy  # brings boto3
        from keepfit.callbacks.storage.s3.transfer import Transfer

        return cls(Transfer.open(RetryPolicy(deadline=session.current().deadline)))

    def send(self, path: str, url: str) -> None:
        """Send the file as it is when its turn has come; it may go on growing."""
        self._add(_Upload(path, url, once=False))

    def hand_over(self, path: str, url: str) -> None:
        """Send the file, and remove it."""
        self._add(_Upload(path, url, once=True))

    def flush(self) -> None:
        """Wait until all that was asked for by now has arrived or is given up."""
        done = threading.Event()
        self._jobs.put(done)
        while self._thread.is_alive() and not done.wait(1.0):
            continue

    def close(self) -> None:
        """Flush, and stop the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _add(self, job: _Upload) -> None:
        with self._lock:
            replaced = self._newest.get(job.url)
            self._newest[job.url] = job
        if replaced is None:
            self._jobs.put(job.url)
        elif replaced.once:
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
        except Exception as error:  # noqa: BLE001 # whoever waits for this thread must not for ever
            log.error(
                events.UPLOAD_FAILED,
                file=job.url,
                reason=str(error),
                fix="training goes on; the file is sent again when it is written again",
            )
        finally:
            if job.once:
                Path(job.path).unlink(missing_ok=True)


def download(url: str, path: str) -> bool:
    """Bring the object at `url` to the file, whole; False if there is none.

    Raises:
        StorageError: it can't be read.
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
