"""How log events look: lines for people on a terminal, JSON for everything else."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog

CLEAR_LINE = "\r\x1b[K"


class _AboveTheProgressBar:
    """Writes each line on a line of its own, though a progress bar may hold the cursor."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, message: str) -> None:
        self._stream.write(f"{CLEAR_LINE}{message}\n")
        self._stream.flush()

    log = debug = info = warn = warning = error = critical = exception = msg


def configure(stream: TextIO | None = None) -> None:
    """Send keepfit's events to `stream`, standard error by default; the script's output is its own.

    Times are UTC, ISO 8601.
    """
    out = stream or sys.stderr
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper("iso", utc=True),
    ]
    if out.isatty():
        render: Any = structlog.dev.ConsoleRenderer(pad_event_to=0, sort_keys=False)
        factory: Any = lambda *_: _AboveTheProgressBar(out)  # noqa: E731
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
