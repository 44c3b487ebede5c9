"""Where the events of the log are written: one JSON object a line, or lines for users."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NoReturn, TextIO

import structlog
from structlog.typing import EventDict

from keepfit.callbacks.logs.display import Display
from keepfit.callbacks.logs.lines import lines_for_users

_to_json = structlog.processors.JSONRenderer(ensure_ascii=False)


class LineWriter:
    """A processor of structlog that writes each event, and ends it.

    Args:
        stream: None stands for the present standard error, which a script or a test may replace.
        json: write JSON where the stream is no terminal.
    """

    def __init__(self, stream: TextIO | None = None, *, json: bool = False) -> None:
        self._stream = stream
        self._json = json

    def __call__(self, logger: Any, method: str, event: EventDict) -> NoReturn:
        if stream := self._stream or sys.stderr:
            # Nobody can read a log whose terminal or pipe is gone; the training has to be saved.
            with suppress(OSError, ValueError):
                stream.write(self._text(Display.of(stream, os.environ), logger, method, event))
                stream.flush()
        raise structlog.DropEvent

    def _text(self, display: Display, logger: Any, method: str, event: EventDict) -> str:
        moment = datetime.fromtimestamp(event["timestamp"], UTC)
        if display.is_terminal or not self._json:
            local = moment.astimezone() if display.is_terminal else moment
            return display.above_current_line(lines_for_users(event, display, local))
        event["timestamp"] = f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"
        line = _to_json(logger, method, event)
        assert isinstance(line, str), "json.dumps returns text"
        return f"{line}\n"
