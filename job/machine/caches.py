"""Folders of libraries' caches and settings where HOME can't be written to, as in a container."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Final

from keepfit.callbacks import events
from keepfit.callbacks.logs.logger import get_logger

log = get_logger()

FOLDERS: Final[Mapping[str, str]] = {
    "CUDA_CACHE_PATH": ".nv/ComputeCache",
    "KERAS_HOME": ".keras",
    "MPLCONFIGDIR": ".config/matplotlib",
    "NLTK_DATA": "nltk_data",
    "TFDS_DATA_DIR": "tensorflow_datasets",
    "TRITON_CACHE_DIR": ".triton/cache",
    "XDG_CACHE_HOME": ".cache",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
}
"""Variables of libraries, with the folder in HOME that is used without the variable.

XDG_CACHE_HOME is that of Hugging Face, torch.hub, fontconfig, pip and many others.
"""


def use_writable_folders(environ: MutableMapping[str, str]) -> None:
    """Set the variables of libraries whose folders in HOME can't be created.

    A variable that is set stays, and so does a folder that exists: an image may contain it, with
    models that were downloaded when it was built. To be called before the libraries are imported.
    """
    home = environ.get("HOME")
    if not home or os.access(home, os.W_OK):
        return
    needed = folders_to_replace(home, environ)
    if not needed:
        return
    try:
        own = _private_folder(Path(tempfile.gettempdir()) / ".keepfit-home")
    except OSError as error:
        log.warning(
            events.HOME_READ_ONLY,
            home=home,
            reason=f"libraries can't write their caches to HOME, nor to TMPDIR: {error}",
            fix="set HOME or TMPDIR to a folder that this user can write to",
        )
        return
    environ.update({name: str(own / FOLDERS[name]) for name in needed})
    log.info(events.HOME_READ_ONLY, home=home, folder=str(own), variables=needed)


def folders_to_replace(home: str, environ: Mapping[str, str]) -> list[str]:
    """Return the variables that are not set, and whose folder in HOME does not exist."""
    return [
        name
        for name, folder in FOLDERS.items()
        if not environ.get(name) and not Path(home, folder).exists()
    ]


def _private_folder(folder: Path) -> Path:
    """Create a folder for this user only, or return the existing one.

    Raises:
        OSError: it can't be created, or another user has created it: its name can be guessed.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} exists already, and is not a folder of this user")
    return folder
