"""A script's folder in the store: put there by `keepfit submit`, brought here by its job."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from keepfit.callbacks.storage.base import AlreadyExists, Damaged, NotFound, StorageError, Store
from keepfit.infra.jobs.bundle import Bundle, BundleError, unpack_bundle


def archive_key(digest: str) -> str:
    """Where it lies. No run has this name: names of runs begin with a letter or a digit."""
    return f".code/{digest}.tar.gz"


def upload_archive(store: Store, bundle: Bundle) -> None:
    """Put it there, unless it is there already.

    Raises:
        StorageError: it can't be written.
    """
    key = archive_key(bundle.digest)
    if any(entry.key == key for entry in store.list(key)):
        return
    with suppress(AlreadyExists):
        store.put(key, [bundle.content], digest=bundle.digest)


def download_archive(store: Store, digest: str, run: str) -> Path:
    """Unpack it on this machine. Returns the folder.

    It is the same on every machine, whatever the code: scripts name files by where they lie
    themselves, and files of an earlier attempt come back under the names that they had.

    Raises:
        Damaged: it is not what was sent.
        StorageError: it can't be read.
        OSError: it can't be written.
    """
    try:
        content, _ = store.load(archive_key(digest))
    except NotFound as error:
        raise StorageError(
            f"{store.uri} has no code {digest}: submit the job again, or name the store to which "
            f"it was submitted"
        ) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise Damaged(
            f"{store.uri}/{archive_key(digest)} is damaged; delete it and submit the job again"
        )
    folder = _make_private_folder(Path(tempfile.gettempdir()) / f"keepfit-{run}")
    try:
        unpack_bundle(content, folder)
    except BundleError as error:
        raise Damaged(f"{store.uri}/{archive_key(digest)}: {error}") from error
    return folder


def _make_private_folder(folder: Path) -> Path:
    """A folder of this user's alone. Its name can be guessed, so somebody may have been first."""
    with suppress(FileNotFoundError):
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(f"{folder} is there already, and is no folder of this user's")
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    return folder
