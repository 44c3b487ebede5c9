"""One attempt of a drill: `python -m keepfit.job.drill.child.entry INSTRUCTIONS`."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType

from keepfit.callbacks.environment import is_supported
from keepfit.callbacks.keras.import_hooks import changed_when_imported
from keepfit.callbacks.keras.progress_bars import lines_for_bars
from keepfit.job import log_output
from keepfit.job.drill.child.interruption import Interruption
from keepfit.job.drill.instructions import Instructions, Program
from keepfit.job.drill.traces import TraceWriter
from keepfit.job.process.program import command_of, execute


def main() -> None:
    """Run the script as the instructions say, and exit with its exit code."""
    instructions = Instructions.read(Path(sys.argv[1]))
    os.chdir(instructions.work)  # not before: its modules may have the names of keepfit's imports
    trace = TraceWriter(instructions.trace)
    interruption = Interruption(instructions.moment, trace)

    def observed(_: ModuleType) -> AbstractContextManager[None]:
        if not is_supported():
            return nullcontext()  # keepfit refuses it itself
        from keepfit.callbacks.training.internals import KerasCalls
        from keepfit.job.drill.child.observer import Observer

        return KerasCalls.announced_to(Observer(instructions, trace, interruption))

    interruption.watch_saves()
    with changed_when_imported("keras", observed):
        if instructions.kept:
            from keepfit.job import cli

            sys.argv[:] = ["keepfit", *instructions.program.as_command()]
            cli.main()
        else:
            run_plain(instructions.program)


def run_plain(program: Program) -> None:
    """Run the script without keepfit."""
    log_output.configure("run")  # the drill reads it
    if program.deterministic:
        from keepfit.job.runner import set_deterministic

        set_deterministic()
    with lines_for_bars():  # as `keepfit run` does, whose output is compared
        execute(command_of(program.target, program.arguments, module=program.is_module))


if __name__ == "__main__":
    main()
