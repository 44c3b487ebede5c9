"""One line, and an exit code, for whatever can go wrong with a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import structlog
import typer

from keepfit.callbacks import events
from keepfit.callbacks.errors import EXIT_PREEMPTED, EXIT_REFUSED

log = structlog.get_logger("keepfit")

USAGE_ERROR = 2


def fail(reason: str, code: int = USAGE_ERROR) -> NoReturn:
    """Log why the command can't be done, and end it."""
    log.error(events.REFUSED, reason=reason)
    raise typer.Exit(code)


@contextmanager
def aws_errors_exit() -> Iterator[None]:
    """What AWS refuses: 78, or 75 where asking again may help."""
    from keepfit.infra.aws import AwsError, AwsUnreachable

    try:
        yield
    except AwsUnreachable as error:
        fail(str(error), EXIT_PREEMPTED)
    except AwsError as error:
        fail(str(error), EXIT_REFUSED)


@contextmanager
def store_errors_exit() -> Iterator[None]:
    """What a store refuses, or does not hold: 2 for what was asked wrongly, otherwise the same."""
    from keepfit.callbacks.checkpoint.inspection import NoSuchRun, RunMoved
    from keepfit.callbacks.checkpoint.reader import NoUsableCheckpoint
    from keepfit.callbacks.errors import ConfigurationError
    from keepfit.callbacks.storage.base import StorageError, Transient
    from keepfit.job.commands.model_export import NoCheckpointYet

    try:
        yield
    except (NoSuchRun, RunMoved, ConfigurationError, NoCheckpointYet) as error:
        fail(str(error))
    except Transient as error:
        fail(str(error), EXIT_PREEMPTED)
    except (StorageError, NoUsableCheckpoint, OSError) as error:
        fail(str(error), EXIT_REFUSED)
