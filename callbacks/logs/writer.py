"""Where the events of the log are written: one JSON object a line, or lines for users."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NoReturn, TextIO

import structlog
from structlog.typing import EventDict

from keepfit.callbacks.logs.display import Display
from keepfit.callbacks.logs.lines import lines_for_users


class LineWriter:
    """A processor of structlog that writes each event, and ends it.

    Args:
        stream: None stands for the present standard error, which a script or a test may replace.
        json: write JSON where the stream is no terminal.
    """

    def __init__(self, stream: TextIO | None = None, *, json: bool = False) -> None:
        self._stream = stream
        self._json = json

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> NoReturn:
        if stream := self._stream or sys.stderr:
            text = self._text(Display.of(stream, os.environ), event)
            # Nobody can read a log whose terminal or pipe is gone; the training has to be saved.
            with suppress(OSError, ValueError):
                stream.write(text)
                stream.flush()
        raise structlog.DropEvent

    def _text(self, display: Display, event: EventDict) -> str:
        moment = datetime.fromtimestamp(event["timestamp"], UTC)
        if display.is_terminal or not self._json:
            local = moment.astimezone() if display.is_terminal else moment
            return display.above_current_line(lines_for_users(event, display, local))
        event["timestamp"] = f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"
        return f"{json.dumps(event, ensure_ascii=False, default=repr)}\n"
