"""How `keepfit run` and the other commands write the log."""

from __future__ import annotations

import sys
from typing import TextIO

from keepfit.callbacks.logs import logger

JSON_COMMANDS = frozenset({"run"})
"""The commands whose log is read by programs where it is no terminal."""


def configure(command: str | None = None, stream: TextIO | None = None) -> None:
    """Write the log to `stream` for a command; the default is standard error.

    Standard output belongs to the script. The stream stays the same if the script replaces
    `sys.stderr`.
    """
    logger.configure(stream or sys.stderr, json=command in JSON_COMMANDS)
