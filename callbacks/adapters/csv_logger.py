"""Append-only files: cut to where the checkpoint is, never rewritten."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.adapters.base import State
from keepfit.callbacks.adapters.paths import differ_only_in_numbers, resolve_first_path

log = structlog.get_logger("keepfit")


class CSVLoggerAdapter:
    """For CSVLogger, which truncates its file or writes rows twice when it is started again."""

    state = ("keys", "append_header")
    config = ("sep", "filename", "append")
    handles = ("writer", "csv_file")

    def get(self, callback: Any) -> State:
        file = getattr(callback, "csv_file", None)  # Keras 3.12 and older: only in training
        if file is not None and not file.closed:
            file.flush()
        return {
            "file": str(callback.filename),
            "size": file_size(callback.filename),
            "keys": callback.keys,
            "headed": callback.writer is not None or not callback.append_header,
        }

    def set(self, callback: Any, state: State) -> None:
        callback.keys = state["keys"]
        callback.append_header = not (state["headed"] and file_size(callback.filename))

    def append_only(self, callback: Any) -> Mapping[str, int]:
        return {str(callback.filename): file_size(callback.filename)}

    def replaced(self, callback: Any) -> Sequence[str]:
        return ()

    def may_write(self, callback: Any, path: str) -> bool:
        return differ_only_in_numbers(path, str(callback.filename))

    def baseline(self, callback: Any) -> Mapping[str, int]:
        return self.append_only(callback)

    @contextmanager
    def starting(self, callback: Any, baseline: Mapping[str, int]) -> Iterator[None]:
        truncate_file(callback.filename, baseline[str(callback.filename)])
        yield

    @contextmanager
    def resuming(self, callback: Any, state: State, sizes: Mapping[str, int]) -> Iterator[None]:
        callback.filename = resolve_first_path(callback.filename, state["file"])
        truncate_file(callback.filename, state["size"])
        append, callback.append = callback.append, True
        try:
            yield
        finally:
            callback.append = append


def file_size(path: str) -> int:
    """In bytes; 0 if there is no such file."""
    return os.path.getsize(path) if os.path.exists(path) else 0


def truncate_file(path: str, size: int) -> None:
    """Bring a log back to the size that it had; what was written since will be written again."""
    found = file_size(path)
    if found < size:
        log.error(
            events.FILE_TOO_SHORT,
            file=path,
            bytes=found,
            expected=size,
            fix="put the file of the last attempt back; without it, its first rows are missing",
        )
    elif found > size:
        os.truncate(path, size)


def fsync_file(path: str) -> None:
    """See to it that what has been written to the file survives a power cut."""
    if os.path.exists(path):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
