"""One attempt of a drill: `python -m keepfit.job.drill.child.entry INSTRUCTIONS`."""

from __future__ import annotations

import os
import runpy
import sys
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import wrapt

from keepfit.callbacks.environment import is_supported
from keepfit.callbacks.keras.progress_bars import lines_for_bars
from keepfit.callbacks.launch import process as launch
from keepfit.callbacks.launch.names import run_name_of, valid_name
from keepfit.job import log_output
from keepfit.job.drill.child.interruption import Interruption
from keepfit.job.drill.instructions import Instructions, Program
from keepfit.job.drill.traces import TraceWriter


def main() -> None:
    """Run the script as the instructions say, and exit with its exit code."""
    instructions = Instructions.read(Path(sys.argv[1]))
    os.chdir(instructions.work)  # not before: its modules may have the names of keepfit's imports
    trace = TraceWriter(instructions.trace)
    interruption = Interruption(instructions.moment, trace)
    with ExitStack() as stack:

        def observe(_: ModuleType) -> None:
            # The script may set variables first that Keras and TensorFlow read on import.
            if not is_supported():
                return  # keepfit refuses it itself
            from keepfit.callbacks.training.internals import KerasCalls
            from keepfit.job.drill.child.observer import Observer

            observer = Observer(instructions, trace, interruption)
            stack.enter_context(KerasCalls.announced_to(observer))

        wrapt.register_post_import_hook(observe, "keras")
        interruption.watch_saves()
        if instructions.kept:
            from keepfit.job import cli

            sys.argv[:] = ["keepfit", *instructions.program.as_command()]
            cli.main()
        else:
            run_plain(instructions.program)


def run_plain(program: Program) -> None:
    """Run the script as Python itself does."""
    log_output.configure("run")  # the drill reads it
    sys.argv[:] = [program.target, *program.arguments]
    if program.is_module:
        sys.path[0] = str(Path.cwd())
        name = valid_name(program.target)
    else:
        sys.path[0] = os.path.dirname(os.path.realpath(program.target))
        name = run_name_of(program.target)
    launch.begin(launch.Launch(name, arguments=program.arguments))
    if program.deterministic:
        from keepfit.job.runner import set_deterministic

        set_deterministic()
    with lines_for_bars():  # as `keepfit run` does, whose output is compared
        if program.is_module:
            runpy.run_module(program.target, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(program.target, run_name="__main__")


if __name__ == "__main__":
    main()
