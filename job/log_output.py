"""How log events are written: lines for users on a terminal, JSON everywhere else."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog

from keepfit.callbacks.masking import mask_known_of

CLEAR_LINE = "\r\x1b[K"


class _ProgressBarSafeLogger:
    """Writes each message on a line of its own, even if a progress bar is on the current line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, message: str) -> None:
        self._stream.write(f"{CLEAR_LINE}{message}\n")
        self._stream.flush()

    log = debug = info = warn = warning = error = critical = exception = msg


class SecretMask:
    """Masks the secrets of URLs in an event, tracebacks included, whatever has logged it.

    What is logged has no secret in it; this is the last line of defence, for the texts of errors.

    Args:
        environment: the present variables, whose URLs have secrets that must not be logged.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    def __call__(self, _logger: Any, _method: str, event: Any) -> Any:
        return {name: self._masked(value) for name, value in event.items()}

    def _masked(self, value: Any) -> Any:
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return mask_known_of(self._environment, value)
            case Mapping():
                return {self._masked(key): self._masked(item) for key, item in value.items()}
            case list() | set() | frozenset():
                return [self._masked(item) for item in value]
            case tuple():
                return tuple(self._masked(item) for item in value)
        text = repr(value)
        masked = mask_known_of(self._environment, text)
        return value if masked == text else masked


def configure(stream: TextIO | None = None) -> None:
    """Write keepfit's log events to `stream`; the default is standard error.

    Standard output belongs to the script. Times are UTC, ISO 8601; on a terminal, they are local.
    No event contains a secret of a URL.
    """
    out = stream or sys.stderr
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper("iso", utc=True),
        structlog.processors.format_exc_info,
        SecretMask(os.environ),
    ]
    if out.isatty():
        render: Any = structlog.dev.ConsoleRenderer(
            pad_event_to=0,
            sort_keys=False,
            exception_formatter=structlog.dev.plain_traceback,  # the processors have formatted it
        )
        factory: Any = lambda *_: _ProgressBarSafeLogger(out)  # noqa: E731
        shared[1] = structlog.processors.TimeStamper("%H:%M:%S", utc=False)
    else:
        render = structlog.processors.JSONRenderer(ensure_ascii=False)
        factory = structlog.WriteLoggerFactory(out)
    structlog.configure(
        processors=[*shared, render],
        logger_factory=factory,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )
