"""Helpers for the files that callbacks write."""

from __future__ import annotations

import os

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()


def file_size(path: str) -> int:
    """Return the size of the file in bytes, or 0 if there is no such file."""
    return os.path.getsize(path) if os.path.exists(path) else 0


def truncate_file(path: str, size: int) -> None:
    """Truncate an append-only file to an earlier size; the content after it is written again.

    A file that is shorter than `size` is left as it is, and reported in the log.
    """
    current_size = file_size(path)
    if current_size < size:
        log.error(
            events.FILE_TOO_SHORT,
            file=path,
            bytes=current_size,
            expected=size,
            fix="restore the file of the last attempt; without it, its first rows are missing",
        )
    elif current_size > size:
        os.truncate(path, size)


def cut_back(path: str, size: int) -> None:
    """Truncate a file that callbacks do not own, and say so: others may have written to it too."""
    removed = file_size(path) - size
    truncate_file(path, size)
    if removed > 0:
        log.info(
            events.FILE_CUT,
            file=path,
            bytes=size,
            removed=removed,
            reason="the resumed training writes what follows once more",
        )


def fsync_file(path: str) -> None:
    """Flush the file, if it exists, to disk: what has been written to it survives a power cut."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # also the copy of a file that has just arrived in S3
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
