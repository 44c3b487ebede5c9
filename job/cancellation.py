"""Marks of cancelled jobs in the store: AWS Batch may start another attempt, which exits at once.

AWS Batch stops a job with SIGTERM, at which keepfit saves and exits as after any preemption; so
the retry rules of AWS Batch would continue the job.
"""

from __future__ import annotations

from contextlib import suppress

from keepfit.callbacks.storage.base import AlreadyExists, NotFound, Store


def _key(job: str) -> str:
    return f".cancelled/{job}"


def mark_cancelled(store: Store, job: str) -> None:
    """Mark a job as cancelled: no further attempt of it will train."""
    with suppress(AlreadyExists):
        store.put(_key(job), [b"by keepfit cancel\n"])


def unmark_cancelled(store: Store, job: str) -> None:
    """Remove the mark: the job could not be terminated."""
    store.delete(_key(job))


def is_cancelled(store: Store, job: str) -> bool:
    """Return whether the job is marked as cancelled."""
    try:
        store.load(_key(job))
    except NotFound:
        return False
    return True
