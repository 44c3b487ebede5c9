"""How log events are written: lines for users on a terminal, JSON everywhere else."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog

CLEAR_LINE = "\r\x1b[K"


class _ProgressBarSafeLogger:
    """Writes each message on a line of its own, even if a progress bar is on the current line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, message: str) -> None:
        self._stream.write(f"{CLEAR_LINE}{message}\n")
        self._stream.flush()

    log = debug = info = warn = warning = error = critical = exception = msg


def configure(stream: TextIO | None = None) -> None:
    """Write keepfit's log events to `stream`; the default is standard error.

    Standard output belongs to the script. Times are UTC, ISO 8601; on a terminal, they are local.
    """
    out = stream or sys.stderr
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper("iso", utc=True),
    ]
    if out.isatty():
        render: Any = structlog.dev.ConsoleRenderer(pad_event_to=0, sort_keys=False)
        factory: Any = lambda *_: _ProgressBarSafeLogger(out)  # noqa: E731
        shared[-1] = structlog.processors.TimeStamper("%H:%M:%S", utc=False)
    else:
        render = structlog.processors.JSONRenderer(ensure_ascii=False)
        factory = structlog.WriteLoggerFactory(out)
    structlog.configure(
        processors=[*shared, render],
        logger_factory=factory,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
