"""The stores that hold checkpoints: one protocol, with an implementation chosen by URI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from keepfit.callbacks.errors import ConfigurationError
from keepfit.callbacks.masking import has_secrets, mask_url
from keepfit.callbacks.storage.base import Store
from keepfit.callbacks.storage.local import LocalStore
from keepfit.callbacks.storage.s3.address import Address

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
    return LocalStore(Path(path).expanduser())


def check_uri(uri: str) -> None:
    """Raise ConfigurationError if `uri` is not the URI of a store, or may contain a secret."""
    scheme, _, path = uri.partition("://")
    # A path may contain any character; only its first part could be meant as a userinfo.
    if has_secrets(uri) if scheme != "file" else "@" in path.partition("/")[0]:
        raise ConfigurationError(
            "a store's address has no user, password or query: credentials for S3 come from a "
            "role, AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and a folder with "
            f"'@' in its name is written file://./NAME. Received: store={mask_url(uri)!r}"
        )
    if scheme == "s3":
        Address.parse(uri)
    elif scheme != "file" or not path or "\0" in path:
        raise ConfigurationError(
            "a store is written s3://BUCKET/PREFIX or file://PATH, for example file://./runs. "
            f"Received: store={mask_url(uri)!r}"
        )
