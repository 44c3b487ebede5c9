"""The lines that users read: the time, the event in plain words, and the fields that matter."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from keepfit.callbacks.logs.display import Display
from keepfit.callbacks.logs.printable import printable
from keepfit.callbacks.logs.words import WORDS

MAX_ITEMS: Final = 6
"""So many items of a list are shown; the rest is counted."""

_INDENT: Final = "    "
_NO_FIELDS: Final = frozenset({"event", "level", "timestamp", "exception"})
_COLORS: Final = {"warning": "\x1b[33m", "error": "\x1b[1;31m", "critical": "\x1b[1;31m"}
_DIM: Final = "\x1b[2m"
_NORMAL: Final = "\x1b[0m"


def lines_for_users(event: Mapping[str, Any], display: Display, moment: datetime) -> str:
    """Return the text of an event, without a newline at its end.

    On a terminal, lines are wrapped, and the reason and the fix have lines of their own.
    Elsewhere, an event is one line, so that `grep` shows all of it.
    """
    level = str(event.get("level", "info"))
    time = f"{moment:%H:%M:%S}" if display.is_terminal else f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    start, mark = f"{time} keepfit: ", f"{level}: " if level in _COLORS else ""
    text, reason, fix = _in_words(event)
    if display.columns is None:
        lines = [f"{start}{mark}{': '.join([text, *reason])}{'; '.join(['', *fix])}"]
    else:
        lines = _wrapped(f"{start}{mark}", text, display.columns)
        for detail in (*reason, *fix):
            lines += _wrapped(_INDENT, detail, display.columns)
    if display.has_colors:
        shown_mark = f"{_COLORS[level]}{mark}{_NORMAL}" if mark else ""
        lines[0] = f"{_DIM}{start}{_NORMAL}{shown_mark}{lines[0][len(start + mark) :]}"
    if exception := event.get("exception"):
        lines += (f"{_INDENT}{printable(line)}" for line in str(exception).splitlines())
    return "\n".join(lines)


def _in_words(event: Mapping[str, Any]) -> tuple[str, list[str], list[str]]:
    """Return the event with its fields, in words; its reason and its fix, if it has them."""
    name = str(event["event"])
    fields = {k: _shown(v) for k, v in event.items() if k not in _NO_FIELDS and v is not None}
    words = next((found for found in WORDS.get(name, ()) if found.fields <= fields.keys()), None)
    if words:
        text, used = words.template.format_map(fields), words.fields | words.hidden
    else:
        text, used = printable(name.replace("_", " ")), frozenset[str]()
    others = [
        f"{value} s" if key == "seconds" else f"{printable(key.replace('_', ' '))} {value}"
        for key, value in fields.items()
        if key not in {"reason", "fix", *used}
    ]
    if others:
        text = f"{text}{', ' if used else ': '}{', '.join(others)}"
    reason = [fields["reason"]] if "reason" in fields.keys() - used else []
    fix = [f"fix: {fields['fix']}"] if "fix" in fields.keys() - used else []
    return text, reason, fix


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


def _joined(items: Iterable[str]) -> str:
    shown = list(items)
    rest = len(shown) - MAX_ITEMS
    return ", ".join(shown[:MAX_ITEMS]) + (f" and {rest} more" if rest > 0 else "")


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
