"""Standard output that can be compared: without progress bars, durations and times."""

from __future__ import annotations

import re
from collections.abc import Iterable

LINES = 20
"""How many of the last lines are compared."""

KEPT_LINES = 1000
"""How many of the last lines are looked at."""

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TIMES = (
    re.compile(r"\d{4}-\d\d-\d\d[T _]\d\d[:_-]\d\d[:_-]\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?"),
    re.compile(r"\b\d{1,2}:\d\d:\d\d(?:[.,]\d+)?\b"),
    re.compile(r"\b\d{4}-\d\d-\d\d\b"),
    re.compile(
        r"(?<![\w.])\d+(?:\.\d+)?\s?(?:ns|us|µs|ms|s|sec|secs|seconds|min|minutes|h)"
        r"(?:/(?:step|epoch|batch|sample))?(?!\w)"
    ),
    re.compile(r"\b0x[0-9a-f]{6,}\b"),
)
_BAR = re.compile(r"\s*(?:\x1b\[[0-9;]*m)*(\d+)/(\d+|Unknown)\s.*(?:\d\w*/(?:step|epoch)|━)")


def mask(line: str) -> str:
    """Return a line with `…` in place of each duration, time and address of memory.

    Example:
        >>> mask("done at 12:01:07 after 3.2 s, loss 0.25")
        'done at … after …, loss 0.25'
    """
    for pattern in _TIMES:
        line = pattern.sub("…", line)
    return line


def shown(text: str) -> list[str]:
    """Return the lines that a terminal shows in the end, without bars that are not full.

    How often Keras prints a bar depends on the speed of the machine.
    """
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        plain = _ESCAPE.sub("", line)
        visible = next((part for part in reversed(re.split(r"[\r\x08]+", plain)) if part), "")
        bar = _BAR.match(visible)
        if visible.strip() and not (bar and bar[1] != bar[2]):
            lines.append(visible.rstrip())
    return lines


def outside_of(content: bytes, ranges: Iterable[tuple[int, int]]) -> str:
    """Return the text without these ranges of bytes: what was printed outside of fits.

    A resumed attempt prints other epochs within a fit than an uninterrupted one.
    """
    parts, at = [], 0
    for begin, end in ranges:
        parts.append(content[at:begin])
        at = max(at, end)
    parts.append(content[at:])
    return b"\n".join(parts).decode("utf-8", "replace")


def last_lines(content: bytes, ranges: Iterable[tuple[int, int]]) -> list[str]:
    """Return the last lines that the script has printed outside of fits, with times masked.

    They are more than are compared, since a resumed attempt may print others between them.
    """
    return [mask(line) for line in shown(outside_of(content, ranges))[-KEPT_LINES:]]
