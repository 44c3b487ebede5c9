"""The files that .dockerignore excludes, by Docker's rules.

A pattern matches the whole path; `**` matches any number of folders; the content of a matching
folder is excluded with it; `!` includes again; the last matching pattern decides.
https://docs.docker.com/build/concepts/context/#dockerignore-files
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_SPECIAL_IN_PYTHON = re.compile(r"[\[&|~]")
"""Characters with a special meaning in a character class of Python but not of Docker."""


class InvalidPattern(ValueError):
    """A line that is not a valid pattern: a character range from high to low."""


@dataclass(frozen=True)
class Pattern:
    """One line of the file.

    Attributes:
        fixed: the start of the pattern, up to the first path component with a wildcard.
    """

    includes: bool
    fixed: str
    regex: re.Pattern[str]


def parse_patterns(lines: Iterable[str]) -> list[Pattern]:
    """Return the patterns of the lines, without comments and blank lines.

    Raises:
        InvalidPattern: a line is not a valid pattern.
    """
    found = []
    for line in lines:
        text = line.strip()
        if not text or line.startswith("#"):
            continue
        includes, text = text.startswith("!"), text.removeprefix("!").strip()
        clean = posixpath.normpath(text).lstrip("/") if text else "."
        if clean == ".":  # ignored, as Docker does for historical reasons
            continue
        try:
            regex = re.compile(_regex(clean), re.DOTALL)
        except re.error as error:
            raise InvalidPattern(f"{line!r} is not a valid pattern: {error}") from error
        found.append(Pattern(includes, _fixed(clean), regex))
    return found


def is_excluded(name: str, patterns: Iterable[Pattern]) -> bool:
    """Return whether the relative path, with `/` as separator, is excluded."""
    parts = name.split("/")
    paths = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    excluded = False
    for pattern in patterns:
        if pattern.includes == excluded and any(map(pattern.regex.fullmatch, paths)):
            excluded = not pattern.includes
    return excluded


def walk(folder: Path, patterns: list[Pattern]) -> Iterator[str]:
    """Yield the paths of the files in `folder` that are not excluded, in order, without folders."""

    def within(prefix: str) -> Iterator[str]:
        for entry in sorted(os.scandir(folder / prefix), key=lambda entry: entry.name):
            name = f"{prefix}{entry.name}"
            excluded = is_excluded(name, patterns)
            if entry.is_dir(follow_symlinks=False):
                if not excluded or _may_include_below(name, patterns):
                    yield from within(f"{name}/")
            elif not excluded:
                yield name

    return within("")


def _may_include_below(folder: str, patterns: Iterable[Pattern]) -> bool:
    return any(
        f"{p.fixed}/".startswith(f"{folder}/") or f"{folder}/".startswith(f"{p.fixed}/".lstrip("/"))
        for p in patterns
        if p.includes
    )


def _fixed(pattern: str) -> str:
    parts = pattern.split("/")
    wild = next((n for n, part in enumerate(parts) if re.search(r"[*?\[\\]", part)), len(parts))
    return "/".join(parts[:wild])


def _regex(pattern: str) -> str:
    """Translate a pattern as Docker does: `[…]` is a character class, a backslash escapes."""
    found = ""
    tokens = re.compile(r"\*\*/|\*\*|\*|\?|\\.|\[\^?[^\]]+\]|.", re.DOTALL)
    for match in tokens.finditer(pattern):
        match token := match[0]:
            case "**" if match.end() == len(pattern):
                found += ".*"
            case "**" | "**/":
                found += "(?:.*/)?"
            case "*":
                found += "[^/]*"
            case "?":
                found += "[^/]"
            case _ if token.startswith("[") and len(token) > 1:
                found += "[" + _SPECIAL_IN_PYTHON.sub(r"\\\g<0>", token[1:])
            case _:
                found += re.escape(token[-1])
    return found
