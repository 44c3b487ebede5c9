"""Uploads and downloads of single files, for callbacks with an s3:// path."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from typing import IO, Any, Self, TypeVar

from s3transfer.manager import TransferManager

from keepfit.callbacks.daemon_executor import DaemonExecutor
from keepfit.callbacks.masking import one_line
from keepfit.callbacks.storage.base import StorageError
from keepfit.callbacks.storage.s3.address import Object
from keepfit.callbacks.storage.s3.client import make_client
from keepfit.callbacks.storage.s3.errors import BOTO_ERRORS, translate_error
from keepfit.callbacks.storage.s3.options import NO_OPTIONS, RequestOptions
from keepfit.callbacks.storage.s3.retries import RetryPolicy

T = TypeVar("T")


class Transfer:
    """Uploads and downloads whole files, and retries as long as `retries` allows.

    boto3's managed transfers do the work: large files in parallel parts, and an object appears only
    when it is complete. The end of the process does not wait for an upload.
    """

    def __init__(
        self,
        client_factory: Callable[[], Any],
        retries: RetryPolicy,
        options: RequestOptions = NO_OPTIONS,
    ) -> None:
        """Open the transfer; `options` are those that the clients of `client_factory` send."""
        self._options = options
        self._client_factory = client_factory
        self._retries = retries
        self._client_lock = Lock()
        self._client = self._new_client()

    @classmethod
    def open(cls, retries: RetryPolicy | None = None) -> Self:
        """Open a transfer with the AWS configuration of the environment.

        Raises:
            StorageError: the configuration or the options of requests can't be used.
        """
        retries = retries or RetryPolicy()
        options = RequestOptions.of(os.environ)
        return cls(lambda: make_client(retries, options), retries, options)

    def upload(self, path: str, url: str) -> None:
        """Replace the object at `url` by the file.

        The file is opened once, so a file that replaces it meanwhile does not disturb the upload.

        Raises:
            ConfigurationError: `url` is not the address of an object.
            OSError: the file can't be read.
            StorageError: the file could not be sent.
        """
        target = Object.parse(url)
        with open(path, "rb") as file:
            self._retry("put_object", target, lambda: self._send(file, target))

    def download(self, url: str, path: str) -> None:
        """Download the object at `url` to the file.

        Raises:
            ConfigurationError: `url` is not the address of an object.
            NotFound: the object does not exist.
            StorageError: the object could not be read.
        """
        source = Object.parse(url)

        def fetch() -> None:
            # Not download_file, which draws a name from Python's global random state.
            with open(path, "wb") as file:
                self._client.download_fileobj(source.bucket, source.key, file)

        self._retry("get_object", source, fetch)

    def sizes(self, url: str) -> dict[str, int]:
        """Return the sizes in bytes of the objects below `url`, by their keys after `url/`.

        Raises:
            StorageError: the objects can't be listed.
        """
        below = Object.parse(url)
        prefix = f"{below.key}/"

        def list_sizes() -> dict[str, int]:
            pages = self._client.get_paginator("list_objects_v2")
            found = (
                entry
                for page in pages.paginate(Bucket=below.bucket, Prefix=prefix)
                for entry in page.get("Contents", ())
            )
            return {entry["Key"].removeprefix(prefix): entry["Size"] for entry in found}

        return self._retry("list_objects_v2", below, list_sizes)

    def remove(self, url: str) -> None:
        """Delete the object at `url`; it is no error if it does not exist.

        Raises:
            StorageError: the object could not be deleted.
        """
        target = Object.parse(url)
        self._retry(
            "delete_object",
            target,
            lambda: self._client.delete_object(Bucket=target.bucket, Key=target.key),
        )

    def _send(self, file: IO[bytes], target: Object) -> None:
        # s3transfer closes what it has sent, and each try starts at the beginning.
        with (
            TransferManager(self._client, executor_cls=DaemonExecutor) as manager,
            os.fdopen(os.dup(file.fileno()), "rb") as content,
        ):
            content.seek(0)
            manager.upload(content, target.bucket, target.key).result()

    def _retry(self, operation: str, target: Object, action: Callable[[], T]) -> T:
        def once(_: int) -> T:
            try:
                return action()
            except BOTO_ERRORS as error:
                raise translate_error(
                    error, operation, target.address, target.key, self._options
                ) from error

        return self._retries.call(once, self._renew_client)

    def _renew_client(self) -> None:
        with self._client_lock:
            self._client = self._new_client()

    def _new_client(self) -> Any:
        try:
            return self._client_factory()
        except BOTO_ERRORS as error:
            raise StorageError(f"S3 can't be used: {one_line(error)}") from error
