"""Append-only files: cut to where the checkpoint is, never rewritten."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from callbacks import events
from callbacks.state.base import State

log = structlog.get_logger("keepfit")


class CsvLog:
    """For CSVLogger, which truncates its file or writes rows twice when it is started again."""

    state = ("keys", "writer", "append_header", "csv_file")
    config = ("sep", "filename", "append")

    def get(self, callback: Any) -> State:
        if callback.csv_file is not None and not callback.csv_file.closed:
            callback.csv_file.flush()
        return {
            "size": file_size(callback.filename),
            "keys": callback.keys,
            "headed": callback.writer is not None or not callback.append_header,
        }

    def set(self, callback: Any, state: State) -> None:
        callback.keys = state["keys"]
        callback.append_header = not (state["headed"] and file_size(callback.filename))

    def path(self, callback: Any) -> str:
        return str(callback.filename)

    @contextmanager
    def reopening(self, callback: Any, state: State) -> Iterator[None]:
        cut(callback.filename, state["size"])
        append, callback.append = callback.append, True
        try:
            yield
        finally:
            callback.append = append


def file_size(path: str) -> int:
    """In bytes; 0 if there is no such file."""
    return os.path.getsize(path) if os.path.exists(path) else 0


def cut(path: str, size: int) -> None:
    """Bring a log back to the size that it had; what was written since will be written again."""
    found = file_size(path)
    if found < size:
        log.error(
            events.LOG_SHORT,
            file=path,
            bytes=found,
            expected=size,
            fix="put the file of the last attempt back; without it, its first rows are missing",
        )
    elif found > size:
        os.truncate(path, size)


def make_durable(path: str) -> None:
    """See to it that what has been written to the file survives a power cut."""
    if os.path.exists(path):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
