"""What a stream can show: its width, its colours, and whether its cursor can be moved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self, TextIO

COLUMNS: Final = 80
"""The width of a terminal that does not tell it."""

MIN_COLUMNS: Final = 20
"""Lines of a narrower terminal are not wrapped any further."""


@dataclass(frozen=True)
class Display:
    """The abilities of a stream.

    Attributes:
        columns: the width of the terminal; None for a file or a pipe, whose lines are not wrapped.
        has_colors: colours are shown.
        has_cursor: the current line can be cleared.
    """

    columns: int | None = None
    has_colors: bool = False
    has_cursor: bool = False

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str]) -> Self:
        """Return the abilities of `stream`: NO_COLOR, FORCE_COLOR, TERM and COLUMNS decide too.

        See no-color.org and force-color.org; NO_COLOR wins where both are set.
        """
        isatty = getattr(stream, "isatty", None)  # a script may set any object with a `write`
        terminal = bool(isatty and not getattr(stream, "closed", False) and isatty())
        smart = terminal and environment.get("TERM") not in (None, "", "dumb")
        forced = bool(environment.get("FORCE_COLOR"))
        return cls(
            columns=_columns(stream, environment) if terminal else None,
            has_colors=(smart or forced) and not environment.get("NO_COLOR"),
            has_cursor=smart,
        )

    @property
    def is_terminal(self) -> bool:
        """True for a terminal."""
        return self.columns is not None

    def above_current_line(self, text: str) -> str:
        """Return what writes `text` in place of a progress bar, which is drawn again below it.

        Keras, tqdm and others draw the whole bar anew, from the start of the line.
        """
        if self.columns is None:
            return f"{text}\n"
        if self.has_cursor:
            return f"\r\x1b[2K{text}\n"
        return f"\r{' ' * (self.columns - 1)}\r{text}\n"


def _columns(stream: TextIO, environment: Mapping[str, str]) -> int:
    wanted = environment.get("COLUMNS", "")
    if wanted.isdecimal() and int(wanted):
        return max(MIN_COLUMNS, int(wanted))
    try:
        found = os.get_terminal_size(stream.fileno()).columns
    except OSError:  # the terminal is gone, or it is none of the operating system's
        found = 0
    return max(MIN_COLUMNS, found) if found else COLUMNS
