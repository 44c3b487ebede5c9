"""A folder with a known name for this user only."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path


def make_private_folder(folder: Path) -> Path:
    """Create a folder for this user only, anew. Its name can be guessed: another user may have it.

    Raises:
        OSError: it can't be created, or belongs to another user.
    """
    with suppress(FileNotFoundError):
        existing = folder.lstat()
        if not stat.S_ISDIR(existing.st_mode) or existing.st_uid != os.getuid():
            raise PermissionError(f"{folder} exists already, and is not a folder of this user")
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    return folder
