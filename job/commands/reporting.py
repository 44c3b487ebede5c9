"""One line, and an exit code, for whatever can go wrong with a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import structlog
import typer

from callbacks import events
from callbacks.errors import EXIT_MISFIT, EXIT_PREEMPTED

log = structlog.get_logger("keepfit")

USAGE_ERROR = 2


def fail(reason: str, code: int = USAGE_ERROR) -> NoReturn:
    """Log why the command can't be done, and end it."""
    log.error(events.MISFIT, reason=reason)
    raise typer.Exit(code)


@contextmanager
def of_aws() -> Iterator[None]:
    """What AWS refuses: 78, or 75 where asking again may help."""
    from infra.aws import AwsError, AwsUnreachable

    try:
        yield
    except AwsUnreachable as error:
        fail(str(error), EXIT_PREEMPTED)
    except AwsError as error:
        fail(str(error), EXIT_MISFIT)


@contextmanager
def of_store() -> Iterator[None]:
    """What a store refuses, or does not hold: 2 for what was asked wrongly, otherwise the same."""
    from callbacks.checkpoint.inspection import NoSuchRun, SetAside
    from callbacks.checkpoint.reader import NoneLeft
    from callbacks.errors import ConfigurationError
    from callbacks.storage.base import StorageError, Transient
    from job.commands.exporting import NothingSaved

    try:
        yield
    except (NoSuchRun, SetAside, ConfigurationError, NothingSaved) as error:
        fail(str(error))
    except Transient as error:
        fail(str(error), EXIT_PREEMPTED)
    except (StorageError, NoneLeft, OSError) as error:
        fail(str(error), EXIT_MISFIT)
