"""A script's folder in the store: put there by `keepfit submit`, brought here by its job."""

from __future__ import annotations

import hashlib
import tempfile
from contextlib import suppress
from pathlib import Path

from callbacks.storage.base import AlreadyExists, Damaged, NotFound, StorageError, Store
from infra.jobs.bundle import Bundle, NotBundled, unpack


def key_of(digest: str) -> str:
    """Where it lies. No run has this name: names of runs begin with a letter or a digit."""
    return f".code/{digest}.tar.gz"


def send(store: Store, bundle: Bundle) -> None:
    """Put it there, unless it is there already.

    Raises:
        StorageError: it can't be written.
    """
    with suppress(AlreadyExists):
        store.put(key_of(bundle.digest), [bundle.content], digest=bundle.digest)


def bring(store: Store, digest: str) -> Path:
    """Unpack it on this machine. Returns the folder, which is its own.

    Raises:
        Damaged: it is not what was sent.
        StorageError: it can't be read.
    """
    try:
        content, _ = store.load(key_of(digest))
    except NotFound as error:
        raise StorageError(
            f"{store.uri} has no code {digest}: submit the job again, or name the store to which "
            f"it was submitted"
        ) from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise Damaged(
            f"{store.uri}/{key_of(digest)} is damaged; delete it and submit the job again"
        )
    folder = Path(tempfile.mkdtemp(prefix="keepfit-code-"))
    try:
        unpack(content, folder)
    except NotBundled as error:
        raise Damaged(f"{store.uri}/{key_of(digest)}: {error}") from error
    return folder
