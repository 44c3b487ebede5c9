"""keepfit's own logger, which neither uses nor changes the configuration of a script's structlog.

Events go to standard error, also where nothing configures the log, as under plain `python`. The
format is a setting of the process, as with every log: `configure` changes it, `reset` restores it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TextIO

import structlog
from structlog.testing import LogCapture
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from keepfit.callbacks.logs.secret_mask import SecretMask
from keepfit.callbacks.logs.writer import LineWriter


def get_logger() -> FilteringBoundLogger:
    """Return the logger of keepfit."""
    logger: FilteringBoundLogger = structlog.wrap_logger(
        LineWriter(),  # events end in a processor; the wrapped logger is never called
        processors=_processors,
        wrapper_class=structlog.make_filtering_bound_logger(0),
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    return logger


def configure(stream: TextIO | None = None, *, json: bool = False) -> None:
    """Write all events from now on to `stream`; the default is the standard error of each moment.

    Args:
        json: write one JSON object a line where the stream is no terminal.
    """
    replace_processors(_processors_for(LineWriter(stream, json=json)))


def reset() -> None:
    """Write events as if nothing had configured the log."""
    configure()


def replace_processors(processors: Sequence[Processor]) -> None:
    """Pass all events from now on through these processors, the last of which ends them."""
    _processors[:] = processors


@contextmanager
def capture_logs() -> Iterator[list[EventDict]]:
    """Collect all events in a list, for tests; nothing is written.

    Example:
        >>> with capture_logs() as logs:
        ...     get_logger().info("resumed", step=3)
        >>> logs
        [{'step': 3, 'event': 'resumed', 'log_level': 'info'}]
    """
    capture = LogCapture()
    before = list(_processors)
    replace_processors([capture])
    try:
        yield capture.entries
    finally:
        replace_processors(before)


def _drop_debug(_logger: Any, method: str, event: EventDict) -> EventDict:
    if method == "debug":
        raise structlog.DropEvent
    return event


def _processors_for(writer: LineWriter) -> list[Processor]:
    return [
        _drop_debug,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(None, utc=True),
        structlog.processors.format_exc_info,
        SecretMask(os.environ),
        writer,
    ]


_processors: Final = _processors_for(LineWriter())
"""The processors of all loggers. The list is changed in place, because loggers refer to it."""
