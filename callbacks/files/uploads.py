"""Uploads of callbacks' files: with an s3:// path, a callback writes a file that a thread uploads.

S3 has no appending and no half-written objects: an object is always a whole file as it once was,
in the newest version that could be sent.
"""

from __future__ import annotations

import functools
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from keepfit.callbacks import events
from keepfit.callbacks.engine import preemption
from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.files.send_thread import NotSent, Sender, SendThread
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import NotFound, StorageError, Transient
from keepfit.callbacks.storage.s3.address import Object

if TYPE_CHECKING:
    from keepfit.callbacks.storage.s3.transfer import Transfer

log = get_logger()

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
    top = _top_folder()
    top.mkdir(mode=0o700, exist_ok=True)
    if top.stat().st_uid != os.getuid() or top.is_symlink():
        raise ConfigurationError(f"{top} belongs to another user; set TMPDIR to a folder of yours")
    return str(top / address.bucket / address.key)


def _top_folder() -> Path:
    return Path(tempfile.gettempdir()) / "keepfit"


def url_of(copy: str) -> str:
    """Return the URL of the file whose working copy this is."""
    return f"{SCHEME}{Path(copy).relative_to(_top_folder()).as_posix()}"


class UploadQueue(Sender):
    """The files that one callback sends to S3, on a thread, each with its newest content.

    A file that S3 refuses is reported in the log; training continues without it. A file that could
    not be sent for a while is sent again with the next file, and when the queue is finished.
    """

    def __init__(self) -> None:
        super().__init__()
        self._transfer: Callable[[], Transfer] | None = None
        self._copies: dict[str, str] = {}

    @property
    def copies(self) -> Mapping[str, str]:
        """The copies that `send_copy` has not sent yet, by the URL of each."""
        return dict(self._copies)

    def send(self, path: str, url: str) -> None:
        """Send the file with the content that it has when its turn comes; it may keep growing."""
        self._add(url, lambda transfer: transfer.upload(path, url))

    def send_copy(self, copy: str, url: str, new: str | None = None) -> None:
        """Send a file that is a copy for the upload, and delete it then, unless it was replaced.

        Args:
            new: a file to rename to `copy` first. An upload of `copy` that is under way continues
                with the content that it has opened.
        """
        thread = self._open()

        def prepare() -> None:
            self._copies[url] = copy
            if new:
                os.replace(new, copy)

        def remove() -> None:
            Path(copy).unlink(missing_ok=True)
            self._copies.pop(url, None)

        def send(transfer: Transfer) -> None:
            transfer.upload(copy, url)
            thread.unless_replaced(url, remove)

        self._add(url, send, prepare, on_refusal=lambda: thread.unless_replaced(url, remove))

    def run(self, name: str, action: Callable[[Transfer], None]) -> None:
        """Call `action` on the thread, in turn with the uploads; `name` is for log lines."""
        self._add(name, action)

    def finish(self, seconds: float | None) -> None:
        """Wait for the uploads at most so long, log what has not been sent, and stop the thread.

        Args:
            seconds: None for as long as the retries of each request allow.
        """
        if left := self.finish_thread(seconds):
            log.warning(
                events.UPLOADS_UNFINISHED,
                files=left,
                reason="S3 did not take them in time",
                fix="if another attempt continues, it sends them; otherwise copy them from "
                f"{_top_folder()} with `aws s3 cp`",
            )

    def _open(self) -> SendThread:
        """Return the thread, whose requests are not retried beyond the deadline of the process."""
        if self._thread is None:
            self._thread = thread = SendThread("keepfit-uploads")
            end_of_process = preemption.current().deadline

            def deadline() -> float | None:
                return time.monotonic() if thread.abandoned.is_set() else end_of_process()

            @functools.cache
            def transfer() -> Transfer:  # on the thread: the configuration may ask the network
                from keepfit.callbacks.storage.s3.retries import RetryPolicy  # imports boto3
                from keepfit.callbacks.storage.s3.transfer import Transfer

                return Transfer.open(RetryPolicy(deadline=deadline))

            self._transfer = transfer
        return self._thread

    def _add(
        self,
        name: str,
        action: Callable[[Transfer], None],
        before: Callable[[], None] | None = None,
        on_refusal: Callable[[], None] | None = None,
    ) -> None:
        thread, open_transfer = self._open(), self._transfer
        assert open_transfer  # nosec B101 # narrows a type

        def job() -> None:
            try:
                action(open_transfer())
            except Transient as error:
                if not thread.abandoned.is_set():  # otherwise `finish` has logged it
                    _report(name, error, "training continues; it is sent again with the next file")
                raise NotSent from error
            except (StorageError, ConfigurationError, OSError) as error:
                _report(
                    name,
                    error,
                    "training continues; the file is sent again when it is written again",
                )
                if on_refusal:
                    on_refusal()

        thread.add(name, job, before)


def _report(name: str, error: Exception, fix: str) -> None:
    log.error(events.UPLOAD_FAILED, file=name, reason=str(error), fix=fix)


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
