"""The stores that hold checkpoints: one protocol, with an implementation chosen by URI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from keepfit.callbacks.storage.base import Store
from keepfit.callbacks.storage.uri import check_uri

__all__ = ["Store", "check_uri", "open_store"]


def no_deadline() -> float | None:
    """Return None: this process has no known deadline."""
    return None


def open_store(uri: str, deadline: Callable[[], float | None] = no_deadline) -> Store:
    """Return the store at `uri`; nothing is read or written yet.

    Args:
        uri: `s3://BUCKET/PREFIX`, or `file://` and a path, absolute (`file:///mnt/runs`) or
            relative (`file://./runs`).
        deadline: returns when this machine is gone, in time.monotonic(), or None if unknown; no
            request is retried after it.

    Raises:
        ConfigurationError: `uri` does not have that form.
        StorageError: the AWS configuration can't be used.
    """
    check_uri(uri)
    scheme, _, path = uri.partition("://")
    if scheme == "s3":
        from keepfit.callbacks.storage.s3.retries import RetryPolicy
        from keepfit.callbacks.storage.s3.store import (
            S3Store,  # imports boto3, which a directory does not need
        )

        return S3Store.open(uri, RetryPolicy(deadline=deadline))
    from keepfit.callbacks.storage.local import LocalStore  # which S3 does not need

    return LocalStore(Path(path).expanduser())
