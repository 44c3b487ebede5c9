"""The folder for temporary files of an attempt: whether it can be used, and what is free there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from keepfit.callbacks import events
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()

GIB = 1 << 30


@dataclass(frozen=True)
class WorkingSpace:
    """A folder for temporary files.

    Attributes:
        loadable: programs and shared libraries can be loaded from there.
    """

    folder: str
    loadable: bool

    def report(self) -> None:
        """Log what is free there now, and a warning if a custom op or a wheel can't be loaded."""
        free = f"{_free_bytes(self.folder) / GIB:.1f} GiB"
        if self.loadable:
            log.info(events.WORKING_SPACE, folder=self.folder, free=free)
            return
        log.warning(
            events.WORKING_SPACE,
            folder=self.folder,
            free=free,
            reason="it is mounted with noexec: no program or shared library there can be loaded",
            fix="with Docker, --tmpfs /tmp:exec or -v /tmp; or set TMPDIR to another folder",
        )


def find_working_space(environ: Mapping[str, str]) -> WorkingSpace:
    """Return the folder for temporary files.

    Python's tempfile takes another folder without a word if TMPDIR can't be used. Code would be
    unpacked to another path than in the attempts before, or onto a disk that is too small.

    Raises:
        Refused: there is no such folder that can be written to.
    """
    named = environ.get("TMPDIR")
    try:
        folder = named or tempfile.gettempdir()
        with tempfile.TemporaryFile(dir=folder):
            loadable = can_load_from(folder)
    except OSError as error:
        log.error(
            events.REFUSED,
            reason=f"temporary files can't be written: TMPDIR is {named or 'not set'}: {error}",
            fix="set TMPDIR to a folder that this user can write to; an image needs it with "
            "mode 1777, as /tmp usually is",
        )
        raise Refused from error
    return WorkingSpace(folder, loadable)


def can_load_from(folder: str | os.PathLike[str]) -> bool:
    """Return whether programs and shared libraries can be loaded: no noexec forbids it."""
    return not os.statvfs(folder).f_flag & os.ST_NOEXEC


def _free_bytes(folder: str) -> int:
    space = os.statvfs(folder)
    return space.f_bavail * space.f_frsize
