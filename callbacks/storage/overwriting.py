"""Overwrite an object that has one writer, which may not know its present version."""

from __future__ import annotations

from keepfit.callbacks.storage.base import Conflict, Store, Version


def overwrite(store: Store, key: str, body: bytes, known: Version | None) -> Version:
    """Replace an object, whatever it contains, and return its new version.

    One request does it if the version is known, or if there is no object yet. It is not known after
    a request without an answer, and for an object that an earlier attempt has written.

    Args:
        known: the version that this writer has written last; None if it has written none.

    Raises:
        StorageError: it was not replaced, or it is unknown whether it was.
    """
    try:
        return store.swap(key, body, expected=known)
    except Conflict:
        return store.swap(key, body, expected=store.version_of(key))
