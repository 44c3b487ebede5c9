"""How this process was launched, decided once: before the script can change what tells it."""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.launch import notebook
from keepfit.callbacks.launch.command import PythonCommand, Source, parse_command
from keepfit.callbacks.launch.names import run_name_of, valid_name


class NoRunName(ConfigurationError):
    """This process has no name that could be a run's; the message asks for one."""


@dataclass(frozen=True)
class Launch:
    """The script of a process and its arguments.

    Attributes:
        name: the default name of a run; None if there is none.
        reason: why there is no name.
        script: the script's file; None if there is none, as for a notebook.
        arguments: the arguments of the script.
        digest: SHA-256 of the script's file, hexadecimal; None if it is not known.
    """

    name: str | None
    reason: str = ""
    script: Path | None = None
    arguments: tuple[str, ...] = ()
    digest: str | None = None

    @classmethod
    def of_program(
        cls, program: PythonCommand, file: Path | None = None, content: bytes | None = None
    ) -> Launch:
        """Return the launch of a script or module by `keepfit run`.

        Args:
            program: what Python's command line would be for it.
            file: the script's or module's file, once it is found.
            content: what is executed of the file. Default: what it contains now.
        """
        name = _name_of(program, program.target)
        if file is None:
            return cls(name, arguments=program.arguments)
        digest = digest_of(file) if content is None else hashlib.sha256(content).hexdigest()
        return cls(name, script=file, arguments=program.arguments, digest=digest)

    def run_name(self) -> str:
        """Return the default name of a run.

        Raises:
            NoRunName: there is none.
        """
        if self.name is None:
            raise NoRunName(
                f"the run has no name: {self.reason}. Give it one: Resumable(run='NAME'), or "
                f"KEEPFIT_RUN=NAME in the environment"
            )
        return self.name


_current: Launch | None = None


def current() -> Launch:
    """Return the launch of this process."""
    global _current  # it belongs to the process, as its command line does
    if _current is None:
        found = find_launch(sys.orig_argv, sys.modules["__main__"])
        if found.name is None:
            return found  # the name of a notebook may be set later
        _current = found
    return _current


def default_run_name() -> str:
    """Return the default run name of this process.

    Raises:
        NoRunName: there is none.
    """
    return current().run_name()


def begin(launch: Launch) -> None:
    """Set the launch of this process, of which the runner knows more than Python's command line."""
    global _current  # as above
    _current = launch


def find_launch(command: Sequence[str], main: ModuleType) -> Launch:
    """Return the launch of a process that Python itself has started.

    Args:
        command: its command line, as Python has received it. Scripts change sys.argv.
        main: its module `__main__`.
    """
    parsed = parse_command(command)
    file = getattr(main, "__file__", None)
    if parsed.source is Source.COMMAND:
        spawned = "--multiprocessing-fork" in command
        return _nameless("a worker of multiprocessing" if spawned else "python -c", "is no script")
    if parsed.source is Source.INPUT:
        return _nameless("Python", "reads its code from standard input or a terminal")
    if not isinstance(file, str) or not _runs(parsed, main, file) or is_installed(file):
        return _of_launcher(parsed)
    source = _source_file(file)
    return Launch(
        _name_of(parsed, file),
        script=source,
        arguments=parsed.arguments,
        digest=digest_of(source) if source else None,
    )


def digest_of(script: Path) -> str | None:
    """Return the SHA-256 of a script's file, hexadecimal; None if it can't be read."""
    try:
        return hashlib.sha256(script.read_bytes()).hexdigest()
    except OSError:
        return None


def _of_launcher(command: PythonCommand) -> Launch:
    """Return the launch of a notebook's kernel, or of what runs other files or tests."""
    shell = notebook.kernel_shell()
    if shell is None:
        return _nameless(
            Path(command.target).name, "has started this process, and may start any script"
        )
    environment = notebook.environment_of_parent()
    path = notebook.notebook_path(shell.user_ns, os.environ, environment)
    if path is None:
        return _nameless("the notebook server", "does not tell the name of this notebook")
    return Launch(run_name_of(path))


def _nameless(starter: str, verb: str) -> Launch:
    return Launch(None, f"{starter} {verb}")


def _runs(command: PythonCommand, main: ModuleType, file: str) -> bool:
    """Return whether `main` is what the command names: debuggers and profilers run another file."""
    if command.source is Source.MODULE:
        spec = getattr(main, "__spec__", None)
        return spec is not None and spec.name in (command.target, f"{command.target}.__main__")
    # The script may have changed the working directory, so a relative path is only compared with
    # the end of the other.
    wanted = [part for part in _normal(command.target).parts if part != ".."]
    found = _own_path(command.target, file).parts
    return found[len(found) - len(wanted) :] == tuple(wanted)


def _normal(path: str) -> Path:
    return Path(os.path.normpath(path))


def _own_path(target: str, file: str) -> Path:
    """Return the path of the script; for `python FOLDER` and `python ZIP_FILE`, of these."""
    path = _normal(file)
    return path.parent if path.name == "__main__.py" != Path(target).name else path


def _name_of(command: PythonCommand, file: str) -> str:
    if command.source is Source.MODULE:
        return valid_name(command.target)
    own = _own_path(command.target, file)
    return valid_name(own.name) if own.is_dir() else run_name_of(str(own))


def _source_file(file: str) -> Path | None:
    """Return the file that contains the main module: itself, or a zip file."""
    return next((path for path in (Path(file), Path(file).parent) if path.is_file()), None)


def is_installed(file: str) -> bool:
    """Return whether a file belongs to Python or to an installed package: it runs any script."""
    path = _normal(file)
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    return any(path.is_relative_to(folder) for folder in _installed_folders())


@cache
def _installed_folders() -> tuple[str, ...]:
    names = ("stdlib", "platstdlib", "scripts")
    folders = [sysconfig.get_path(name) for name in names]
    folders += [f"{prefix}/bin" for prefix in (sys.prefix, sys.base_prefix)]
    return (*folders, sysconfig.get_path("scripts", f"{os.name}_user"))
