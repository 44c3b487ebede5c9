"""What a store that can't be used means for the attempt."""

from __future__ import annotations

import structlog

from callbacks import events
from callbacks.errors import Leave, Misfit, Unreachable
from callbacks.storage.base import StorageError, Transient

log = structlog.get_logger("keepfit")


def leave_for(error: StorageError) -> Leave:
    """Log why the store is of no use; the exception is the caller's to raise."""
    if isinstance(error, Transient):
        log.error(events.UNREACHABLE, reason=str(error), fix="run it again: it may answer later")
        return Unreachable()
    log.error(events.MISFIT, reason=str(error), fix="mend the store, or name another one")
    return Misfit()
