"""Where checkpoints are kept: one protocol, chosen by URI."""

from __future__ import annotations

from pathlib import Path

from callbacks.errors import ConfigurationError
from callbacks.storage.base import Store
from callbacks.storage.local import LocalStore

__all__ = ["Store", "open_store"]


def open_store(uri: str) -> Store:
    """The store at `uri`; nothing is read or written yet.

    Args:
        uri: `file://` and a path, absolute (`file:///mnt/runs`) or relative (`file://./runs`).

    Raises:
        ConfigurationError: `uri` is not of that form.
    """
    scheme, _, path = uri.partition("://")
    if scheme == "s3":
        raise ConfigurationError(
            f"this version keeps checkpoints in directories only; "
            f"use file://PATH. Received: store={uri!r}"
        )
    if scheme != "file" or not path or "\0" in path:
        raise ConfigurationError(
            f"a store is written file://PATH, for example file://./runs. Received: store={uri!r}"
        )
    return LocalStore(Path(path).expanduser())
