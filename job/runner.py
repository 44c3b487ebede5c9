"""Runs a script as a job: as `python SCRIPT ARGS` would, but fit to be interrupted."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, TracebackType

import structlog

from keepfit.callbacks import events, session
from keepfit.callbacks.errors import (
    EXIT_PREEMPTED,
    EXIT_REFUSED,
    EXIT_UNSAVED,
    AttemptEnded,
    ConfigurationError,
    Preempted,
)
from keepfit.job import batch_hold
from keepfit.job.notice_settings import NoticeSettings
from keepfit.job.notices import signals
from keepfit.job.notices.deadline import watch_deadline
from keepfit.job.notices.watcher import watch_machine

log = structlog.get_logger("keepfit")


def no_preparation() -> None:
    """The script is there already, and needs no preparation."""


def run_script(
    script: Path,
    args: Sequence[str],
    settings: NoticeSettings,
    prepare: Callable[[], None] = no_preparation,
) -> int:
    """Run `script` with `args` and return the exit code of the process.

    Whatever the script raises is reported as Python would, without a frame of ours.

    Args:
        prepare: called first. It may take its time: signals end it as they end a script.
    """
    with (
        session.open_session() as current,
        signals.trap_signals(current, settings.grace_seconds),
        watch_machine(current, settings, os.environ),
        watch_deadline(current),
    ):
        try:
            code, preempted = _run_to_exit_code(script, args, current, prepare)
            if preempted:
                batch_hold.hold_until_gone(current)
        except Preempted:  # a signal came when the script had ended
            code, preempted = EXIT_PREEMPTED, True
    if preempted:
        return settings.preempted_exit_code
    if code == 0 and current.unsaved:
        return EXIT_UNSAVED
    if code == 0 and not current.used:
        log.warning(
            events.NOT_RESUMABLE,
            script=str(script),
            reason="no fit of this script uses keepfit, so it begins again after an interruption",
            fix="model.fit(…, callbacks=[Resumable([…])]) with `from keepfit import Resumable`",
        )
    return code


def set_deterministic() -> None:
    """Make every operation give the same bits each time; seeds all generators with 0.

    A script that sets a seed of its own overrides this one.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()


def _run_to_exit_code(
    script: Path, args: Sequence[str], current: session.Session, prepare: Callable[[], None]
) -> tuple[int, bool]:
    """The exit code, and whether it is for us to say: the script may use the same number."""
    try:
        prepare()
        _execute(script, args)
    except Preempted as leave:
        source = current.notice.source if current.notice else None
        lost = 0 if leave.saved else current.uncommitted_steps
        log.info(events.PREEMPTED, source=source, step=leave.step, saved=leave.saved, lost=lost)
        return leave.code, True
    except AttemptEnded as leave:
        return leave.code, leave.code == EXIT_PREEMPTED
    except ConfigurationError as error:
        log.error(events.REFUSED, reason=str(error))
        return EXIT_REFUSED, False
    except SystemExit as request:
        return _exit_code(request), False
    except BaseException as error:
        trace = _from_script_on(error.__traceback__, os.path.abspath(script))
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        return 1, False
    return 0, False


def _execute(script: Path, args: Sequence[str]) -> None:
    path = os.path.abspath(script)
    sys.argv[:] = [str(script), *args]
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(script))
    main = ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=__builtins__, __cached__=None)
    sys.modules["__main__"] = main
    with io.open_code(path) as file:
        code = compile(file.read(), path, "exec")
    exec(code, main.__dict__)


def _exit_code(request: SystemExit) -> int:
    """What Python makes of `sys.exit(x)`: a message is printed, and counts as 1."""
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return request.code
    print(request.code, file=sys.stderr)
    return 1


def _from_script_on(trace: TracebackType | None, script: str) -> TracebackType | None:
    while trace and trace.tb_frame.f_code.co_filename != script:
        trace = trace.tb_next
    return trace
