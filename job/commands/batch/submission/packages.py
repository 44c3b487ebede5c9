"""The packages of a submitted job: resolved before anything is created, then uploaded."""

from __future__ import annotations

from pathlib import Path

from keepfit.callbacks import events
from keepfit.callbacks.errors import EXIT_PREEMPTED
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.storage.base import Store
from keepfit.job.commands.batch.submission.options import SubmitOptions
from keepfit.job.commands.failures import fail
from keepfit.job.requirements.image_packages import image_packages
from keepfit.job.requirements.resolve import Resolution, resolve
from keepfit.job.requirements.source import IndexUnreachable, RequirementsError, find_source
from keepfit.job.requirements.stored import upload_wheels

log = get_logger()


def resolve_requirements(options: SubmitOptions, folder: Path, *, gpu: bool) -> Resolution | None:
    """Return the wheels that the image lacks; exit with one line if there is no solution.

    Args:
        folder: the folder that is uploaded.
        gpu: whether the job uses the image for GPUs.
    """
    if options.requirements and options.no_requirements:
        fail("--requirements and --no-requirements contradict each other: give one of them")
    if options.no_requirements:
        return None
    try:
        source = Path(options.requirements) if options.requirements else find_source(folder)
        if source is None:
            return None
        log.info(events.REQUIREMENTS_RESOLVING, file=str(source))
        return resolve(source, image_packages(gpu=gpu))
    except IndexUnreachable as error:
        fail(str(error), EXIT_PREEMPTED)
    except RequirementsError as error:
        fail(str(error))


def upload_packages(store: Store, found: Resolution) -> None:
    """Upload what the store lacks, and remove the files from this machine.

    Raises:
        StorageError: the store can't be written.
    """
    with found.folder:
        uploaded = upload_wheels(store, found.document, found.paths)
    log.info(
        events.REQUIREMENTS_RESOLVED,
        wheels=len(found.document.wheels),
        size=f"{found.document.size / (1 << 20):.1f} MiB",
        new=uploaded.wheels,
        requirements=found.document.digest,
    )
