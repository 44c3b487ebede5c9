"""Files that handlers of `logging` write: append-only files of the script."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from logging.handlers import BaseRotatingHandler, WatchedFileHandler
from pathlib import Path
from typing import Any

from keepfit.callbacks import events
from keepfit.callbacks.adapters.base import State
from keepfit.callbacks.files.append_opens import append_opens
from keepfit.callbacks.files.file_helpers import cut_back, file_size
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()

_ROTATING = (BaseRotatingHandler, WatchedFileHandler)


class LogFilesAdapter:
    """Adapter for the handlers of all loggers; it belongs to no callback."""

    def append_only(self, callback: Any) -> Mapping[str, int]:
        sizes = {}
        for handler in _handlers():
            handler.flush()
            sizes[handler.baseFilename] = file_size(handler.baseFilename)
        return sizes

    def replaced(self, callback: Any) -> Sequence[str]:
        return ()

    def may_write(self, callback: Any, path: str) -> bool:
        return any(handler.baseFilename == path for handler in _handlers())

    def baseline(self, callback: Any) -> Mapping[str, int]:
        return self.append_only(callback)

    @contextmanager
    def starting(self, callback: Any, baseline: Mapping[str, int]) -> Iterator[None]:
        _report_rotating()
        _cut_back(baseline)
        yield

    @contextmanager
    def resuming(self, callback: Any, state: State, sizes: Mapping[str, int]) -> Iterator[None]:
        _report_rotating()
        yield
        _cut_back(sizes)


LOG_FILES = LogFilesAdapter()


def _cut_back(sizes: Mapping[str, int]) -> None:
    """Cut all files back to earlier sizes; files that had none stay as they are."""
    for handler in _handlers():
        if handler.baseFilename not in sizes:
            continue
        handler.acquire()
        try:
            handler.flush()
            cut_back(handler.baseFilename, sizes[handler.baseFilename])
            if handler.stream and handler.stream.seekable():
                handler.stream.seek(0, os.SEEK_END)
        finally:
            handler.release()


def _handlers() -> list[logging.FileHandler]:
    """Return the handlers that write a file of one name."""
    return [
        handler
        for handler in _file_handlers()
        if not isinstance(handler, _ROTATING) and _is_regular(handler.baseFilename)
    ]


def _file_handlers() -> list[logging.FileHandler]:
    """Return the file handlers of all loggers, each once."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = [h for logger in loggers for h in getattr(logger, "handlers", ())]
    return [*{id(h): h for h in handlers if isinstance(h, logging.FileHandler)}.values()]


def _is_regular(path: str) -> bool:
    return Path(path).is_file() or not os.path.lexists(path)


def _report_rotating() -> None:
    """Name each log that is rotated, once: none of its files keeps its name."""
    named = append_opens().named
    for handler in _file_handlers():
        path = handler.baseFilename
        if isinstance(handler, _ROTATING) and path not in named:
            named.add(path)
            log.warning(
                events.LOG_ROTATES,
                file=path,
                reason=f"{type(handler).__name__} renames or reopens its file, so it is not cut "
                "back; after an interruption the log contains some lines twice",
                fix="use logging.FileHandler, or expect these lines",
            )
