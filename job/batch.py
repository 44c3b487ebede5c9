"""What an attempt does first where AWS Batch makes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import structlog

from callbacks import events
from callbacks.errors import Cancelled
from callbacks.storage.base import StorageError

JOB = "AWS_BATCH_JOB_ID"

log = structlog.get_logger("keepfit")


def prepare(store: str, code: str | None, environment: Mapping[str, str]) -> Path | None:
    """End here if the job was cancelled; otherwise bring its code.

    Returns:
        The folder of the code; None if the script is on this machine already.

    Raises:
        Cancelled: by `keepfit cancel`.
        Misfit: the store can't be used, or the code is damaged.
        Unreachable: the store does not answer now.
    """
    job = environment.get(JOB)
    if job is None and code is None:
        return None
    from callbacks.storage import open_store
    from callbacks.unusable import leave_for
    from job.cancelled import marked
    from job.code import bring

    try:
        opened = open_store(store)
        if job and marked(opened, job):
            log.warning(
                events.CANCELLED,
                job=job,
                reason="somebody has ended this job; its checkpoints are kept",
                fix="to go on, submit the run again: keepfit submit --resume",
            )
            raise Cancelled
        return bring(opened, code) if code else None
    except StorageError as error:
        raise leave_for(error) from error
