"""How a script has ended, with the exit code that Python would give it."""

from __future__ import annotations

import io
import os
import sys
import traceback
from contextlib import redirect_stderr
from dataclasses import dataclass

from keepfit.callbacks import events
from keepfit.callbacks.errors import EXIT_REFUSED, AttemptEnded, ConfigurationError
from keepfit.callbacks.launch.command import PythonCommand
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.masking import mask_known_of
from keepfit.job.process.program import execute, without_own_frames

log = get_logger()


@dataclass(frozen=True)
class Ending:
    """How a script has ended.

    Attributes:
        code: the exit code.
        preempted: the code means a preemption; the script may exit with the same number itself.
        limited: the code means that a limit of the run is reached.
        detail: one line about an exception that has ended it.
        error: the name of that exception's class.
    """

    code: int
    preempted: bool = False
    detail: str = ""
    error: str = ""
    limited: bool = False


def run_to_end(program: PythonCommand) -> Ending:
    """Run the script and return its end, with the exit code that Python would give it.

    Raises:
        AttemptEnded: keepfit has ended the attempt, and the script has let the exception pass.
    """
    try:
        execute(program)
    except AttemptEnded:
        raise
    except ConfigurationError as error:
        log.error(events.REFUSED, reason=str(error))
        return Ending(EXIT_REFUSED, detail=mask_known_of(os.environ, str(error)))
    except SystemExit as request:
        return Ending(_exit_code(request))
    except BaseException as error:
        trace = without_own_frames(error.__traceback__)
        _report_exception(error.with_traceback(trace))
        line = traceback.format_exception_only(error)[-1]
        detail = mask_known_of(os.environ, line.strip())
        return Ending(1, detail=detail, error=type(error).__name__)
    return Ending(0)


def _exit_code(request: SystemExit) -> int:
    """Return the exit code that Python gives `sys.exit(x)`: 1 for a message, which is printed."""
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return request.code
    print(request.code, file=sys.stderr)
    return 1


def _report_exception(error: BaseException) -> None:
    """Print the traceback as Python would, but without the secrets of URLs.

    The errors of HTTP libraries contain the whole address.
    """
    text = "".join(traceback.format_exception(error))
    if mask_known_of(os.environ, text) == text:
        sys.excepthook(type(error), error, error.__traceback__)
        return
    with redirect_stderr(io.StringIO()) as printed:
        sys.excepthook(type(error), error, error.__traceback__)
    sys.stderr.write(mask_known_of(os.environ, printed.getvalue()))
