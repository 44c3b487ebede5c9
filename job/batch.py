"""What an attempt on AWS Batch does before it runs the script."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from keepfit.callbacks import events
from keepfit.callbacks.engine import preemption
from keepfit.callbacks.errors import Cancelled, ConfigurationError, Refused
from keepfit.callbacks.launch.command import PythonCommand
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import StorageError, Store
from keepfit.job.process.program import check_program

JOB_ID_VARIABLE = "AWS_BATCH_JOB_ID"

log = get_logger()


@dataclass(frozen=True)
class BatchJob:
    """The job, and the run, of which this process is an attempt.

    Attributes:
        id: the id of the job; None outside of AWS Batch.
        store: the URI of the store.
        run: the name of the run.
    """

    id: str | None
    store: str
    run: str


def prepare_attempt(
    job: BatchJob, code: str | None, program: PythonCommand, requirements: str | None = None
) -> None:
    """Exit if the job was cancelled; otherwise download its code, and change to its folder.

    Args:
        code: the digest of the code in the store, if `keepfit submit` has stored it.
        requirements: the digest of the packages to install, if there are any.

    Raises:
        Cancelled: the job was cancelled with `keepfit cancel`.
        Refused: the store or TMPDIR can't be used, the code or a package is damaged or does not
            fit, or there is no space for it.
        StoreUnreachable: the store does not answer now.
    """
    if job.id is None and code is None and requirements is None:
        return
    from keepfit.callbacks.engine.store_errors import exit_for_store_error
    from keepfit.callbacks.storage import open_store
    from keepfit.job.machine.working_space import find_working_space

    space = find_working_space(os.environ)
    try:
        store = open_store(job.store, preemption.current().deadline)
        if job.id:
            _exit_if_cancelled(store, job.id)
        if requirements:
            _install(store, requirements, job.run)
        if code:
            _enter_code(store, code, job.run, program)
    except StorageError as error:
        raise exit_for_store_error(error) from error
    space.report()


def _exit_if_cancelled(store: Store, job: str) -> None:
    from keepfit.job.cancellation import is_cancelled

    if not is_cancelled(store, job):
        return
    log.warning(
        events.CANCELLED,
        job=job,
        reason="this job was cancelled; its checkpoints are kept",
        fix="to continue, submit the run again: keepfit submit --resume",
    )
    raise Cancelled


@contextmanager
def _refusing_without_space(failure: str) -> Iterator[None]:
    """Refuse the attempt if files can't be written within the block.

    Raises:
        Refused: they can't; the log says why.
    """
    try:
        yield
    except OSError as error:
        log.error(
            events.REFUSED,
            reason=f"{failure}: {error}",
            fix="set TMPDIR to a folder that this user can write to, with enough space",
        )
        raise Refused from error


def _install(store: Store, requirements: str, run: str) -> None:
    from keepfit.job.requirements.install import install_requirements
    from keepfit.job.requirements.suitability import Unsuitable

    try:
        with _refusing_without_space("the requirements could not be installed"):
            install_requirements(store, requirements, run)
    except Unsuitable as error:
        log.error(events.REFUSED, reason=str(error))
        raise Refused from error


def _enter_code(store: Store, code: str, run: str, program: PythonCommand) -> None:
    from keepfit.job.code_archive import download_archive

    os.environ["KEEPFIT_STORE"] = store.uri  # a relative one would not survive chdir
    with _refusing_without_space("the code could not be unpacked"):
        os.chdir(download_archive(store, code, run))
    try:
        check_program(program)
    except ConfigurationError as error:
        log.error(events.REFUSED, reason=f"in the submitted code, {error}", code=code)
        raise Refused from error
