"""The lines that users read: the time, the event in plain words, and the fields that matter."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from keepfit.callbacks.logs.display import Display
from keepfit.callbacks.logs.printable import printable
from keepfit.callbacks.logs.words import WORDS

MAX_ITEMS: Final = 6
"""So many items of a list are shown; the rest is counted."""

_INDENT: Final = "    "
_DETAILS: Final = ("reason", "fix")
_NO_FIELDS: Final = frozenset({"event", "level", "timestamp", "exception", *_DETAILS})
_COLORS: Final = {"warning": "\x1b[33m", "error": "\x1b[1;31m", "critical": "\x1b[1;31m"}
_DIM: Final = "\x1b[2m"
_PLAIN: Final = "\x1b[0m"


def lines_for_users(event: Mapping[str, Any], display: Display, moment: datetime) -> str:
    """Return the text of an event, without a newline at its end.

    On a terminal, lines are wrapped, and the reason and the fix have lines of their own.
    Elsewhere, an event is one line, so that `grep` shows all of it.
    """
    time = f"{moment:%H:%M:%S}" if display.is_terminal else f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    level = str(event.get("level", "info"))
    words = _in_words(event)
    details = [f"{_label(name)}{_shown(event[name])}" for name in _DETAILS if event.get(name)]
    start = f"{time} keepfit: "
    mark = f"{level}: " if level in _COLORS else ""
    if display.columns is None:
        lines = [f"{start}{mark}{'; '.join([words, *details])}"]
    else:
        lines = [*_wrapped(f"{start}{mark}", words, display.columns)]
        for detail in details:
            lines += _wrapped(_INDENT, detail, display.columns)
    if display.has_colors:
        color = f"{_COLORS[level]}{mark}{_PLAIN}" if mark else ""
        lines[0] = f"{_DIM}{start}{_PLAIN}{color}{lines[0][len(start + mark) :]}"
    if exception := event.get("exception"):
        lines += (f"{_INDENT}{printable(line)}" for line in str(exception).splitlines())
    return "\n".join(lines)


def _in_words(event: Mapping[str, Any]) -> str:
    """Return the event as words, with its fields in them or behind them."""
    name = str(event["event"])
    fields = {
        key: _shown(value)
        for key, value in event.items()
        if key not in _NO_FIELDS and value is not None
    }
    words = WORDS.get(name)
    if words and words.fields <= fields.keys():
        text = words.template.format_map(fields)
        rest = {k: v for k, v in fields.items() if k not in words.fields | words.hidden}
    else:
        text, rest = printable(name.replace("_", " ")), fields
    if not rest:
        return text
    joint = ", " if words else ": "
    return (
        text + joint + ", ".join(f"{printable(k.replace('_', ' '))} {v}" for k, v in rest.items())
    )


def _shown(value: Any) -> str:
    """Return a value as text in one line, which a terminal does not obey."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case Mapping():
            return _joined(f"{_shown(key)}={_shown(item)}" for key, item in value.items())
        case list() | tuple() | set() | frozenset():
            return _joined(map(_shown, value))
    return printable(" ".join(str(value).split("\n")))


def _joined(items: Iterator[str]) -> str:
    shown = list(items)
    rest = len(shown) - MAX_ITEMS
    return ", ".join(shown[:MAX_ITEMS]) + (f" and {rest} more" if rest > 0 else "")


def _label(name: str) -> str:
    return f"{name}: " if name == "fix" else ""


def _wrapped(start: str, text: str, columns: int) -> list[str]:
    """Wrap a text. Words that are too long are left whole: paths and URLs can be copied."""
    return textwrap.wrap(
        text,
        columns,
        initial_indent=start,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [start.rstrip()]
