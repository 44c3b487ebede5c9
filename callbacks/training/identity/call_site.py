"""The place in the script from which `fit` was called."""

from __future__ import annotations

import dis
from dataclasses import dataclass
from types import CodeType

from keepfit.callbacks.launch.process import is_installed
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
        return cls(name[:MAX_NAME], is_installed(code.co_filename))


MAX_NAME = 1000
"""Longest name of a call site that is stored; only generated code has longer ones."""


def _number_of_call(code: CodeType, offset: int) -> int:
    """Return how many `.fit` attributes the function reads before the instruction at `offset`."""
    return sum(
        instruction.offset < offset and instruction.argval == "fit" and "ATTR" in opname
        for instruction in dis.get_instructions(code)
        if (opname := instruction.opname.replace("METHOD", "ATTR"))
    )
