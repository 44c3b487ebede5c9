"""Paths of callbacks' files across attempts: scripts put the time of their start into them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from string import Formatter

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()

_DIGITS = re.compile(r"\d+")

_FIELD = "[^/]+"
"""Pattern of a `{field}`'s value: within one path component, so no template leaves its folder."""


def differ_only_in_numbers(stored: str, named: str) -> bool:
    """Return whether two paths differ in numbers at most, as in `logs/20260101-1200`.

    A path from a store that contains `..` has to contain it where the script does: through a link,
    `a/../b` is another file than `b`.

    Args:
        stored: a path from a store.
        named: the path that the script names.
    """
    if ".." not in Path(stored).parts:
        stored, named = os.path.normpath(stored), os.path.normpath(named)
    return _DIGITS.sub("0", stored) == _DIGITS.sub("0", named)


def resolve_first_path(path: str, saved: str) -> str:
    """Return the path to continue with: the run's first one, unless the script means another.

    Args:
        path: the path that the script names in this attempt.
        saved: the path that the run started with, from the checkpoint.
    """
    if path == saved or not differ_only_in_numbers(saved, path):
        return path
    log.info(events.PATH_KEPT, path=saved, instead_of=path)
    return saved


def matches_template(template: str, path: str) -> bool:
    """Return whether `path` is `template` with `{fields}` filled in; other numbers may differ."""
    return _matches(template, path, lambda text: _DIGITS.sub(r"\\d+", re.escape(text)))


def fills_template(template: str, path: str) -> bool:
    """Return whether `path` is `template` with `{fields}` filled in, and nothing else changed."""
    return _matches(template, path, re.escape)


def fixed_folder(template: str) -> Path:
    """Return the folder of all paths made from `template`: its part before the first field."""
    return Path(template.partition("{")[0] + "_").parent


def _matches(template: str, path: str, as_pattern: Callable[[str], str]) -> bool:
    pattern = ""
    for text, field, *_ in Formatter().parse(template):
        pattern += as_pattern(text) + (_FIELD if field is not None else "")
    if re.fullmatch(pattern, path, re.DOTALL) is None:
        return False
    both = zip(template.split("/"), path.split("/"), strict=True)
    return all(part == own for own, part in both if part in (".", ".."))
