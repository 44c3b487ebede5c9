"""Marks of cancelled jobs in the store, so that no further attempt of such a job trains.

AWS Batch does not retry a job that is terminated. But a request to terminate it may cross with the
end of an attempt, which exits as after any preemption: then the mark ends the next one at once.
https://docs.aws.amazon.com/batch/latest/userguide/job_retries.html
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
