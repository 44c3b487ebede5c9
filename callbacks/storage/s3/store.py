"""S3 as a Store.

An object is sent with `If-None-Match: *`, and HEAD is swapped with `If-Match`; so S3 itself ensures
that a key is written once and that one of any number of writers wins. A lost answer is resolved by
reading back: no two writers ever write the same bytes to HEAD.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from threading import Lock
from typing import Any, Self, TypeVar

from keepfit.callbacks.daemon_executor import DaemonExecutor
from keepfit.callbacks.storage.base import (
    MAX_LOAD,
    AlreadyExists,
    Buffer,
    Conflict,
    Damaged,
    Entry,
    NotFound,
    Replacement,
    StorageError,
    Transient,
    Version,
    every_key,
    too_large,
)
from keepfit.callbacks.storage.s3 import multipart
from keepfit.callbacks.storage.s3.address import Address
from keepfit.callbacks.storage.s3.body import Body
from keepfit.callbacks.storage.s3.client import make_client, wants_checksums
from keepfit.callbacks.storage.s3.errors import BOTO_ERRORS, may_be_missing, translate_error
from keepfit.callbacks.storage.s3.options import NO_OPTIONS, RequestOptions
from keepfit.callbacks.storage.s3.retries import RetryPolicy

T = TypeVar("T")

THREADS = 8
"""Requests in flight for one object."""

RANGE = 32 << 20
"""Bytes per range request."""

READ = 1 << 20
"""Bytes read from the connection at once."""

MAX_SINGLE_COPY = 5 << 30
"""Bytes of the largest object that S3 copies in one request."""

READS = frozenset({"get_object", "head_object"})

REQUIRED_FIELDS = {
    "put_object": ("ETag",),
    "upload_part": ("ETag",),
    "get_object": ("ETag", "ContentLength"),
    "head_object": ("ETag",),
}
"""Fields of every complete response. If one is missing, the connection broke within the headers:
botocore does not distinguish this from their end."""


class S3Store:
    """A store of objects below a prefix of a bucket, which must exist.

    Attributes:
        parallel: the number of objects that may usefully be sent at once.
    """

    parallel = THREADS

    def __init__(
        self,
        address: Address,
        client_factory: Callable[[], Any],
        retries: RetryPolicy,
        options: RequestOptions = NO_OPTIONS,
    ) -> None:
        """Open the store; `options` are those that the clients of `client_factory` send."""
        self._address = address
        self._options = options
        self._client_factory = client_factory
        self._retries = retries
        self._client_lock = Lock()
        self._client = self._new_client()
        self._conditions_verified = False

    @classmethod
    def open(cls, uri: str, retries: RetryPolicy | None = None) -> Self:
        """Return the store at `uri`; nothing is read or written yet.

        Raises:
            ConfigurationError: `uri` is not an address in S3.
            StorageError: the AWS configuration or the options of requests can't be used.
        """
        retries = retries or RetryPolicy()
        options = RequestOptions.of(os.environ)
        return cls(Address.parse(uri), lambda: make_client(retries, options), retries, options)

    @property
    def uri(self) -> str:
        return self._address.uri

    def put(self, key: str, body: Sequence[Buffer], *, digest: str | None = None) -> None:
        whole = Body(body)

        def send(tries: int) -> None:
            try:
                self._put(key, whole, digest)
            except Conflict:
                if tries == 1 or not self._is_stored(key, whole):
                    raise AlreadyExists(f"{self.uri}/{key} exists already") from None

        self._retry(send)

    def swap(self, key: str, body: bytes, *, expected: Version | None) -> Version:
        def swap(tries: int) -> Version:
            try:
                return self._swap(key, body, expected)
            except (Conflict, NotFound):
                if tries > 1 and (found := self._version_of(key, body)):
                    return found
                raise Conflict(f"{self.uri}/{key} was changed by another writer") from None

        version = self._retry(swap)
        if not self._conditions_verified:
            self._verify_conditional_writes(key, body)
        return version

    def load(self, key: str, limit: int = MAX_LOAD) -> tuple[bytes, Version]:
        return self._retry(lambda _: self._load(key, limit))

    def version_of(self, key: str) -> Version:
        return Version(self._retry_request("head_object", key)["ETag"])

    def read_into(self, key: str, into: memoryview) -> None:
        ranges = [(at, min(at + RANGE, into.nbytes)) for at in range(0, into.nbytes, RANGE)]
        if not ranges:
            self._read_nothing(key)
        elif len(ranges) == 1:
            self._read_range(key, into, *ranges[0])
        else:
            with DaemonExecutor(THREADS, "keepfit-range") as pool:
                list(pool.map(lambda span: self._read_range(key, into, *span), ranges))

    def list(self, prefix: str) -> Iterator[Entry]:
        ours = len(self._address.prefix)
        for page in self._pages(prefix):
            for found in page.get("Contents", ()):
                yield Entry(found["Key"][ours:], found["Size"])

    def folders(self, prefix: str) -> Iterator[str]:
        ours = len(self._address.key(prefix))
        for page in self._pages(prefix, Delimiter="/"):
            for found in page.get("CommonPrefixes", ()):
                yield found["Prefix"][ours:].rstrip("/")

    def delete(self, key: str) -> None:
        with suppress(NotFound):
            self._retry_request("delete_object", key)

    def clear_unfinished(self, prefix: str, older: Callable[[str], bool] = every_key) -> None:
        more: dict[str, Any] = {"Prefix": self._address.key(prefix)}
        while True:
            page = self._retry_request("list_multipart_uploads", "", **more)
            for upload in page.get("Uploads", ()):
                key = upload["Key"][len(self._address.prefix) :]
                if not older(key):
                    continue
                with suppress(NotFound):
                    self._retry_request("abort_multipart_upload", key, UploadId=upload["UploadId"])
            if not page.get("IsTruncated"):
                return
            more["KeyMarker"] = page["NextKeyMarker"]
            more["UploadIdMarker"] = page["NextUploadIdMarker"]

    def move(self, source: str, target: str, *, replace: Replacement | None = None) -> None:
        """Copy everything, swap the object to replace, then delete the other old objects.

        An object that the last attempt prunes meanwhile may be missing from the copy; no checkpoint
        needs it.
        """
        if next(self.list(f"{target}/"), None):
            raise AlreadyExists(f"{self.uri}/{target} exists already")
        entries = list(self.list(f"{source}/"))
        for entry in entries:
            with suppress(NotFound):
                self._copy(entry, target + entry.key.removeprefix(source))
        if replace:
            # After a Conflict the copy stays: if an answer was lost, the swap may have succeeded.
            self.swap(replace.key, replace.body, expected=replace.expected)
        for entry in entries:
            if replace is None or entry.key != replace.key:
                self.delete(entry.key)

    def _put(self, key: str, body: Body, digest: str | None) -> None:
        if body.size > multipart.MAX_SINGLE_PUT:

            def request(operation: str, **more: Any) -> Any:
                once = operation == "complete_multipart_upload"
                return (self._request if once else self._retry_request)(operation, key, **more)

            multipart.send(request, body, THREADS, with_checksums=wants_checksums(self._client))
            return
        check = {}
        if wants_checksums(self._client):
            sha = base64.b64encode(bytes.fromhex(digest)).decode() if digest else body.sha256()
            check = {"ChecksumSHA256": sha}
        body.seek(0)
        self._request("put_object", key, Body=body, IfNoneMatch="*", **check)

    def _swap(self, key: str, body: bytes, expected: Version | None) -> Version:
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        return Version(self._request("put_object", key, Body=body, **condition)["ETag"])

    def _verify_conditional_writes(self, key: str, body: bytes) -> None:
        """Send two swaps that a server with conditional writes rejects, so they change nothing.

        Raises:
            StorageError: this server ignores the conditions, so two attempts could not be kept
                apart.
        """
        for wrong in (None, Version('"00000000000000000000000000000000"')):
            with suppress(Conflict, NotFound):
                self._retry(lambda _, wrong=wrong: self._swap(key, body, wrong))  # type: ignore[misc]
                raise StorageError(
                    f"{self.uri}: this server ignores If-Match or If-None-Match, so keepfit can't "
                    f"keep two attempts of a run apart; use a server with conditional writes"
                )
        self._conditions_verified = True

    def _is_stored(self, key: str, body: Body) -> bool:
        """Return True if the object is `body`: a try whose answer was lost may have written it."""
        response = self._request("get_object", key, ChecksumMode="ENABLED")
        with closing(response["Body"]) as stream:
            equal = response["ContentLength"] == body.size and all(
                self._read_stream(key, stream, len(chunk)) == chunk for chunk in body.chunks()
            )
            self._read_stream(key, stream)  # to the end, where botocore checks the checksum
            return equal

    def _version_of(self, key: str, body: bytes) -> Version | None:
        """Return the version of the object if it is `body`, otherwise None."""
        try:
            content, version = self._load(key)
        except NotFound:
            return None
        return version if content == body else None

    def _load(self, key: str, limit: int = MAX_LOAD) -> tuple[bytes, Version]:
        response = self._request("get_object", key, ChecksumMode="ENABLED")
        # Not `with response["Body"]`: it yields the raw stream, which checks no checksum.
        with closing(response["Body"]) as stream:
            if (size := response["ContentLength"]) > limit:
                raise too_large(f"{self.uri}/{key}", size, limit)
            return self._read_stream(key, stream), Version(response["ETag"])

    def _read_nothing(self, key: str) -> None:
        content, _ = self.load(key)
        if content:
            raise Damaged(f"{self.uri}/{key} has {len(content)} bytes instead of 0")

    def _read_range(self, key: str, into: memoryview, start: int, end: int) -> None:
        """Fill `into[start:end]`; after a broken connection, continue where it broke."""
        done = start

        def read(_: int) -> None:
            nonlocal done
            response = self._request("get_object", key, Range=f"bytes={done}-{end - 1}")
            size = int(response.get("ContentRange", "/0").rpartition("/")[2])
            if size != into.nbytes:
                raise Damaged(f"{self.uri}/{key} has {size} bytes instead of {into.nbytes}")
            with closing(response["Body"]) as stream:
                while done < end:
                    count = self._read_stream_into(key, stream, into[done : min(done + READ, end)])
                    if not count:
                        raise Transient(f"{self.uri}/{key} ended after {done} bytes")
                    done += count

        self._retry(read)

    def _copy(self, entry: Entry, target: str) -> None:
        bucket = self._address.bucket
        source = {"Bucket": bucket, "Key": self._address.key(entry.key)}
        if entry.size <= MAX_SINGLE_COPY:
            self._retry_request("copy_object", target, CopySource=source)
        else:
            self._retry_request("copy", target, CopySource=source)

    def _pages(self, prefix: str, **more: Any) -> Iterator[Any]:
        more["Prefix"] = self._address.key(prefix)
        while True:
            page = self._retry_request("list_objects_v2", "", **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more["ContinuationToken"] = page["NextContinuationToken"]

    def _retry(self, action: Callable[[int], T]) -> T:
        return self._retries.call(action, self._renew_client)

    def _retry_request(self, operation: str, key: str, **more: Any) -> Any:
        """Send a request that may be repeated."""
        return self._retry(lambda _: self._request(operation, key, **more))

    def _request(self, operation: str, key: str, **more: Any) -> Any:
        if key:
            more["Key"] = self._address.key(key)
        if isinstance(body := more.get("Body"), Body):
            body.seek(0)
        try:
            response = getattr(self._client, operation)(Bucket=self._address.bucket, **more)
        except BOTO_ERRORS as error:
            if operation in READS and may_be_missing(error) and self._is_missing(key):
                raise NotFound(f"{self.uri}/{key} does not exist") from error
            raise self._translate(error, operation, key) from error
        if missing := [name for name in REQUIRED_FIELDS.get(operation, ()) if name not in response]:
            raise Transient(f"{self.uri}/{key}: the response ended before its {missing[0]}")
        return response

    def _is_missing(self, key: str) -> bool:
        """Return True if a listing has no such object; False also if it is refused.

        S3 answers 403 instead of 404 for a missing object to who may not list the bucket, or only
        under conditions that a read does not meet.

        Raises:
            Transient: the listing may succeed later.
        """
        whole = self._address.key(key)
        try:
            page = self._request("list_objects_v2", "", Prefix=whole, MaxKeys=1)
        except Transient:
            raise
        except StorageError:
            return False
        # The key itself is the first of those that begin with it.
        return all(found["Key"] != whole for found in page.get("Contents", ()))

    def _read_stream(self, key: str, stream: Any, size: int | None = None) -> bytes:
        try:
            content: bytes = stream.read(size)
        except BOTO_ERRORS as error:
            raise self._translate(error, "get_object", key) from error
        return content

    def _read_stream_into(self, key: str, stream: Any, into: memoryview) -> int:
        try:
            count: int = stream.readinto(into)
        except BOTO_ERRORS as error:
            raise self._translate(error, "get_object", key) from error
        return count

    def _renew_client(self) -> None:
        """Create a new client, which asks the credential providers again."""
        with self._client_lock:
            self._client = self._new_client()

    def _new_client(self) -> Any:
        try:
            return self._client_factory()
        except (*BOTO_ERRORS, ValueError) as error:
            raise self._translate(error, "", "") from error

    def _translate(self, error: Exception, operation: str, key: str) -> StorageError:
        return translate_error(error, operation, self._address, key, self._options)
