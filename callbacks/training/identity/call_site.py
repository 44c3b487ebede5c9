"""The place in the script from which `fit` was called."""

from __future__ import annotations

import dis
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FrameType

from keepfit.callbacks.training import internals


@dataclass(frozen=True)
class CallSite:
    """The place of a call of `fit`.

    Attributes:
        name: module, function, and number of the call in the function. It stays the same when other
            lines of the script change.
        in_library: the caller is installed in the Python environment: it is not the user's own.
    """

    name: str
    in_library: bool

    @classmethod
    def current(cls) -> CallSite:
        """Return the place from which the calling `fit` was called.

        Raises:
            LookupError: no `fit` is on the call stack.
        """
        frame = internals.caller_of_fit()
        code = frame.f_code
        module = frame.f_globals.get("__name__", "?")
        number = _number_of_call(code, frame.f_lasti)
        name = f"{module}:{code.co_qualname}#{number}"
        return cls(name[:MAX_NAME], _in_library(frame))


MAX_NAME = 1000
"""Longest name of a call site that is stored; only generated code has longer ones."""


def _number_of_call(code: CodeType, offset: int) -> int:
    """Return how many `.fit` attributes the function reads before the instruction at `offset`."""
    return sum(
        instruction.offset < offset and instruction.argval == "fit" and "ATTR" in opname
        for instruction in dis.get_instructions(code)
        if (opname := instruction.opname.replace("METHOD", "ATTR"))
    )


def _in_library(frame: FrameType) -> bool:
    path = Path(frame.f_code.co_filename)
    return any(path.is_relative_to(folder) for folder in _library_folders())


@cache
def _library_folders() -> tuple[Path, ...]:
    names = ("stdlib", "purelib", "platlib")
    found = {Path(sysconfig.get_path(name)) for name in names}
    return tuple(found | {Path(sys.base_prefix) / "lib"})
