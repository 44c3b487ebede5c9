"""Execute a script or a module as `python` would, in this process.

The command line that Python would have for it names the program: `PythonCommand`.
"""

from __future__ import annotations

import importlib.util
import io
import os
import runpy
import stat
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType, TracebackType

from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.launch import process as launch
from keepfit.callbacks.launch.command import PythonCommand, Source

_STREAMS = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/")
"""Names of open files: a later process has others, also where this one can be read again."""

_NOTEBOOK = ".ipynb"


class NoSuchModule(ConfigurationError):
    """There is no module of this name, or Python could not execute it with -m."""


def command_of(target: str, arguments: Sequence[str], *, module: bool = False) -> PythonCommand:
    """Return the command line of Python that starts a script, or a module."""
    source = Source.MODULE if module else Source.SCRIPT
    return PythonCommand(source, target, tuple(arguments))


def check_program(program: PythonCommand) -> None:
    """Check that the program is one that a later attempt can start again.

    A module is looked for when it is executed: Python imports its packages to find it.

    Raises:
        ConfigurationError: it is not; the message says why, and the way out.
    """
    if program.source is Source.SCRIPT:
        _check_script(program.target)


def execute(program: PythonCommand) -> None:
    """Execute the program as module `__main__`, and record it as the launch of this process.

    Raises:
        NoSuchModule: there is no such module.
    """
    if program.source is Source.MODULE:
        _execute_module(program)
    else:
        _execute_script(program)


def without_own_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the first frame of the program on, as Python would print it."""
    while trace and _is_launcher(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def _is_launcher(file: str) -> bool:
    """Return whether the file belongs to keepfit's launch of the program or to Python's import."""
    own = (__file__, str(Path(__file__).with_name("ending.py")), importlib.__file__)
    return file in own or file.startswith("<frozen ")


def _check_script(target: str) -> None:
    again = "a later attempt could not start it again; save it as a file: keepfit run train.py"
    if target == "-" or os.path.abspath(target).startswith(_STREAMS):
        raise ConfigurationError(f"{target!r} is no file: {again}")
    try:
        mode = Path(target).stat().st_mode
    except OSError as error:
        raise ConfigurationError(f"there is no script {target!r}: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise ConfigurationError(
            f"{target!r} is a folder: give a script in it (keepfit run FOLDER/train.py), or the "
            f"name of a package (keepfit run -m PACKAGE)"
        )
    if not stat.S_ISREG(mode):
        raise ConfigurationError(f"{target!r} is no regular file, such as a pipe: {again}")
    if target.endswith(_NOTEBOOK):
        raise ConfigurationError(
            f"{target!r} is a notebook: open it in Jupyter, where `Resumable` makes a fit "
            f"resumable, or convert it: jupyter nbconvert --to script"
        )
    if _is_binary(target):
        raise ConfigurationError(f"{target!r} is no Python source: give the .py file")


def _is_binary(path: str) -> bool:
    """Return whether the file contains zero bytes, which Python refuses in source."""
    try:
        return b"\0" in Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path!r} can't be read: {error.strerror}") from None


def _execute_script(program: PythonCommand) -> None:
    path = os.path.join(os.getcwd(), program.target)  # noqa: PTH109, PTH118 # not normalized, as Python
    sys.argv[:] = [program.target, *program.arguments]
    _set_first_folder(os.path.dirname(os.path.realpath(path)))
    main = _new_main(path)
    main.__dict__.update(__loader__=SourceFileLoader("__main__", path))
    with io.open_code(path) as file:
        content = file.read()
    launch.begin(launch.Launch.of_program(program, Path(program.target), content))
    code = compile(content, path, "exec", dont_inherit=True)
    exec(code, main.__dict__)  # nosec B102 # the script of the user, as Python runs it


def _execute_module(program: PythonCommand) -> None:
    sys.argv[:] = ["-m", *program.arguments]  # while Python looks for the module
    _set_first_folder(str(Path.cwd()))
    spec, code = _find_module(program.target)
    path = spec.origin or ""
    sys.argv[0] = path
    main = _new_main(path)
    main.__dict__.update(
        __cached__=spec.cached, __loader__=spec.loader, __package__=spec.parent, __spec__=spec
    )
    launch.begin(launch.Launch.of_program(program, Path(path)))
    exec(code, main.__dict__)  # nosec B102 # the module of the user, as Python runs it


def _find_module(name: str) -> tuple[ModuleSpec, CodeType]:
    """Return the module, or the `__main__` of the package, that `python -m` would execute.

    Raises:
        NoSuchModule: `python -m` would not find it either.
    """
    find = runpy._get_module_details  # type: ignore[attr-defined] # noqa: SLF001 # as pdb does
    try:
        _, spec, code = find(name, NoSuchModule)
    except NoSuchModule as error:
        raise NoSuchModule(
            f"-m {name}: {error}. It is looked for in the current folder, {str(Path.cwd())!r}, and "
            f"among the installed packages"
        ) from None
    return spec, code


def _set_first_folder(folder: str) -> None:
    """Import from `folder` first, in place of the folder of keepfit's own command."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _new_main(path: str) -> ModuleType:
    """Return a new module `__main__`.

    multiprocessing has its own name for it, by which classes come back from spawned processes.
    """
    main = ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=__builtins__, __cached__=None)
    sys.modules["__main__"] = main
    if "__mp_main__" in sys.modules:
        sys.modules["__mp_main__"] = main
    return main
