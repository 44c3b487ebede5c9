"""Turn every failure of a command into one log line and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from keepfit.callbacks import events
from keepfit.callbacks.errors import EXIT_PREEMPTED, EXIT_REFUSED
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()

USAGE_ERROR = 2


class NoCheckpointYet(Exception):
    """The run has no checkpoint yet."""


def fail(reason: str, code: int = USAGE_ERROR) -> NoReturn:
    """Log why the command failed, and exit."""
    log.error(events.REFUSED, reason=reason)
    raise typer.Exit(code)


@contextmanager
def aws_errors_exit() -> Iterator[None]:
    """Exit with 78 if AWS refuses a request, or with 75 if a retry may help."""
    from keepfit.infra.aws import AwsError, AwsUnreachable

    try:
        yield
    except AwsUnreachable as error:
        fail(str(error), EXIT_PREEMPTED)
    except AwsError as error:
        fail(str(error), EXIT_REFUSED)


@contextmanager
def store_errors_exit() -> Iterator[None]:
    """Exit with 2 for a wrong request, 75 if a retry may help, or 78 for other store errors."""
    from keepfit.callbacks.checkpoint.read.documents import NoUsableCheckpoint
    from keepfit.callbacks.checkpoint.read.inspection import NoSuchRun, RunMoved
    from keepfit.callbacks.errors import ConfigurationError
    from keepfit.callbacks.storage.base import StorageError, Transient

    try:
        yield
    except (NoSuchRun, RunMoved, ConfigurationError, NoCheckpointYet) as error:
        fail(str(error))
    except Transient as error:
        fail(str(error), EXIT_PREEMPTED)
    except (StorageError, NoUsableCheckpoint, OSError) as error:
        fail(str(error), EXIT_REFUSED)
