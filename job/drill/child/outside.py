"""Files and servers outside of the drill's folder, to which callbacks would write."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keepfit.callbacks import events
from keepfit.callbacks.errors import Refused
from keepfit.callbacks.logs.logger import get_logger
from keepfit.callbacks.masking import mask_url

log = get_logger()

_PATHS = ("filepath", "filename", "log_dir", "backup_dir")
"""The attributes with paths; RemoteMonitor has one that is the path of an address."""

_HERE = ("localhost", "127.0.0.1", "::1")


def refuse_outside(callbacks: Iterable[Any], home: Path) -> None:
    """Refuse callbacks of Keras and keepfit that write elsewhere.

    A callback of the script's own may only read what its attributes name, so it is not looked at.

    Raises:
        Refused: a drill would overwrite what real trainings have written there.
    """
    for callback in callbacks:
        if found := address_outside(callback, home):
            log.error(
                events.REFUSED,
                callback=type(callback).__name__,
                reason=f"it writes to {mask_url(found)}, outside of the drill's folder, where a "
                "drill would overwrite what a real training has written",
                fix="name a path relative to the folder of the project, or take the path from an "
                "argument of the script, and pass another one in a drill",
            )
            raise Refused


def address_outside(callback: Any, home: Path) -> str | None:
    """Return the path or URL outside of `home` to which a callback writes, if it does."""
    if not _is_of_library(type(callback)):
        return None
    for name, value in vars(callback).items():
        if isinstance(value, str | os.PathLike):
            address = str(value)
            is_path = name in _PATHS and _is_outside(Path(address).expanduser(), home)
            if _is_elsewhere(address) if "://" in address else is_path:
                return address
    return None


def _is_of_library(kind: type) -> bool:
    """Return whether a class of Keras' or keepfit's writes the files: itself, or a base class."""
    return any(
        base.__module__.startswith(("keras.", "keepfit.")) and base.__name__ != "Callback"
        for base in kind.__mro__
    )


def _is_elsewhere(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme != "file" and parts.hostname not in _HERE


def _is_outside(path: Path, home: Path) -> bool:
    return path.is_absolute() and not path.resolve().is_relative_to(home.resolve())
