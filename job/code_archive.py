"""A script's folder in the store: uploaded by `keepfit submit`, downloaded by its job."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import suppress
from pathlib import Path

from keepfit.callbacks.storage.base import AlreadyExists, Damaged, NotFound, StorageError, Store
from keepfit.infra.jobs.bundle import Bundle, BundleError, unpack_bundle
from keepfit.job.private_folder import make_private_folder

MAX_ARCHIVE = 4 << 30
"""Bytes of the largest archive that a job downloads."""


def archive_key(digest: str) -> str:
    """Return the key of an archive. No run has this prefix: names begin with a letter or digit."""
    return f".code/{digest}.tar.gz"


def upload_archive(store: Store, bundle: Bundle) -> None:
    """Upload an archive, unless the store has it already.

    Raises:
        StorageError: the archive can't be written.
    """
    key = archive_key(bundle.digest)
    if any(entry.key == key for entry in store.list(key)):
        return
    with suppress(AlreadyExists):
        store.put(key, [bundle.content], digest=bundle.digest)


def download_archive(store: Store, digest: str, run: str) -> Path:
    """Unpack an archive on this machine, and return its folder.

    The folder is the same on every machine, whatever the code: scripts name files relative to
    their own location, and files of an earlier attempt are restored under their previous names.

    Raises:
        Damaged: the archive is not the one that was uploaded.
        StorageError: the archive can't be read.
        OSError: the folder can't be written.
    """
    try:
        content, _ = store.load(archive_key(digest), MAX_ARCHIVE)
    except NotFound as error:
        raise StorageError(
            f"{store.uri} has no code {digest}: submit the job again, or use the store to which "
            f"it was submitted"
        ) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise Damaged(
            f"{store.uri}/{archive_key(digest)} is damaged; delete it and submit the job again"
        )
    folder = make_private_folder(Path(tempfile.gettempdir()) / f"keepfit-{run}")
    try:
        unpack_bundle(content, folder)
    except BundleError as error:
        raise Damaged(f"{store.uri}/{archive_key(digest)}: {error}") from error
    return folder
