"""Paths of callbacks' files over attempts: scripts put the time of their start into them."""

from __future__ import annotations

import os
import re
from string import Formatter

import structlog

from keepfit.callbacks import events

log = structlog.get_logger("keepfit")

_DIGITS = re.compile(r"\d+")


def differ_only_in_numbers(path: str, other: str) -> bool:
    """Whether they are the same but for numbers, as `logs/20260101-1200` and the next attempt's."""
    return _DIGITS.sub("0", os.path.normpath(path)) == _DIGITS.sub("0", os.path.normpath(other))


def resolve_first_path(path: str, saved: str) -> str:
    """The path to go on with: the one that the run began with, unless the script means another."""
    if path == saved or not differ_only_in_numbers(path, saved):
        return path
    log.info(events.PATH_KEPT, path=saved, instead_of=path)
    return saved


def matches_template(template: str, path: str) -> bool:
    """Whether `path` is the template with its `{fields}` filled, or alike."""
    pattern = ""
    for text, field, *_ in Formatter().parse(template):
        pattern += _DIGITS.sub(r"\\d+", re.escape(text)) + (".+" if field is not None else "")
    return re.fullmatch(pattern, path, re.DOTALL) is not None
