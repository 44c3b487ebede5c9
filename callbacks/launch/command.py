"""The command line of Python: which script or module it runs, and with which arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

_VALUE_MAY_FOLLOW = "WX"
_LONG_WITH_VALUE = "--check-hash-based-pycs"


class Source(Enum):
    """The source of the code that Python runs."""

    SCRIPT = auto()  # a file, a folder or a zip file
    MODULE = auto()
    COMMAND = auto()
    INPUT = auto()  # standard input, or a terminal


@dataclass(frozen=True)
class PythonCommand:
    """A parsed command line of Python.

    Attributes:
        source: the source of the code.
        target: the script or module as it was given; empty for other sources.
        arguments: the arguments after it.
    """

    source: Source
    target: str = ""
    arguments: tuple[str, ...] = ()


def parse_command(command: Sequence[str]) -> PythonCommand:
    """Parse a command line as `python` itself does; `command` is like sys.orig_argv."""
    rest = list(command[1:])
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        option = rest.pop(0)
        if option == _LONG_WITH_VALUE:
            del rest[:1]
        if option.startswith("--"):
            continue
        for at, letter in enumerate(option[1:], start=2):
            value = option[at:]
            if letter == "c":
                return PythonCommand(Source.COMMAND)
            if letter == "m":
                target = value or (rest.pop(0) if rest else "")
                return PythonCommand(Source.MODULE, target, tuple(rest))
            if letter in _VALUE_MAY_FOLLOW:
                if not value:
                    del rest[:1]
                break
    if rest[:1] == ["--"]:
        del rest[0]
    if not rest or rest[0] == "-":
        return PythonCommand(Source.INPUT)
    return PythonCommand(Source.SCRIPT, rest[0], tuple(rest[1:]))
