"""Waiting for a lock in a directory: said in the log, and never without a limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay

from keepfit.callbacks import events
from keepfit.callbacks.backoff import Backoff
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import Transient
from keepfit.callbacks.storage.file_operations import FileOperations

log = get_logger()


@dataclass(frozen=True)
class LockLimits:
    """How long to wait for a lock.

    Attributes:
        log_after: seconds after which one line in the log says what is being waited for.
        give_up_after: seconds after which the operation fails.
    """

    log_after: float = 2.0
    give_up_after: float = 60.0


@contextmanager
def holding(files: FileOperations, path: Path, limits: LockLimits) -> Iterator[None]:
    """Wait for the lock at `path`, and hold it within the block.

    Raises:
        Transient: another process has held it for too long.
    """
    with ExitStack() as held:
        _acquire(held, files, path, limits)
        yield


def _acquire(held: ExitStack, files: FileOperations, path: Path, limits: LockLimits) -> None:
    logged = False

    def say(state: RetryCallState) -> None:
        nonlocal logged
        if not logged and (state.seconds_since_start or 0) >= limits.log_after:
            logged = True
            log.warning(
                events.LOCK_AWAITED,
                file=str(path),
                reason="another process holds the lock of this run",
                fix=f"`fuser -v {path}` shows the holder, if it runs on this machine",
                gives_up_after=limits.give_up_after,
            )

    def give_up(_: RetryCallState) -> None:
        raise Transient(
            f"{path} has been locked by another process for {limits.give_up_after:g} s; "
            f"`fuser -v {path}` shows which one, if it runs on this machine"
        )

    Retrying(
        retry=retry_if_exception_type(BlockingIOError),
        wait=Backoff(0.002, 0.1),
        stop=stop_after_delay(limits.give_up_after),
        before_sleep=say,
        retry_error_callback=give_up,
    )(lambda: held.enter_context(files.locked(path)))
