"""The file that names a job's requirements: requirements.txt, or a pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from keepfit.job.requirements.target import MARKERS

REQUIREMENTS: Final = "requirements.txt"
PROJECT: Final = "pyproject.toml"
MAX_BYTES: Final = 4 << 20

_HASH = re.compile(r"\s--hash[=\s]\S+")
_COMMENT = re.compile(r"(^|\s)#.*$")


class RequirementsError(Exception):
    """The requirements can't be resolved; the message is one line with the cause and the fix."""


class IndexUnreachable(RequirementsError):
    """The package index did not answer; a retry may help."""


@dataclass(frozen=True)
class Source:
    """The requirements of a file.

    Attributes:
        path: the file.
        lines: its logical lines, without comments.
        hashed: whether the file gives the hash of each file, and so names all dependencies.
    """

    path: Path
    lines: tuple[str, ...]

    @property
    def hashed(self) -> bool:
        """Return whether lines have hashes."""
        return any(map(_HASH.search, self.lines))

    def named(self) -> list[Requirement]:
        """Return the requirements that apply to the image; options and paths are pip's matter."""
        found = [requirement_of(line) for line in self.lines]
        return [r for r in found if r and (r.marker is None or r.marker.evaluate(dict(MARKERS)))]

    def without(self, packages: Mapping[str, str]) -> str:
        """Return the text without the lines that name one of the packages."""
        kept = [
            line
            for line in self.lines
            if not (found := requirement_of(line)) or canonicalize_name(found.name) not in packages
        ]
        return "\n".join(kept)


def requirement_of(line: str) -> Requirement | None:
    """Return the requirement that a line names; None for an option, a path or a URL."""
    try:
        return Requirement(_HASH.sub("", line).strip())
    except InvalidRequirement:
        return None


def find_source(folder: Path) -> Path | None:
    """Return the file of a folder that names requirements, or None.

    A requirements.txt is preferred: a pyproject.toml beside it describes a package.
    """
    own, project = folder / REQUIREMENTS, folder / PROJECT
    if own.is_file():
        return own
    if project.is_file() and _project_dependencies(project):
        return project
    return None


def read_source(path: Path) -> Source:
    """Return the requirements of a file.

    Raises:
        RequirementsError: the file can't be read.
    """
    if path.name.endswith(".toml"):
        return Source(path, _project_dependencies(path))
    text = re.sub(r"\\\r?\n", " ", _read(path))
    lines = (_COMMENT.sub("", line).strip() for line in text.splitlines())
    return Source(path, tuple(filter(None, lines)))


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RequirementsError(f"{path} has more than {MAX_BYTES >> 20} MiB")
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequirementsError(f"the requirements {path} can't be read: {error}") from error


def _project_dependencies(path: Path) -> tuple[str, ...]:
    """Return `dependencies` of the table [project]; an absent one is empty."""
    try:
        project = tomllib.loads(_read(path)).get("project", {})
    except tomllib.TOMLDecodeError as error:
        raise RequirementsError(f"{path} is not valid TOML: {error}") from error
    found = project.get("dependencies", []) if isinstance(project, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise RequirementsError(f"{path}: dependencies of [project] must be a list of strings")
    return tuple(found)
