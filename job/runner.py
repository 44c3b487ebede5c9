"""Run a script as a job: as `python SCRIPT ARGS` would, but resumable after interruptions."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, TracebackType

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.engine import session
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
    """Do nothing: the script is available already."""


def run_script(
    script: Path,
    args: Sequence[str],
    settings: NoticeSettings,
    prepare: Callable[[], None] = no_preparation,
) -> int:
    """Run `script` with `args` and return the exit code of the process.

    An exception of the script is reported as Python would report it, without keepfit's frames.

    Args:
        prepare: called before the script. It may take long: signals end it as they end a script.
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
        except Preempted:  # a signal arrived after the script had ended
            code, preempted = EXIT_PREEMPTED, True
    if preempted:
        return settings.preempted_exit_code
    if code == 0 and current.unsaved:
        return EXIT_UNSAVED
    if code == 0 and not current.used:
        log.warning(
            events.NOT_RESUMABLE,
            script=str(script),
            reason="no fit of this script uses keepfit, so it starts over after an interruption",
            fix="use model.fit(…, callbacks=[Resumable([…])]) with `from keepfit import Resumable`",
        )
    return code


def set_deterministic() -> None:
    """Make every operation return the same bits each time, and seed all generators with 0.

    A seed that the script sets itself overrides this one.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()


def _run_to_exit_code(
    script: Path, args: Sequence[str], current: session.Session, prepare: Callable[[], None]
) -> tuple[int, bool]:
    """Return the exit code, and True if it means a preemption.

    The code alone is ambiguous: the script may exit with the same number.
    """
    try:
        prepare()
        _execute(script, args)
    except Preempted as end:
        source = current.notice.source if current.notice else None
        lost = 0 if end.saved else current.uncommitted_steps
        log.info(events.PREEMPTED, source=source, step=end.step, saved=end.saved, lost=lost)
        return end.code, True
    except AttemptEnded as end:
        return end.code, end.code == EXIT_PREEMPTED
    except ConfigurationError as error:
        log.error(events.REFUSED, reason=str(error))
        return EXIT_REFUSED, False
    except SystemExit as request:
        return _exit_code(request), False
    except BaseException as error:
        trace = _traceback_from_script(error.__traceback__, os.path.abspath(script))
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
    """Return the exit code that Python gives `sys.exit(x)`: 1 for a message, which is printed."""
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return request.code
    print(request.code, file=sys.stderr)
    return 1


def _traceback_from_script(trace: TracebackType | None, script: str) -> TracebackType | None:
    while trace and trace.tb_frame.f_code.co_filename != script:
        trace = trace.tb_next
    return trace
