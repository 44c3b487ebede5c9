"""The end of an attempt whose store can't be used."""

from __future__ import annotations

from keepfit.callbacks import events
from keepfit.callbacks.errors import AttemptEnded, Refused, StoreUnreachable
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import StorageError, Transient

log = get_logger()


def exit_for_store_error(error: StorageError) -> AttemptEnded:
    """Log why the store can't be used, and return the exception for the caller to raise."""
    if isinstance(error, Transient):
        log.error(
            events.STORE_UNREACHABLE,
            reason=str(error),
            fix="run it again later: the store may answer",
        )
        return StoreUnreachable()
    log.error(events.REFUSED, reason=str(error), fix="fix the store, or use another one")
    return Refused()
