"""A terminal for tests: a real pseudo-terminal, and what its user sees on a screen of 80x24."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pyte


class Terminal:
    """The side of a pseudo-terminal that the user sees."""

    def __init__(self, columns: int = 80, rows: int = 24):
        self.written = b""
        self.screen = pyte.HistoryScreen(columns, rows, history=1000, ratio=0.5)
        self._stream = pyte.ByteStream(self.screen)
        self._user, self.program = pty.openpty()
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.program, termios.TIOCSWINSZ, size)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        while True:
            try:
                data = os.read(self._user, 65536)
            except OSError:  # no program has the terminal open
                return
            self.written += data
            self._stream.feed(data)

    def lines(self) -> list[str]:
        """Wait for the programs to close the terminal. Return all lines, also those above."""
        self._reader.join()
        width = range(self.screen.columns)
        above = ["".join(row[i].data for i in width).rstrip() for row in self.screen.history.top]
        found = [*above, *(row.rstrip() for row in self.screen.display)]
        while found and not found[-1]:
            found.pop()
        return found

    def close(self):
        self._reader.join()
        os.close(self._user)


@contextmanager
def opened(columns: int = 80) -> Iterator[tuple[Terminal, TextIO]]:
    """Open a terminal, with a file that writes to it until the block ends."""
    terminal = Terminal(columns)
    with open(terminal.program, "w", encoding="utf-8") as file:
        yield terminal, file
    terminal.close()


def shown(command: list[str], columns: int = 80, **env: str) -> tuple[int, list[str]]:
    """Run a command in a terminal. Return its exit code, and what the user sees."""
    terminal = Terminal(columns)
    own = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    ended = subprocess.run(
        command,
        stdin=terminal.program,
        stdout=terminal.program,
        stderr=terminal.program,
        env=own | {"TERM": "xterm"} | env,
        check=False,
    )
    os.close(terminal.program)
    lines = terminal.lines()
    terminal.close()
    return ended.returncode, lines
