"""What an attempt does first where AWS Batch makes it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import structlog

from callbacks import events, session
from callbacks.errors import Cancelled, Misfit
from callbacks.storage.base import StorageError, Store

ID = "AWS_BATCH_JOB_ID"

log = structlog.get_logger("keepfit")


@dataclass(frozen=True)
class Job:
    """What this process is an attempt of.

    Attributes:
        id: of the job; None outside of AWS Batch.
    """

    id: str | None
    store: str
    run: str


def prepare(job: Job, code: str | None, script: Path) -> None:
    """End here if the job was cancelled; otherwise bring its code, and go to its folder.

    Raises:
        Cancelled: by `keepfit cancel`.
        Misfit: the store can't be used, the code is damaged, or there is no room for it.
        Unreachable: the store does not answer now.
    """
    if job.id is None and code is None:
        return
    from callbacks.storage import open_store
    from callbacks.unusable import leave_for

    try:
        store = open_store(job.store, session.current().deadline)
        if job.id:
            _end_if_cancelled(store, job.id)
        if code:
            _go_to(store, code, job.run, script)
    except StorageError as error:
        raise leave_for(error) from error


def _end_if_cancelled(store: Store, job: str) -> None:
    from job.cancelled import marked

    if not marked(store, job):
        return
    log.warning(
        events.CANCELLED,
        job=job,
        reason="somebody has ended this job; its checkpoints are kept",
        fix="to go on, submit the run again: keepfit submit --resume",
    )
    raise Cancelled


def _go_to(store: Store, code: str, run: str, script: Path) -> None:
    from job.code import bring

    os.environ["KEEPFIT_STORE"] = store.uri  # which may have been relative to where we are
    try:
        os.chdir(bring(store, code, run))
    except OSError as error:
        log.error(
            events.MISFIT,
            reason=f"the code could not be unpacked: {error}",
            fix="a TMPDIR that this user may write to, with room for it",
        )
        raise Misfit from error
    if not script.is_file():
        log.error(
            events.MISFIT, reason=f"there is no script {str(script)!r} in the code", code=code
        )
        raise Misfit
