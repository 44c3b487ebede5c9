"""What a store that can't be used means for the attempt."""

from __future__ import annotations

import structlog

from keepfit.callbacks import events
from keepfit.callbacks.errors import AttemptEnded, Refused, StoreUnreachable
from keepfit.callbacks.storage.base import StorageError, Transient

log = structlog.get_logger("keepfit")


def exit_for_store_error(error: StorageError) -> AttemptEnded:
    """Log why the store is of no use; the exception is the caller's to raise."""
    if isinstance(error, Transient):
        log.error(
            events.STORE_UNREACHABLE, reason=str(error), fix="run it again: it may answer later"
        )
        return StoreUnreachable()
    log.error(events.REFUSED, reason=str(error), fix="mend the store, or name another one")
    return Refused()
