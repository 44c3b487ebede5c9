"""The folders of a drill: each run gets a copy of the project, and a store of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LEFT_OUT: Final = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".venv",
        "venv",
        "node_modules",
        "__pycache__",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".tox",
        ".nox",
        ".ipynb_checkpoints",
        ".DS_Store",
    }
)
"""Names that no copy contains, at any depth."""

LEFT_OUT_AT_TOP: Final = frozenset({"runs"})
"""The folder of keepfit's default store."""

MAX_COPY: Final = 2**30
"""Bytes that a copy may have: a drill makes up to eleven, though seldom at once."""

FROM_SCHEDULERS: Final = ("KEEPFIT_", "AWS_BATCH_")
"""Prefixes of the variables that concern the run of another process."""


class TooLarge(Exception):
    """The project is too large to be copied for each run; the message names what is largest."""


class NotBelow(ValueError):
    """A path is not below the folder of the project."""


@dataclass(frozen=True)
class Stamp:
    """Tells whether a file was written to since it was copied."""

    size: int
    changed: int


@dataclass(frozen=True)
class Project:
    """The folder with the script.

    Attributes:
        folder: the working directory of the command.
        linked: paths relative to it that are only read, so that a copy has a link to them.
    """

    folder: Path
    linked: tuple[str, ...] = ()

    def relative(self, path: Path) -> str:
        """Return a path relative to the folder.

        Raises:
            NotBelow: it is elsewhere, so that no copy would contain it.
        """
        own = self.folder.resolve()
        absolute = Path(os.path.abspath(self.folder / path))
        for base in (self.folder, own):
            if absolute.is_relative_to(base) and absolute != base:
                return str(absolute.relative_to(base))
        raise NotBelow(str(path))

    def files(self) -> Iterator[Path]:
        """Yield the files to copy, relative to the folder; links are files."""
        for root, folders, names in os.walk(self.folder):
            here = Path(root)
            below = here.relative_to(self.folder)
            entries = {name: below / name for name in (*folders, *names)}
            kept = {name: path for name, path in entries.items() if self._is_copied(path)}
            folders[:] = [
                name
                for name in folders
                if name in kept
                and not (here / name).is_symlink()
                and not (here / name / "pyvenv.cfg").exists()
            ]
            yield from (
                path
                for name, path in kept.items()
                if name not in folders and ((here / name).is_symlink() or (here / name).is_file())
            )

    def check_size(self, limit: int = MAX_COPY) -> None:
        """Check that copies of the project are of a reasonable size.

        Raises:
            TooLarge: they are not; the message names the largest part.
        """
        sizes: dict[str, int] = {}
        for path in self.files():
            top = path.parts[0]
            sizes[top] = sizes.get(top, 0) + os.lstat(self.folder / path).st_size
        total = sum(sizes.values())
        if total > limit:
            largest = max(sizes, key=lambda name: sizes[name])
            raise TooLarge(
                f"the folder {str(self.folder)!r} has {total / 2**30:.1f} GiB to copy for each "
                f"run; {largest!r} is the largest part. If it is only read: --link {largest}"
            )

    def copy_to(self, target: Path) -> dict[str, Stamp]:
        """Copy the project; return a stamp of each file, to find those that a run has changed."""
        stamps: dict[str, Stamp] = {}
        target.mkdir(parents=True)
        for path in self.files():
            source, copy = self.folder / path, target / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_symlink():
                copy.symlink_to(source.parent / source.readlink())
                continue
            shutil.copy2(source, copy)
            stamps[str(path)] = stamp_of(copy)
        for name in self.linked:
            link = target / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to((self.folder / name).resolve())
        return stamps

    def _is_copied(self, path: Path) -> bool:
        if str(path) in self.linked or path.name in LEFT_OUT or path.name.endswith(".egg-info"):
            return False
        return not (len(path.parts) == 1 and path.name in LEFT_OUT_AT_TOP)


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file."""
    status = path.stat()
    return Stamp(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    All runs have the same path while they are under way: what a script writes may contain it.
    """

    path: Path
    project: str

    @property
    def work(self) -> Path:
        """The copy of the project, in which the script runs."""
        return self.path / self.project

    @property
    def temporary(self) -> Path:
        """The folder for temporary files."""
        return self.path / "tmp"

    @property
    def store(self) -> str:
        """The URI of the store."""
        return f"file://{self.path / 'store'}"

    def of_attempt(self, name: str, attempt: int) -> Path:
        """Return the path of a file of an attempt, which is numbered from 1."""
        return self.path / f"attempt-{attempt}.{name}"

    def environment(self, present: Mapping[str, str], project: Path) -> dict[str, str]:
        """Return the variables of an attempt: those of this process but the ones of its run.

        Modules are imported from the copy of the project. A relative path of PYTHONPATH is one of
        the working directory, which an attempt enters later.
        """
        kept = {
            name: value for name, value in present.items() if not name.startswith(FROM_SCHEDULERS)
        }
        if modules := kept.get("PYTHONPATH"):
            paths = (self._in_copy(path, project) for path in modules.split(os.pathsep))
            kept["PYTHONPATH"] = os.pathsep.join(paths)
        return {
            "TF_CPP_MIN_LOG_LEVEL": "1",
            **kept,
            "KEEPFIT_STORE": self.store,
            "AWS_EC2_METADATA_DISABLED": "true",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(self.temporary),
        }

    def _in_copy(self, path: str, project: Path) -> str:
        absolute = Path(os.path.normpath(project / path))
        if absolute.is_relative_to(project):
            return str(self.work / absolute.relative_to(project))
        return str(absolute)


def prepare(base: Path, project: Project) -> tuple[RunFolder, dict[str, Stamp]]:
    """Create the folder of the next run; return it with a stamp of each copied file."""
    folder = RunFolder(base / "run", project.folder.name or "project")
    folder.temporary.mkdir(parents=True)
    return folder, project.copy_to(folder.work)


def linked_paths(project: Project, paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the paths to link, relative to the project.

    Raises:
        NotBelow: one of them is elsewhere.
    """
    return tuple(project.relative(path) for path in paths)
