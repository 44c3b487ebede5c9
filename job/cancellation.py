"""Jobs that somebody has ended: AWS Batch may make another attempt, which has to end at once.

AWS Batch stops a job with SIGTERM, on which keepfit saves and exits as after any preemption; so
its retry rules would go on with the job.
"""

from __future__ import annotations

from contextlib import suppress

from keepfit.callbacks.storage.base import AlreadyExists, NotFound, Store


def _key(job: str) -> str:
    return f".cancelled/{job}"


def mark_cancelled(store: Store, job: str) -> None:
    """No further attempt of this job is to train."""
    with suppress(AlreadyExists):
        store.put(_key(job), [b"by keepfit cancel\n"])


def unmark_cancelled(store: Store, job: str) -> None:
    """It was not ended after all."""
    store.delete(_key(job))


def is_cancelled(store: Store, job: str) -> bool:
    """Whether somebody has ended it."""
    try:
        store.load(_key(job))
    except NotFound:
        return False
    return True
